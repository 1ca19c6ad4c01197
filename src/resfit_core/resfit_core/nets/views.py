"""What actor and critic see of an observation and an action.

Two views. `RawView`: the vectors as they are. `TaskSpaceView`: the action through the hand's
forward kinematics, as the vector from the *commanded* grasp site to each object. A critic over 29
raw joint targets has far more directions to be wrong in than a few hundred episodes can correct,
and the actor finds them at once; over "where will the hand be, seen from the ball" it has few.
Measured effect: docs/method.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Chain, Contract
from resfit_core.control.kinematics import rotation_rpy

# Distances pass through asinh: linear below a centimetre, where a grasp is won or lost, and
# logarithmic above, where only the direction matters.
FINE_M = 0.01
ASINH_SCALE = 1 / 3


class RawView(nn.Module):
    """Observation and action as they are."""

    def __init__(self, obs_dim: int, act_dim: int) -> None:
        """Keep the sizes."""
        super().__init__()
        self.critic_obs_dim = self.actor_obs_dim = obs_dim
        self.critic_act_dim = act_dim
        self.base_columns: Tensor | None = None  # of the base's action, those that the actor sees

    def anchor(self, raw: Tensor) -> Tensor:
        """Return what `critic_action` needs of the raw observation: nothing. Shape (batch, 0)."""
        return raw[:, :0]

    def critic_observation(self, z: Tensor, raw: Tensor) -> Tensor:
        """Return the critic's part of the observation. Shape (batch, critic_obs_dim)."""
        return z

    def critic_action(self, anchor: Tensor, action: Tensor) -> Tensor:
        """Return the critic's form of an action. Shape (batch, critic_act_dim)."""
        return action

    def actor_observation(self, z: Tensor, raw: Tensor, base_action: Tensor) -> Tensor:
        """Return the actor's part of the observation. Shape (batch, actor_obs_dim)."""
        return z


class TorchKinematics(nn.Module):
    """`ForwardKinematics` in torch: batched, differentiable. A test feeds both the same poses."""

    def __init__(self, chain: Chain, joint_names: Sequence[str]) -> None:
        """Prepare the fixed transforms of the chain."""
        super().__init__()
        links = len(chain.links)
        skews = np.zeros((links, 3, 3))
        for i, link in enumerate(chain.links):
            if link.joint:
                x, y, z = link.axis
                skews[i] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]

        def constant(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        # A fixed link turns by no angle: its skew matrix is zero, so any joint will do.
        joints = [joint_names.index(k.joint) if k.joint else 0 for k in chain.links]
        constant("joints", torch.tensor(joints, dtype=torch.int64))
        origins = torch.tensor([k.xyz for k in chain.links], dtype=torch.float32)
        constant("origins", origins[:, :, None])
        turns = np.stack([rotation_rpy(k.rpy) for k in chain.links])
        constant("turns", torch.tensor(turns, dtype=torch.float32))
        constant("sines", torch.tensor(turns @ skews, dtype=torch.float32))
        constant("versines", torch.tensor(turns @ skews @ skews, dtype=torch.float32))

    def forward(self, joint_position: Tensor) -> Tensor:
        """Return the tip's position [m]. Shape (batch, action_dim) to (batch, 3)."""
        angle = joint_position[:, self.joints, None, None]
        # Rodrigues' formula, each link's fixed turn multiplied in beforehand.
        turn = self.turns + torch.sin(angle) * self.sines + (1 - torch.cos(angle)) * self.versines
        # From the tip to the shoulder: products of a matrix and a vector only. The update's time
        # goes into the number of operations, not into arithmetic.
        links = turn.unbind(1)
        tip = self.origins[-1].expand(len(turn), 3, 1)
        for link in range(len(links) - 2, -1, -1):
            tip = torch.baddbmm(self.origins[link], links[link], tip)
        return tip.squeeze(-1)


class TaskSpaceView(nn.Module):
    """The hands' places as seen from the objects, instead of the arms' joint angles.

    One hand or several, as the task names them. The critic sees: positions of the joints that the
    residual moves but that are no part of an arm's chain (the fingers), wrenches, objects, hands
    to objects; and of the action the targets of those same joints and the commanded hands to
    objects. The actor sees the whole observation, and where the base's action will bring the
    hands.
    """

    def __init__(
        self,
        contract: Contract,
        space: ActionSpace,
        scale: np.ndarray,
        last_action: bool = False,
        unseen: Sequence[str] = (),
        lean: bool = False,
    ) -> None:
        """Prepare for one robot, task, base and residual scale.

        Args:
            contract: its task names a `hand`, and `object_position` and `hand_to_object` are
                observed.
            space: the base's action ranges [rad].
            scale: reach of the residual per joint. Shape (action_dim,).
            last_action: the observation ends in the action executed last; the critic sees that of
                the joints that the residual moves.
            unseen: fields that the critic does not see.
            lean: nor does the actor, nor the joints that the residual does not move, nor what the
                base does with those.

        Raises:
            ValueError: the contract has no hand or lacks one of the two fields.
        """
        super().__init__()
        layout = contract.layout
        missing = [n for n in ("object_position", "hand_to_object") if n not in layout]
        if not contract.hands or missing:
            raise ValueError(
                f"critic_view is 'task_space', but task '{contract.task}' ({contract.variant}) "
                f"lacks {missing or 'hand'}; name it in the task's YAML or set critic_view: raw"
            )
        self.kinematics = nn.ModuleList(
            TorchKinematics(hand, contract.joint_names) for hand in contract.hands
        )
        self._objects, self._hand = layout["object_position"], layout["hand_to_object"]
        chain = {link.joint for hand in contract.hands for link in hand.links}
        moved = [
            i
            for i, name in enumerate(contract.joint_names)
            if name not in chain and float(scale[i]) > 0
        ]
        seen = [layout["joint_position"].start + i for i in moved]
        for name, where in layout.items():
            if name not in ("joint_position", "joint_velocity", "hand_to_object", *unseen):
                seen += range(where.start, where.stop)
        added = contract.action_dim if last_action else 0
        seen += [contract.obs_dim + i for i in range(added) if float(scale[i]) > 0]

        def constant(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        constant("moved", torch.tensor(moved, dtype=torch.int64))
        constant("seen", torch.tensor(seen, dtype=torch.int64))
        constant("low", torch.from_numpy(space.low.astype(np.float32)))
        constant("reach", torch.from_numpy(((space.high - space.low) / 2).astype(np.float32)))
        distances = self._hand.stop - self._hand.start
        self.base_columns = None
        live = torch.tensor([i for i in range(contract.action_dim) if float(scale[i]) > 0])
        of_actor = list(range(contract.obs_dim + added))
        if lean:  # joints that only differ from episode to episode are a fingerprint of it
            self.base_columns = live
            of_actor = [layout["joint_position"].start + int(i) for i in live]
            for name, where in layout.items():
                if name not in ("joint_position", "joint_velocity", *unseen):
                    of_actor += range(where.start, where.stop)
            of_actor += [contract.obs_dim + int(i) for i in live if added]
        constant("of_actor", torch.tensor(of_actor, dtype=torch.int64))
        self.critic_obs_dim = len(seen) + distances
        self.critic_act_dim = len(moved) + distances
        self.actor_obs_dim = len(of_actor) + 2 * distances

    def anchor(self, raw: Tensor) -> Tensor:
        """Return the objects' positions [m]. Shape (batch, 3 * objects)."""
        return raw[:, self._objects]

    def critic_observation(self, z: Tensor, raw: Tensor) -> Tensor:
        """Return the critic's part of the observation. Shape (batch, critic_obs_dim)."""
        return torch.cat((z[:, self.seen], _fine(raw[:, self._hand])), 1)

    def critic_action(self, anchor: Tensor, action: Tensor) -> Tensor:
        """Return the critic's form of an action; differentiable. Shape (batch, critic_act_dim)."""
        return torch.cat((action[:, self.moved], self._to_objects(anchor, action)), 1)

    def actor_observation(self, z: Tensor, raw: Tensor, base_action: Tensor) -> Tensor:
        """Return the actor's part of the observation. Shape (batch, actor_obs_dim)."""
        to_objects = self._to_objects(raw[:, self._objects], base_action)
        return torch.cat((z[:, self.of_actor], to_objects, _fine(raw[:, self._hand])), 1)

    def _to_objects(self, objects: Tensor, action: Tensor) -> Tensor:
        """Return commanded hands to objects, in the order of `hand_to_object`."""
        target = self.low + (action + 1) * self.reach
        tips = [
            kinematics(target).repeat(1, objects.shape[1] // 3) for kinematics in self.kinematics
        ]
        return _fine(objects.repeat(1, len(tips)) - torch.cat(tips, 1))


View = RawView | TaskSpaceView

# Fields that the critic does not see, by the kind of view.
_UNSEEN = {
    "task_space": (),
    "relative_wrench": ("object_position",),
    "relative": ("object_position", "wrench"),
    "lean": ("object_position", "wrench"),
}


def make_view(
    kind: str,
    contract: Contract,
    space: ActionSpace,
    scale: np.ndarray,
    last_action: bool = False,
) -> View:
    """Build the view that `critic_view` names: `raw` or `task_space`.

    Args:
        kind: the setting `critic_view`. Relative views leave the objects' absolute places out:
            what was learned at one place holds at another.
        contract: robot and task.
        space: the base's action ranges [rad].
        scale: reach of the residual per joint. Shape (action_dim,).
        last_action: the setting `observe_last_action`.
    """
    if kind in _UNSEEN:
        return TaskSpaceView(
            contract, space, scale, last_action, _UNSEEN[kind], lean=kind == "lean"
        )
    added = contract.action_dim if last_action else 0
    return RawView(contract.obs_dim + added, contract.action_dim)


def _fine(distance: Tensor) -> Tensor:
    return torch.asinh(distance / FINE_M) * ASINH_SCALE
