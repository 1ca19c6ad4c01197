"""Which episodes a run consists of, in which order, on which scenes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resfit_core.control.records import Mode
from resfit_core.seeds import episode_seed

PLANS = ("train", "demo", "evaluate")


class PlanError(ValueError):
    """A plan that cannot be run; the text names value and fix."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One planned episode. An aborted one is run again on the same scene.

    `round` and `label` place it in a blind evaluation; 0 and empty: it is none.
    """

    mode: Mode
    use_residual: bool
    seed: int
    round: int = 0
    label: str = ""


def make_plan(
    kind: str,
    *,
    episodes: int,
    warmup_episodes: int = 0,
    evaluate_episodes: int = 0,
    seed: int = 0,
) -> tuple[Slot, ...]:
    """Return the episodes of a run.

    Args:
        kind: `train`: warm-up, training, then evaluation pairs; `demo`: demonstrations.
        episodes: Training episodes, warm-up included; or demonstrations.
        warmup_episodes: How many of them explore around the base alone.
        evaluate_episodes: Evaluation scenes, each run by the base and then by the residual.
        seed: Of the run; only training scenes depend on it.

    Raises:
        PlanError: An unknown kind or a number below 0.
    """
    counts = {
        "episodes": episodes,
        "warmup_episodes": warmup_episodes,
        "evaluate_episodes": evaluate_episodes,
    }
    for name, value in counts.items():
        if value < 0:
            raise PlanError(f"{name} is {value}, 0 or more is needed")
    if kind == "demo":
        return tuple(Slot(Mode.DEMO, False, episode_seed("demo", i)) for i in range(episodes))
    if kind != "train":
        raise PlanError(f"mode '{kind}' is not one of {PLANS[:2]}")
    practice = [
        Slot(
            Mode.WARMUP if i < warmup_episodes else Mode.TRAIN,
            True,
            episode_seed("train", i, seed),
        )
        for i in range(episodes)
    ]
    pairs = [
        Slot(Mode.EVALUATE, residual, episode_seed("evaluate", i))
        for i in range(evaluate_episodes)
        for residual in (False, True)
    ]
    return (*practice, *pairs)


def blind_plan(scenes: Iterable[int], labels: str) -> tuple[Slot, ...]:
    """Return the episodes of a blind evaluation: each round once under every label.

    `use_residual` is true in all of them: who acts, the seal says.

    Args:
        scenes: Seed of each round's scene.
        labels: Of a round's episodes, one letter each, in the order of their running.
    """
    return tuple(
        Slot(Mode.EVALUATE, True, seed, number, label)
        for number, seed in enumerate(scenes, 1)
        for label in labels
    )


def remaining(slots: Iterable[Slot], done: Iterable[Slot]) -> list[Slot]:
    """Return the slots that still have to be run, in order, each done one taken off once."""
    finished = list(done)
    left = []
    for slot in slots:
        if slot in finished:
            finished.remove(slot)
        else:
            left.append(slot)
    return left
