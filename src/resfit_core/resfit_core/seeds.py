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


def training_seed(index: int, run_seed: int, evaluation: range) -> int:
    """Return the scene seed of training episode `index`, outside a range that is evaluated.

    That of `episode_seed`, unless a chosen evaluation range reaches into this run's block of a
    million seeds: then the whole run trains five millions further up.

    Args:
        index: Number of the training episode, from 0, below 1,000,000.
        run_seed: Seed of the run, 0 or above.
        evaluation: Seeds that evaluations use, at most 1,000,000 of them.

    Raises:
        ValueError: If a number is out of range.
    """
    first = episode_seed("train", 0, run_seed)
    if len(evaluation) > 1_000_000:
        raise ValueError(f"{len(evaluation)} evaluation scenes: at most 1000000 can be kept apart")
    meets = evaluation.start < first + 1_000_000 and first < evaluation.stop
    return episode_seed("train", index, run_seed) + (5_000_000 if meets else 0)
