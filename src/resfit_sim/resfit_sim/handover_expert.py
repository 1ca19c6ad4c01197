"""Scripted expert for PackageHandover: takes the package, hands it over, puts it into the tote.

It looks three times, as a person does: before it starts, when the package hangs still between
the hands, and when the left hand alone holds it. Between two looks it plays a plan. Like a
teleoperator it differs each time; see `Variation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from resfit_sim.errors import PlanFailed
from resfit_sim.joints import HEAD_SLICE, LEFT_ARM, LEFT_HAND, NUM_JOINTS, RIGHT_ARM, RIGHT_HAND
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
from resfit_sim.tasks.woolly_ball_pnp import HAND_OPEN_RAD, HEAD_RAD

# Everything of the right hand; the left one does its mirror image.
_GRASP_RPY = (0.77, 0.157, 0.30)
_GRASP_SHIFT = np.array([0.0, -0.004, 0.0])
_MIRROR = np.diag([1.0, -1.0, 1.0])
_APPROACH_M = 0.12
_LIFT_M = 0.10
_MEET_M = np.array([0.45, -0.07, 0.95])  # where the right hand brings the package's right end
_HANGS_M = np.array([0.03, 0.13, -0.04])  # from there to the left end, about
_READY_M = 0.16  # the left hand waits so far off
# How the left hand turns with the package's turn [rad], about the turn it usually has.
_TURN_GAIN, _USUAL_TURN_RAD, _MOST_TURN_RAD = 0.8, 0.1, 0.5
_DROP_ABOVE_TOTE_M = 0.16
_OVER_M = 0.08
_PLAN_ATTEMPTS = 8


@dataclass(frozen=True)
class Variation:
    """How strongly episodes differ; zero everywhere gives the same motion for the same scene.

    Attributes:
        timing: Standard deviation of the logarithm of each phase's duration.
        grasp_m: Standard deviation of a grasp's place, per axis, cut at two.
        turn_rad: Half range of a hand's roll and yaw.
        approach_rad: Half range of the approach direction's tilt, per axis.
        meet_m: Half range of the place where the hands meet, per axis.
        drop_m: Half range of the drop place in the tote, per axis.
        tremor_rad: Root mean square of the tremor per arm joint.
        finger_rad: Root mean square of the tremor and standard deviation of the grip per finger.
    """

    timing: float = 0.12
    grasp_m: float = 0.003
    turn_rad: float = 0.08
    approach_rad: float = 0.10
    meet_m: float = 0.02
    drop_m: float = 0.015
    tremor_rad: float = 0.0035
    finger_rad: float = 0.012


@dataclass(frozen=True)
class _Hold:
    """A hand's grasp: place of its site [m], rotation, direction it came from."""

    place: np.ndarray
    rotation: np.ndarray
    away: np.ndarray


class HandoverExpert:
    """Takes the package's right end, gives its left end to the left hand, which drops it."""

    task: ClassVar[str] = "package_handover"
    objects: ClassVar[tuple[str, ...]] = ("package_right", "package_left", "tote")

    def __init__(self, model: mujoco.MjModel, variation: Variation | None = None) -> None:
        """Prepare both arms' kinematics.

        Args:
            model: Compiled model with the robot.
            variation: How strongly episodes differ.
        """
        self._right, self._left = (ArmKinematics(model, side) for side in ("right", "left"))
        self._variation = variation or Variation()
        self._targets = np.zeros((1, NUM_JOINTS))

    def reset(
        self, object_poses: np.ndarray, joint_position: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Plan up to the meeting place; see `resfit_sim.expert.Expert`.

        Raises:
            PlanFailed: An arm cannot reach; e.g. the package lies off the table.
        """
        self._rng = rng
        start = self._start = np.asarray(joint_position, np.float64)
        self._paths = (
            Path(start[RIGHT_ARM], start[RIGHT_HAND]),
            Path(start[LEFT_ARM], start[LEFT_HAND]),
        )
        self._stages = [self._take, self._hand_over, self._put]
        # The same seed's tremor goes on from plan to plan.
        self._tremor_seed = int(rng.integers(2**31))
        self._plan(object_poses)

    def act(self, step: int, object_poses: np.ndarray) -> np.ndarray:
        """Return the joint targets of control step `step`, from 0. Shape: (29,) [rad].

        Raises:
            PlanFailed: The next plan, from these poses, is out of reach.
        """
        if step >= len(self._targets) and self._stages:
            self._plan(object_poses)
        return self._targets[min(max(step, 0), len(self._targets) - 1)].copy()

    def _plan(self, object_poses: np.ndarray) -> None:
        """Append the next stage; other draws of the variation where one is out of reach."""
        places = np.asarray(object_poses, np.float64)[:3, :3]
        stage = self._stages.pop(0)
        before = [path.snapshot() for path in self._paths]
        for attempt in range(_PLAN_ATTEMPTS):
            try:
                stage(*places)
                break
            except PlanFailed:
                for path, snapshot in zip(self._paths, before, strict=True):
                    path.restore(snapshot)
                if attempt == _PLAN_ATTEMPTS - 1:
                    raise
        steps = max(path.num_steps for path in self._paths)
        for path in self._paths:
            path.wait(steps)
        targets = np.empty((steps, NUM_JOINTS))
        # The tremor grows from the measured pose, so the first target does not jump.
        ease = minimum_jerk(np.clip(np.arange(1, steps + 1) / RATE_HZ, 0.0, 1.0))[:, None]
        head = self._start[HEAD_SLICE]
        targets[:, HEAD_SLICE] = head + ease * (np.asarray(HEAD_RAD) - head)
        rng, vary = np.random.default_rng(self._tremor_seed), self._variation
        for path, arm, hand in zip(
            self._paths, (RIGHT_ARM, LEFT_ARM), (RIGHT_HAND, LEFT_HAND), strict=True
        ):
            arms, hands = path.result()
            targets[:, arm] = arms + ease * tremor(rng, steps, 7, vary.tremor_rad)
            targets[:, hand] = hands + ease * tremor(rng, steps, 6, vary.finger_rad)
        self._targets = targets

    # --- the three stages; places are those of the package's two ends and of the tote [m] --------

    def _take(self, right_end: np.ndarray, left_end: np.ndarray, tote: np.ndarray) -> None:
        """Right hand: grasp, lift, bring to the meeting place. Left hand: get ready there."""
        del tote
        rotation, away = self._pose(_turn(left_end - right_end))
        grasp = right_end + self._scatter() + rotation @ _GRASP_SHIFT
        meet = _MEET_M + self._variation.meet_m * self._rng.uniform(-1, 1, 3)
        opened, closed = self._fists()
        path, arm = self._paths[0], self._right
        pre = arm.solve(grasp + _APPROACH_M * away, rotation, path.arm)
        approach = line(arm, grasp + _APPROACH_M * away, grasp, rotation, pre)
        lift = line(arm, grasp, grasp + (0, 0, _LIFT_M), rotation, approach[-1])
        carry = line(arm, grasp + (0, 0, _LIFT_M), meet, rotation, lift[-1])
        path.go(self._steps(17), [path.arm, pre], opened)
        path.go(self._steps(13), approach, opened)
        path.go(self._steps(3), [path.arm], opened)
        path.go(self._steps(12), [path.arm], closed)
        path.go(self._steps(20), lift + carry[1:], closed)
        path.go(self._steps(5), [path.arm], closed)
        self._held_right = _Hold(meet, rotation, away)

        other = self._paths[1]
        rotation = _mirrored(self._pose(0.0)[0])
        ready = meet + _HANGS_M + _READY_M * (_MIRROR @ APPROACH)
        steps = self._steps(20)
        other.wait(path.num_steps - steps - 3)
        other.go(
            steps, [other.arm, self._left.solve(ready, rotation, other.arm)], np.array(opened)
        )

    def _hand_over(self, right_end: np.ndarray, left_end: np.ndarray, tote: np.ndarray) -> None:
        """Left hand: grasp the package's left end. Right hand: let go and leave."""
        del tote
        turn = _TURN_GAIN * (_turn(left_end - right_end) - _USUAL_TURN_RAD)
        pose = self._pose(-float(np.clip(turn, -_MOST_TURN_RAD, _MOST_TURN_RAD)))
        rotation, away = _mirrored(pose[0]), _MIRROR @ pose[1]
        grasp = left_end + self._scatter() + rotation @ _MIRROR @ _GRASP_SHIFT
        opened, closed = self._fists()
        path, arm = self._paths[1], self._left
        pre = arm.solve(grasp + 0.10 * away, rotation, path.arm)
        approach = line(arm, grasp + 0.10 * away, grasp, rotation, pre)
        path.go(self._steps(6), [path.arm, pre], opened)
        path.go(self._steps(13), approach, opened)
        path.go(self._steps(3), [path.arm], opened)
        path.go(self._steps(12), [path.arm], closed)
        self._held_left = _Hold(grasp, rotation, away)

        other, held = self._paths[0], self._held_right
        gone = self._right.solve(held.place + _APPROACH_M * held.away, held.rotation, other.arm)
        other.wait(path.num_steps - 1)
        other.go(self._steps(7), [other.arm], opened)
        other.go(self._steps(9), [other.arm, gone], opened)

    def _put(self, right_end: np.ndarray, left_end: np.ndarray, tote: np.ndarray) -> None:
        """Left hand: carry the package's middle over the tote, lower it, let go, leave."""
        drop_m = self._variation.drop_m * self._rng.uniform(-1, 1, 2)
        held, path, arm = self._held_left, self._paths[1], self._left
        # From the package's middle to the hand's site: the package is longer than the hand.
        offset = held.place - (left_end + right_end) / 2
        drop = tote + (*(drop_m + offset[:2]), _DROP_ABOVE_TOTE_M)
        over = drop + (0, 0, _OVER_M)
        carry = line(arm, held.place, over, held.rotation, path.arm)
        down = line(arm, over, drop, held.rotation, carry[-1])
        gone = arm.solve(drop + 0.10 * held.away, held.rotation, down[-1])
        opened = np.asarray(HAND_OPEN_RAD)
        path.go(self._steps(24), carry + down[1:], path.hand)
        path.go(self._steps(3), [path.arm], path.hand)
        path.go(self._steps(7), [path.arm], opened)
        path.go(self._steps(9), [path.arm, gone], opened)
        path.go(8, [path.arm], opened)

    # --- draws of the variation ------------------------------------------------------------------

    def _pose(self, yaw: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the right hand's rotation and the direction it comes from."""
        vary, rng = self._variation, self._rng
        roll, pitch, usual = _GRASP_RPY
        spread = vary.turn_rad * rng.uniform(-1, 1, 2)
        rotation = rotation_rpy(roll + spread[0], pitch, usual + yaw + spread[1]) @ PALM_DOWN
        tilt = vary.approach_rad * rng.uniform(-1, 1, 2)
        return rotation, rotation_rpy(tilt[0], tilt[1], 0.0) @ APPROACH

    def _scatter(self) -> np.ndarray:
        return self._variation.grasp_m * np.clip(self._rng.normal(size=3), -2, 2)

    def _fists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the open and the closed hand (6,) [rad]."""
        closed = np.asarray(HAND_CLOSED_RAD) + self._variation.finger_rad * self._rng.normal(
            size=6
        )
        return np.asarray(HAND_OPEN_RAD), closed

    def _steps(self, mean: float) -> int:
        spread = self._variation.timing * np.clip(self._rng.normal(), -2, 2)
        return max(2, round(mean * float(np.exp(spread))))


def _turn(along: np.ndarray) -> float:
    """Return how far the package is turned about z from lying along y [rad]."""
    return float(np.arctan2(-along[0], along[1]))


def _mirrored(rotation: np.ndarray) -> np.ndarray:
    return _MIRROR @ rotation @ _MIRROR
