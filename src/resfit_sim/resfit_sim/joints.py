"""Names of Vega's 29 commanded joints, in the order of every action vector."""

from __future__ import annotations

ARM = tuple(f"arm_j{i}" for i in range(1, 8))
HAND = ("th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1", "th_j0")


def _side(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{name}" for name in (*ARM, *HAND))


HEAD = ("head_j1", "head_j2", "head_j3")
JOINT_NAMES: tuple[str, ...] = (*_side("L"), *_side("R"), *HEAD)
NUM_JOINTS = len(JOINT_NAMES)

LEFT_ARM = slice(0, 7)
LEFT_HAND = slice(7, 13)
RIGHT_ARM = slice(13, 20)
RIGHT_HAND = slice(20, 26)
HEAD_SLICE = slice(26, 29)
