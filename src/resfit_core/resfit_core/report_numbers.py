"""Every number of a run's report, from the run's files alone; each with its stated meaning.

Rates are shares in 0..1, times are seconds of wall clock.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from resfit_core.intervals import mcnemar, wilson
from resfit_core.run_log import EpisodeLine, RunLogError, read_episodes, read_objects
from resfit_core.weights import newest_version

WINDOW = 20  # episodes of the dip and of the learning curve
EVALUATION_FILE = "evaluation.jsonl"


@dataclass(frozen=True)
class Run:
    """What a run left on disk, read.

    Attributes:
        folder: of the run.
        described: content of `run.json`.
        episodes: newest verdict of each ended episode.
        learner: the learner's status lines.
        evaluated: in-process evaluation, one object per policy and seed.
    """

    folder: Path
    described: Mapping[str, Any]
    episodes: Sequence[EpisodeLine]
    learner: Sequence[Mapping[str, Any]]
    evaluated: Sequence[Mapping[str, Any]]

    @property
    def practice(self) -> list[EpisodeLine]:
        """Episodes that the learner learns from, aborted ones included."""
        return [e for e in self.episodes if e.practice]


def read_run(folder: Path) -> Run:
    """Read a run's files; only `run.json` must be there.

    Raises:
        RunLogError: It is no run, or a file is damaged; names the file.
    """
    file = folder / "run.json"
    try:
        described = json.loads(file.read_text())
    except FileNotFoundError:
        raise RunLogError(f"'{folder}' is not a run: it has no run.json") from None
    except json.JSONDecodeError as error:
        raise RunLogError(f"{file} is damaged: {error}") from error
    return Run(
        folder,
        described,
        read_episodes(folder / "episodes.jsonl"),
        read_objects(folder / "learner.jsonl"),
        read_objects(folder / EVALUATION_FILE),
    )


@dataclass(frozen=True)
class Verdicts:
    """Success by evaluation seed.

    Attributes:
        base: of the base alone.
        residual: of base and residual, weights of `weights_version`.
        nodes_seeds: seeds that both ran through the nodes.
        weights_version: of the residual; 0: none.
    """

    base: Mapping[int, bool]
    residual: Mapping[int, bool]
    nodes_seeds: Sequence[int]
    weights_version: int


def judged_version(run: Run) -> int:
    """Return the version of the residual weights that the report judges; 0: there are none.

    The version that the nodes evaluated after the last practice, else the newest on disk.
    """
    last = max((e.episode for e in run.practice), default=0)
    evaluated = [
        e.weights_version
        for e in run.episodes
        if e.mode == "evaluate" and e.use_residual and e.counts and e.episode > last
    ]
    return max(evaluated) if evaluated else newest_version(run.folder)


def verdicts(run: Run) -> Verdicts:
    """Collect the evaluation: what ran through the nodes counts as it is, the rest in-process.

    Verdicts of the residual with other weights (of a run that went on training) do not count.
    """
    through_nodes = [e for e in run.episodes if e.mode == "evaluate" and e.counts]
    version = judged_version(run)
    base: dict[int, bool] = {}
    residual: dict[int, bool] = {}
    for o in run.evaluated:
        if o["policy"] == "base":
            base[int(o["seed"])] = bool(o["success"])
        elif o["weights_version"] == version:
            residual[int(o["seed"])] = bool(o["success"])
    nodes: dict[bool, set[int]] = {False: set(), True: set()}
    for e in through_nodes:
        if e.use_residual and e.weights_version != version:
            continue
        (residual if e.use_residual else base)[e.seed] = e.success
        nodes[e.use_residual].add(e.seed)
    if not version:
        residual = {}  # without weights "with residual" was the base alone
    return Verdicts(base, residual, sorted(nodes[False] & nodes[True]), version)


def rate(values: Iterable[bool]) -> dict[str, Any]:
    """Return success rate, number and 95 % Wilson interval; None where there are no episodes."""
    seen = list(values)
    if not seen:
        return {"success": None, "n": 0, "ci95": None}
    good = sum(seen)
    return {"success": good / len(seen), "n": len(seen), "ci95": list(wilson(good, len(seen)))}


def paired(base: Mapping[int, bool], residual: Mapping[int, bool]) -> dict[str, Any]:
    """Compare the two on the seeds that both ran; `p`: exact McNemar test, two-sided."""
    both = [(base[s], residual[s]) for s in base.keys() & residual.keys()]
    base_only = both.count((True, False))
    residual_only = both.count((False, True))
    return {
        "both": both.count((True, True)),
        "base_only": base_only,
        "residual_only": residual_only,
        "neither": both.count((False, False)),
        "p": mcnemar(base_only, residual_only) if both else None,
    }


def dip(episodes: Sequence[EpisodeLine], base: float | None, window: int = WINDOW) -> dict:
    """Return the lowest success over any `window` consecutive training episodes after warm-up.

    Aborted episodes have no verdict and are passed over. `worst` is None where there were fewer.
    """
    seen = [e.success for e in episodes if e.mode == "train" and e.counts]
    worst = min(windowed(seen, window), default=None)
    return {"window": window, "worst": worst, "base": base}


def windowed(success: Sequence[bool], window: int = WINDOW) -> list[float]:
    """Return the success rate of every `window` consecutive episodes, in order."""
    return [sum(success[i - window : i]) / window for i in range(window, len(success) + 1)]


def train_wall_s(run: Run) -> float:
    """Return the wall time of practice [s]: first start to last end, waiting included.

    Time in which a run lay still before it was continued is not practice.
    """
    practice = run.practice
    if not practice:
        return 0.0
    resumed = [_unix(c["started"]) for c in run.described.get("continued", [])]
    total, before = 0.0, practice[0].start_s
    for e in practice:
        began = max([before, *(t for t in resumed if before < t <= e.start_s)])
        total += e.end_s - began
        before = e.end_s
    return total


def steps_per_s(run: Run) -> float | None:
    """Return control steps per second of RUNNING time with the learner at work.

    That is, over the training episodes after warm-up; over all practice where there are none.
    """
    chosen = [e for e in run.practice if e.mode == "train"] or run.practice
    running_s = sum(e.end_s - e.start_s for e in chosen)
    return sum(e.steps for e in chosen) / running_s if running_s > 0 else None


def updates_per_s(learner: Sequence[Mapping[str, Any]]) -> float | None:
    """Return updates per second of the time in which the learner made any."""
    updates = busy_s = 0.0
    for a, b in itertools.pairwise(learner):
        # A smaller count is a learner that came back from its checkpoint.
        if b["updates"] > a["updates"]:
            updates += b["updates"] - a["updates"]
            busy_s += b["time_s"] - a["time_s"]
    return updates / busy_s if busy_s > 0 else None


def numbers(run: Run) -> dict[str, Any]:
    """Return the content of `report.json`, without `missing`."""
    described, arguments = run.described, run.described.get("arguments", {})
    seen = verdicts(run)
    last = run.learner[-1] if run.learner else {}
    base = rate(seen.base.values())
    practice = run.practice
    return {
        "task": described.get("task", arguments.get("task")),
        "robot": described.get("robot", arguments.get("robot")),
        "git": described.get("git"),
        "contract_sha256": described.get("contract_sha256"),
        "base_sha256": described.get("base_sha256"),
        "seeds": {
            "run": arguments.get("seed"),
            "evaluate": sorted(seen.base.keys() | seen.residual.keys()),
            "through_nodes": list(seen.nodes_seeds),
        },
        "base": base,
        "residual": rate(seen.residual.values()),
        "paired": paired(seen.base, seen.residual),
        "episodes": len(practice),
        "episodes_aborted": sum(not e.counts for e in practice),
        "warmup_episodes": sum(e.mode == "warmup" for e in practice),
        "env_steps": sum(e.steps for e in practice),
        "updates": int(last.get("updates", 0)),
        "utd": {"target": last.get("utd_target"), "achieved": last.get("utd_achieved")},
        "train_wall_s": train_wall_s(run),
        "wait_s": sum(e.wait_s for e in practice),
        "steps_per_s": steps_per_s(run),
        "updates_per_s": updates_per_s(run.learner),
        "dip": dip(run.episodes, base["success"]),
        "weights_version": seen.weights_version,
        "run_id": described.get("run_id"),
        "started": described.get("started"),
        "arguments": arguments,
        "machine": described.get("machine"),
    }


def _unix(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
