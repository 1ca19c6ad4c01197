"""Evaluation seeds and video of a run's report, in-process: simulator and policies without ROS.

The simulator is known by name only: `resfit_bringup` imports no node package.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from resfit_core import report_video
from resfit_core.contract import load_contract
from resfit_core.evaluation import Job, SeedResult, evaluate
from resfit_core.report_numbers import EVALUATION_FILE, Run, read_run, verdicts
from resfit_core.report_page import VIDEO_FILE, VIDEO_NOTE_FILE
from resfit_core.seeds import episode_seed
from resfit_core.tensorfile import write_atomic
from resfit_core.weights import weights_path

SIMULATOR = "resfit_sim.factory:twin_for"
BASE, RESIDUAL = "base", "residual"


def evaluate_rest(folder: Path, console: Console) -> list[str]:
    """Run the evaluation seeds that have no verdict yet, by both policies; keep each at once.

    Args:
        folder: of the run.
        console: where the progress is shown.

    Returns:
        What could not be done, with the reason.
    """
    run = read_run(folder)
    wanted = int(run.described.get("arguments", {}).get("evaluate_seeds", 0))
    seeds = [episode_seed("evaluate", i) for i in range(wanted)]
    seen = verdicts(run)
    missing = []
    for policy, done in ((BASE, seen.base), (RESIDUAL, seen.residual)):
        left = [s for s in seeds if s not in done]
        if not left:
            continue
        if policy == RESIDUAL and not seen.weights_version:
            missing.append("evaluation of the residual: the learner published no weights")
            continue
        try:
            _evaluate(job_of(run, policy, seen.weights_version), policy, left, run, console)
        except (ValueError, OSError) as error:
            missing.append(f"evaluation of the {policy}: {error}")
    return missing


def job_of(run: Run, policy: str, weights_version: int) -> Job:
    """Return what the worker processes need: the run's own files, as it was started with them."""
    config = run.folder / "config"
    arguments = run.described["arguments"]
    weights = weights_path(run.folder, weights_version) if policy == RESIDUAL else None
    return Job(
        robot_file=str(config / "robot.yaml"),
        task_file=str(config / "task.yaml"),
        variant=arguments["observation"],
        base=arguments["base"],
        env=SIMULATOR,
        weights=str(weights) if weights else None,
        train_file=str(config / "train.yaml"),
    )


def _evaluate(job: Job, policy: str, seeds: list[int], run: Run, console: Console) -> None:
    version = int(Path(job.weights).stem.removeprefix("version_")) if job.weights else 0
    bar = Progress(
        TextColumn(f"evaluating the {policy:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    if not console.is_terminal:
        console.print(f"evaluating the {policy} on {len(seeds)} scenes")
    with open(run.folder / EVALUATION_FILE, "a", encoding="utf-8") as log, bar:
        task = bar.add_task("", total=len(seeds))

        def take(result: SeedResult) -> None:
            line = {
                "policy": policy,
                "seed": result.seed,
                "success": result.success,
                "steps": result.steps,
                "weights_version": version,
            }
            log.write(json.dumps(line) + "\n")
            log.flush()
            bar.advance(task)

        evaluate(job, seeds, processes=os.cpu_count() or 1, on_result=take)


def make_video(folder: Path, console: Console) -> list[str]:
    """Film a few evaluation scenes by both policies.

    Args:
        folder: of the run.
        console: where it is said.

    Returns:
        What could not be done, with the reason.
    """
    run = read_run(folder)
    seen = verdicts(run)
    chosen = report_video.choose_seeds(seen.base, seen.residual)
    if not chosen:
        return ["video: no scene was evaluated by both policies"]
    console.print(f"filming {len(chosen)} scenes")
    jobs = [job_of(run, policy, seen.weights_version) for policy in (BASE, RESIDUAL)]
    rate_hz = load_contract(jobs[0].robot_file, jobs[0].task_file, jobs[0].variant).control_rate_hz
    try:
        scenes = report_video.film(jobs[0], jobs[1], [seed for seed, _ in chosen])
        report_video.write_video(scenes, folder / VIDEO_FILE, rate_hz / report_video.EVERY)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return [f"video: {' '.join(str(error).split())}"]
    note = {"note": report_video.note(chosen), "seeds": [seed for seed, _ in chosen]}
    write_atomic(folder / VIDEO_NOTE_FILE, json.dumps(note).encode())
    return []
