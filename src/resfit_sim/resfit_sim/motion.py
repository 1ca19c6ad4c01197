"""Building blocks of the scripted experts: smooth paths at rest at both ends, and tremor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resfit_sim.kinematics import ArmKinematics

RATE_HZ = 20.0  # every number of steps of an expert counts at this rate
HAND_CLOSED_RAD = (-0.115, -0.788, -0.782, -0.728, -0.726, 1.155)
PALM_DOWN = np.diag([-1.0, -1.0, 1.0])  # hand forward, palm down: before any turning
APPROACH = np.array([0.204, -0.325, 0.924])  # where the right hand comes from and leaves to
MAX_STEP_RAD = 0.10  # per control step: 2.0 rad/s, below the slowest arm joint's 2.4
_TREMOR_HZ = (0.25, 1.5)


class Path:
    """Collects targets of one arm and its hand; each phase starts where the last one ended."""

    def __init__(self, arm: np.ndarray, hand: np.ndarray) -> None:
        """Start at a posture: arm (7,), hand (6,) [rad]."""
        self.arm, self.hand = np.array(arm), np.array(hand)
        self._arms: list[np.ndarray] = []
        self._hands: list[np.ndarray] = []

    @property
    def num_steps(self) -> int:
        """Control steps collected so far."""
        return sum(len(part) for part in self._arms)

    def go(self, steps: int, arm: Sequence[np.ndarray], hand: np.ndarray) -> None:
        """Run through evenly spaced arm waypoints, at rest at both ends.

        Takes `steps`, or as many more as the arm's speed limit needs.
        """
        points = np.stack(arm)
        knots = np.linspace(0, 1, len(arm)) if len(arm) > 1 else np.array([0.0])
        while True:
            share = minimum_jerk(np.arange(1, steps + 1) / steps)
            path = np.stack([np.interp(share, knots, points[:, j]) for j in range(7)], axis=1)
            if np.abs(np.diff(path, axis=0, prepend=points[:1])).max() <= MAX_STEP_RAD:
                break
            steps += 1
        self._arms.append(path)
        self._hands.append(self.hand + share[:, None] * (hand - self.hand))
        self.arm, self.hand = self._arms[-1][-1], self._hands[-1][-1]

    def wait(self, until: int) -> None:
        """Hold still until `until` steps are collected."""
        missing = until - self.num_steps
        if missing > 0:
            self.go(missing, [self.arm], self.hand)

    def snapshot(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return what `restore` needs to drop what was collected since."""
        return self.arm, self.hand, len(self._arms)

    def restore(self, snapshot: tuple[np.ndarray, np.ndarray, int]) -> None:
        """Go back to a snapshot."""
        self.arm, self.hand, count = snapshot
        del self._arms[count:], self._hands[count:]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return arm (n, 7) and hand (n, 6) targets [rad]."""
        return np.concatenate(self._arms), np.concatenate(self._hands)


def line(
    kinematics: ArmKinematics,
    start: np.ndarray,
    end: np.ndarray,
    rotation: np.ndarray,
    joints: np.ndarray,
) -> list[np.ndarray]:
    """Return arm joints at five points of a straight line of the grasp site.

    Raises:
        PlanFailed: If a point is out of reach.
    """
    points = [joints]
    for share in np.linspace(0, 1, 5)[1:]:
        points.append(kinematics.solve(start + share * (end - start), rotation, points[-1]))
    return points


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    """Return how far a movement is, from 0 to 1, after a share of its time."""
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def tremor(rng: np.random.Generator, steps: int, size: int, rms: float) -> np.ndarray:
    """Return slow noise of four random sines per joint. Shape: (steps, size) [rad]."""
    count = 4
    rate = rng.uniform(*_TREMOR_HZ, (count, 1, size))
    phase = rng.uniform(0, 2 * np.pi, (count, 1, size))
    time = np.arange(steps)[None, :, None] / RATE_HZ
    return rms * np.sqrt(2.0 / count) * np.sin(2 * np.pi * rate * time + phase).sum(axis=0)
