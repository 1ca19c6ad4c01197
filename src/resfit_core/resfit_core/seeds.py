"""Scene seeds of every split, from one function, so that no split can meet another."""

from __future__ import annotations

SPLITS = ("train", "evaluate", "demo")


def episode_seed(split: str, index: int, run_seed: int = 0) -> int:
    """Return the scene seed of episode `index` of a split.

    Args:
        split: `train`, `evaluate` or `demo`. Only `train` depends on the run's seed.
        index: Number of the episode within the split, from 0, below 1,000,000.
        run_seed: Seed of the run, 0 or above.

    Raises:
        ValueError: If the split is unknown or a number is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split '{split}' is not one of {SPLITS}")
    if not 0 <= index < 1_000_000 or run_seed < 0:
        raise ValueError(f"index {index} must be in [0, 1000000) and run_seed {run_seed} >= 0")
    if split == "evaluate":
        return 1_000_000 + index
    if split == "demo":
        return 2_000_000 + index
    return 10_000_000 * (run_seed + 1) + index
