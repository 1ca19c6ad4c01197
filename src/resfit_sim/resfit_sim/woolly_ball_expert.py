"""Scripted expert for WoollyBallPnP: plans once from what is seen at the start, then plays.

Like a teleoperator it differs each time: how fast each phase goes, from where it approaches,
where on the ball it grasps, how high it carries, and a slow tremor of arm and hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from resfit_sim.errors import PlanFailed
from resfit_sim.joints import (
    HEAD_SLICE,
    LEFT_ARM,
    LEFT_HAND,
    NUM_JOINTS,
    RIGHT_ARM,
    RIGHT_HAND,
)
from resfit_sim.kinematics import ArmKinematics, rotation_rpy
from resfit_sim.motion import (
    APPROACH,
    HAND_CLOSED_RAD,
    PALM_DOWN,
    RATE_HZ,
    Path,
    line,
    minimum_jerk,
    tremor,
)
from resfit_sim.tasks.woolly_ball_pnp import HAND_OPEN_RAD, HEAD_RAD, LEFT_TUCKED_RAD

_GRASP_RPY = (0.77, 0.157, 0.50)
_APPROACH_M = 0.12
_GRASP_SHIFT = np.array([0.0, -0.004, 0.0])  # towards the thumb: small balls slip out otherwise
_LIFT_M = 0.18
_DROP_ABOVE_TOTE_M = 0.20
_PLAN_ATTEMPTS = 8


@dataclass(frozen=True)
class Variation:
    """How strongly episodes differ; zero everywhere gives the same motion for the same scene.

    Attributes:
        timing: Standard deviation of the logarithm of each phase's duration.
        grasp_m: Standard deviation of the grasp's place, per axis, cut at two.
        turn_rad: Half range of the hand's roll and yaw.
        approach_rad: Half range of the approach direction's tilt, per axis.
        lift_m: Half range of the carrying height.
        drop_m: Half range of the drop place in the tote, per axis.
        tremor_rad: Root mean square of the tremor per arm joint.
        finger_rad: Root mean square of the tremor and standard deviation of the grip per finger.
    """

    timing: float = 0.12
    grasp_m: float = 0.003
    turn_rad: float = 0.10
    approach_rad: float = 0.12
    lift_m: float = 0.025
    drop_m: float = 0.02
    tremor_rad: float = 0.0035
    finger_rad: float = 0.012


class WoollyBallExpert:
    """Picks the ball with the right hand and drops it into the tote.

    Sees object poses and joint positions at the start of an episode, nothing afterwards.
    """

    task: ClassVar[str] = "woolly_ball_pnp"
    objects: ClassVar[tuple[str, ...]] = ("ball", "tote")

    def __init__(self, model: mujoco.MjModel, variation: Variation | None = None) -> None:
        """Prepare the arm's kinematics.

        Args:
            model: Compiled model with the robot.
            variation: How strongly episodes differ.
        """
        self._kinematics = ArmKinematics(model)
        self._variation = variation or Variation()
        self._targets = np.zeros((1, NUM_JOINTS))

    @property
    def num_steps(self) -> int:
        """Control steps of the plan; `act` holds its last target afterwards."""
        return len(self._targets)

    def reset(
        self, object_poses: np.ndarray, joint_position: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Plan the episode.

        Args:
            object_poses: Ball then tote; xyz, what follows is not read. Shape: (2, 3 or more) [m].
            joint_position: Measured at the start, order of `JOINT_NAMES`. Shape: (29,) [rad].
            rng: Drives all variation.

        Raises:
            PlanFailed: If the arm cannot reach; e.g. the ball lies off the table.
        """
        ball, tote = (np.asarray(pose[:3], np.float64) for pose in object_poses[:2])
        start = np.asarray(joint_position, np.float64)
        for attempt in range(_PLAN_ATTEMPTS):
            try:
                arm, hand = self._plan(
                    ball, tote, start[RIGHT_ARM], start[RIGHT_HAND], rng, 1.0 + 0.5 * attempt
                )
                break
            except PlanFailed:
                if attempt == _PLAN_ATTEMPTS - 1:
                    raise
        steps = len(arm)
        targets = np.empty((steps, NUM_JOINTS))
        ease = minimum_jerk(np.clip(np.arange(1, steps + 1) / RATE_HZ, 0.0, 1.0))[:, None]
        for part, rest in (
            (LEFT_ARM, LEFT_TUCKED_RAD),
            (LEFT_HAND, HAND_OPEN_RAD),
            (HEAD_SLICE, HEAD_RAD),
        ):
            targets[:, part] = start[part] + ease * (np.asarray(rest) - start[part])
        vary = self._variation
        fade = ease  # the tremor grows from the measured pose, so the first target does not jump
        targets[:, RIGHT_ARM] = arm + fade * tremor(rng, steps, 7, vary.tremor_rad)
        targets[:, RIGHT_HAND] = hand + fade * tremor(rng, steps, 6, vary.finger_rad)
        self._targets = targets

    def act(self, step: int, object_poses: np.ndarray) -> np.ndarray:
        """Return the joint targets of control step `step`, from 0. Shape: (29,) [rad]."""
        del object_poses
        return self._targets[min(max(step, 0), len(self._targets) - 1)].copy()

    def _plan(
        self,
        ball: np.ndarray,
        tote: np.ndarray,
        arm_start: np.ndarray,
        hand_start: np.ndarray,
        rng: np.random.Generator,
        widen: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return arm (n, 7) and hand (n, 6) targets [rad]; `widen` scales the hand's turning."""
        vary = self._variation
        turn = vary.turn_rad * widen
        roll, pitch, yaw = _GRASP_RPY
        rotation = (
            rotation_rpy(
                roll + turn * rng.uniform(-1, 1),
                pitch,
                yaw + turn * rng.uniform(-1, 1),
            )
            @ PALM_DOWN
        )
        tilt = vary.approach_rad * rng.uniform(-1, 1, 2)
        away = rotation_rpy(tilt[0], tilt[1], 0.0) @ APPROACH
        offset = vary.grasp_m * np.clip(rng.normal(size=3), -2, 2)
        grasp = ball + offset + rotation @ _GRASP_SHIFT
        lift = grasp + np.array([0, 0, _LIFT_M + vary.lift_m * rng.uniform(-1, 1)])
        drop = tote + np.array(
            [
                *(vary.drop_m * rng.uniform(-1, 1, 2)),
                _DROP_ABOVE_TOTE_M + vary.lift_m * rng.uniform(-0.4, 1),
            ]
        )
        hand_open = np.asarray(HAND_OPEN_RAD)
        hand_closed = np.asarray(HAND_CLOSED_RAD) + vary.finger_rad * rng.normal(size=6)

        solve = self._kinematics.solve
        q_pre = solve(grasp + _APPROACH_M * away, rotation, arm_start)
        approach = line(self._kinematics, grasp + _APPROACH_M * away, grasp, rotation, q_pre)
        raise_up = line(self._kinematics, grasp, lift, rotation, approach[-1])
        carry = line(self._kinematics, lift, drop, rotation, raise_up[-1])
        q_away = solve(drop + 0.10 * away, rotation, carry[-1])

        def steps(mean: float) -> int:
            return max(2, round(mean * float(np.exp(vary.timing * np.clip(rng.normal(), -2, 2)))))

        path = Path(arm_start, hand_start)
        path.go(steps(17), [path.arm, q_pre], hand_open)
        path.go(steps(13), approach, hand_open)
        path.go(steps(3), [path.arm], hand_open)
        path.go(steps(12), [path.arm], hand_closed)
        path.go(steps(11), raise_up, hand_closed)
        path.go(steps(25), carry, hand_closed)
        path.go(steps(3), [path.arm], hand_closed)
        path.go(steps(7), [path.arm], hand_open)
        path.go(steps(9), [path.arm, q_away], hand_open)
        path.go(8, [path.arm], hand_open)
        return path.result()
