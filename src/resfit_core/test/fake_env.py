"""A robot that does what it is told, and a task done when its first joint is far enough."""

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase


class Measured:
    """Sensors of the fake robot."""

    def __init__(self, position, poses):
        self.joint_position = position
        self.joint_velocity = np.zeros_like(position)
        self.wrenches = np.zeros((2, 6))
        self.object_poses = poses


class FakeEnv:
    """Joints follow at once; success when the first joint passes a goal drawn by the seed."""

    def __init__(self, contract):
        self.joints, self.objects = contract.action_dim, len(contract.objects)
        self.targets = []

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.position = np.zeros(self.joints)
        self.goal = rng.uniform(0.1, 2.0)
        self.poses = rng.normal(size=(self.objects, 7))
        self.targets = []

    def step(self, target_rad):
        self.targets.append(target_rad.copy())
        self.position = target_rad.copy()

    def sensors(self):
        return Measured(self.position, self.poses)

    @property
    def success(self):
        return self.position[0] > self.goal


class Pushing(ChunkedBase):
    """Pushes the first joint on by .2 rad per step, up to 1 rad."""

    def __init__(self, contract):
        space = ActionSpace.from_limits(contract)

        def plan(observation, images):
            del images
            start = float(observation[contract.layout["joint_position"]][0])
            rad = np.zeros((5, contract.action_dim))
            rad[:, 0] = np.minimum(start + 0.2 * np.arange(1, 6), 1.0)
            return space.to_norm(rad)

        super().__init__(plan, 5, space, "f" * 64, contract.sha256)
