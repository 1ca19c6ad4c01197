"""Scripted expert for WoollyBallPnP: plans once from what is seen at the start, then plays.

Like a teleoperator it differs each time: how fast each phase goes, from where it approaches,
where on the ball it grasps, how high it carries, and a slow tremor of arm and hand.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit_core.base.protocol import BaseError, ChunkedBase, Images
from resfit_core.contract import ActionSpace, Contract
from resfit_sim.errors import PlanFailed
from resfit_sim.joints import (
    HEAD_SLICE,
    JOINT_NAMES,
    LEFT_ARM,
    LEFT_HAND,
    NUM_JOINTS,
    RIGHT_ARM,
    RIGHT_HAND,
)
from resfit_sim.kinematics import RightArmKinematics, rotation_rpy
from resfit_sim.model import load_model
from resfit_sim.tasks import make_task
from resfit_sim.tasks.woolly_ball_pnp import HAND_OPEN_RAD, HEAD_RAD, LEFT_TUCKED_RAD

HAND_CLOSED_RAD = (-0.115, -0.788, -0.782, -0.728, -0.726, 1.155)

_PALM_DOWN_LEFT = np.diag([-1.0, -1.0, 1.0])
_GRASP_RPY = (0.77, 0.157, 0.50)
_APPROACH = np.array([0.204, -0.325, 0.924])
_APPROACH_M = 0.12
_GRASP_SHIFT = np.array([0.0, -0.004, 0.0])  # towards the thumb: small balls slip out otherwise
_LIFT_M = 0.18
_DROP_ABOVE_TOTE_M = 0.20
_TREMOR_HZ = (0.25, 1.5)
_MAX_STEP_RAD = 0.10  # per control step: 2.0 rad/s, below the slowest arm joint's 2.4
_PLAN_ATTEMPTS = 8
_TASK = "woolly_ball_pnp"
_OBJECTS = ("ball", "tote")
_RATE_HZ = 20.0  # every number of steps below counts at this rate
_SOURCES = ("expert.py", "kinematics.py", "joints.py")

_LOG = logging.getLogger(__name__)


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


class Expert:
    """Picks the ball with the right hand and drops it into the tote.

    Sees object poses and joint positions at the start of an episode, nothing afterwards.
    """

    def __init__(
        self,
        kinematics: RightArmKinematics | None = None,
        variation: Variation | None = None,
    ) -> None:
        """Prepare the arm's kinematics.

        Args:
            kinematics: Shared solver; None loads the model of the task.
            variation: How strongly episodes differ.
        """
        self._kinematics = kinematics or RightArmKinematics(load_model(make_task(_TASK)))
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
        ease = _minimum_jerk(np.clip(np.arange(1, steps + 1) / _RATE_HZ, 0.0, 1.0))[:, None]
        for part, rest in (
            (LEFT_ARM, LEFT_TUCKED_RAD),
            (LEFT_HAND, HAND_OPEN_RAD),
            (HEAD_SLICE, HEAD_RAD),
        ):
            targets[:, part] = start[part] + ease * (np.asarray(rest) - start[part])
        vary = self._variation
        fade = ease  # the tremor grows from the measured pose, so the first target does not jump
        targets[:, RIGHT_ARM] = arm + fade * _tremor(rng, steps, 7, vary.tremor_rad)
        targets[:, RIGHT_HAND] = hand + fade * _tremor(rng, steps, 6, vary.finger_rad)
        self._targets = targets

    def act(self, step: int) -> np.ndarray:
        """Return the joint targets of control step `step`, from 0. Shape: (29,) [rad]."""
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
            @ _PALM_DOWN_LEFT
        )
        tilt = vary.approach_rad * rng.uniform(-1, 1, 2)
        away = rotation_rpy(tilt[0], tilt[1], 0.0) @ _APPROACH
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
        approach = self._line(grasp + _APPROACH_M * away, grasp, rotation, q_pre)
        raise_up = self._line(grasp, lift, rotation, approach[-1])
        carry = self._line(lift, drop, rotation, raise_up[-1])
        q_away = solve(drop + 0.10 * away, rotation, carry[-1])

        def steps(mean: float) -> int:
            return max(2, round(mean * float(np.exp(vary.timing * np.clip(rng.normal(), -2, 2)))))

        path = _Path(arm_start, hand_start)
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

    def _line(
        self, start: np.ndarray, end: np.ndarray, rotation: np.ndarray, joints: np.ndarray
    ) -> list[np.ndarray]:
        """Return arm joints at five points of a straight line of the grasp site."""
        points = [joints]
        for share in np.linspace(0, 1, 5)[1:]:
            points.append(
                self._kinematics.solve(start + share * (end - start), rotation, points[-1])
            )
        return points


class ExpertBase(ChunkedBase):
    """The expert in the base policy's place, to record demonstrations through the topics.

    Its one chunk is the whole episode. It plans from the first observation after `reset`, and sees
    nothing afterwards. A scene that the arm cannot reach is held still, with a warning: the
    episode then ends as a time-out, which no demonstration is.
    """

    def __init__(self, contract: Contract, kinematics: RightArmKinematics | None = None) -> None:
        """Check that the expert can serve the contract, and prepare the arm's kinematics.

        Args:
            contract: Of this expert's task, at its rate, with object positions.
            kinematics: Shared solver; None loads the model of the task.

        Raises:
            BaseError: The contract is another one.
        """
        _check_contract(contract)
        super().__init__(
            self._play,
            contract.horizon_steps + 1,  # the observation after the last step is answered too
            ActionSpace.from_limits(contract),
            _identity(),
            contract.sha256,
        )
        self._expert = Expert(kinematics)
        self._joints = contract.layout["joint_position"]
        self._objects = contract.layout["object_position"]
        self._object_order = [contract.objects.index(name) for name in _OBJECTS]
        self._to_ours = np.array([contract.joint_names.index(name) for name in JOINT_NAMES])
        self._to_contract = np.argsort(self._to_ours)
        self._seed = 0

    def reset(self, seed: int | None = None) -> None:
        """Drop the plan. The scene's seed gives the variation; None counts as 0."""
        super().reset(seed)
        self._seed = 0 if seed is None else seed

    def _play(self, observation: np.ndarray, images: Images | None) -> np.ndarray:
        """Return the whole episode, its last target held. Shape: (chunk_length, 29)."""
        del images
        measured = np.asarray(observation[self._joints], np.float64)
        objects = np.asarray(observation[self._objects], np.float64).reshape(-1, 3)
        # The seed alone drew the scene; a demonstrator's hand must not follow from it.
        rng = np.random.default_rng([self._seed, 1])
        try:
            self._expert.reset(objects[self._object_order], measured[self._to_ours], rng)
        except PlanFailed as error:
            _LOG.warning("expert holds still in the scene of seed %d: %s", self._seed, error)
            return self.action_space.to_norm(np.tile(measured, (self.chunk_length, 1)))
        plan = np.stack([self._expert.act(step) for step in range(self.chunk_length)])
        return self.action_space.to_norm(plan[:, self._to_contract])


def _check_contract(contract: Contract) -> None:
    if contract.task != _TASK:
        raise BaseError(f"the scripted expert plays task '{_TASK}', not '{contract.task}'")
    if contract.control_rate_hz != _RATE_HZ:
        raise BaseError(
            f"the scripted expert plays at {_RATE_HZ:g} Hz, control_rate_hz is "
            f"{contract.control_rate_hz:g}"
        )
    for what, needed, given in (
        ("field", ("joint_position", "object_position"), contract.fields),
        ("object", _OBJECTS, contract.objects),
        ("joint", JOINT_NAMES, contract.joint_names),
    ):
        for name in needed:
            if name not in given:
                raise BaseError(
                    f"the scripted expert needs {what} '{name}', which the contract's variant "
                    f"'{contract.variant}' lacks; record demonstrations with observation:=state"
                )


def _identity() -> str:
    """Return a hash of what makes the expert act as it does: its source."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


class _Path:
    """Collects targets; each phase starts where the last one ended."""

    def __init__(self, arm: np.ndarray, hand: np.ndarray) -> None:
        self.arm, self.hand = np.array(arm), np.array(hand)
        self._arms: list[np.ndarray] = []
        self._hands: list[np.ndarray] = []

    def go(self, steps: int, arm: list[np.ndarray], hand: np.ndarray) -> None:
        """Run through evenly spaced arm waypoints, at rest at both ends.

        Takes `steps`, or as many more as the arm's speed limit needs.
        """
        points = np.stack(arm)
        knots = np.linspace(0, 1, len(arm)) if len(arm) > 1 else np.array([0.0])
        while True:
            share = _minimum_jerk(np.arange(1, steps + 1) / steps)
            path = np.stack([np.interp(share, knots, points[:, j]) for j in range(7)], axis=1)
            if np.abs(np.diff(path, axis=0, prepend=points[:1])).max() <= _MAX_STEP_RAD:
                break
            steps += 1
        self._arms.append(path)
        self._hands.append(self.hand + share[:, None] * (hand - self.hand))
        self.arm, self.hand = self._arms[-1][-1], self._hands[-1][-1]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(self._arms), np.concatenate(self._hands)


def _minimum_jerk(share: np.ndarray) -> np.ndarray:
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def _tremor(rng: np.random.Generator, steps: int, size: int, rms: float) -> np.ndarray:
    """Return slow noise of four random sines per joint. Shape: (steps, size) [rad]."""
    count = 4
    rate = rng.uniform(*_TREMOR_HZ, (count, 1, size))
    phase = rng.uniform(0, 2 * np.pi, (count, 1, size))
    time = np.arange(steps)[None, :, None] / _RATE_HZ
    return rms * np.sqrt(2.0 / count) * np.sin(2 * np.pi * rate * time + phase).sum(axis=0)
