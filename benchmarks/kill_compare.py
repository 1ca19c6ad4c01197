"""Does a run that was killed all the time end as good as one that was left alone?"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from resfit_core.evaluation import Job, evaluate
from resfit_core.intervals import wilson
from resfit_core.seeds import episode_seed
from resfit_core.weights import newest_version, weights_path

ROOT = Path(__file__).resolve().parents[1]


def compare(out: Path, given: argparse.Namespace, runs: int) -> dict[str, Any]:
    """Train undisturbed with the seed of each killed run; evaluate all on the same scenes.

    Args:
        out: Folder of the bench, with `run_0` to `run_<runs - 1>`.
        given: Options of the bench.
        runs: How many runs were killed.

    Returns:
        Success, number of scenes and Wilson interval of `killed` and `undisturbed`, for each seed
        and over all scenes of all seeds; `within`: the killed runs' rate over all lies in the
        undisturbed ones' interval or above it. Printed as a table.
    """
    for number in range(runs):
        undisturbed(out, given, number)
    rows = []
    for number in range(runs):
        row: dict[str, Any] = {"seed": given.seed + number}
        row["killed"] = _evaluate(out / f"run_{number}", given.scenes)
        row["undisturbed"] = _evaluate(out / f"undisturbed_{number}", given.scenes)
        rows.append(row)
    result: dict[str, Any] = {"episodes": given.episodes, "seeds": rows}
    for name in ("killed", "undisturbed"):
        result[name] = _pooled([row[name] for row in rows])
    result["within"] = result["killed"]["success"] >= result["undisturbed"]["ci95"][0]
    for row in (*rows, {"seed": "all", **result}):
        killed, alone = row["killed"], row["undisturbed"]
        low, high = alone["ci95"]
        print(
            f"seed {row['seed']}: killed {killed['success']:.3f}, undisturbed "
            f"{alone['success']:.3f} [{low:.3f}, {high:.3f}], {alone['scenes']} scenes"
        )
    return result


def undisturbed(out: Path, given: argparse.Namespace, number: int) -> None:
    """Train with the seed of run `number` and leave it alone; once.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    folder = out / f"undisturbed_{number}"
    if (folder / "done").exists():
        return
    words = [
        f"run_dir:={folder}", f"seed:={given.seed + number}", f"episodes:={given.episodes}",
        "evaluate_episodes:=2", f"train_config:={given.train_config}", "keyboard:=false",
        "report:=false", "video:=false",
    ]  # fmt: skip
    command = [sys.executable, "-m", "resfit_bringup.main", "run", "train", *words]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    (folder / "done").touch()


def _pooled(found: list[dict[str, Any]]) -> dict[str, Any]:
    scenes = sum(one["scenes"] for one in found)
    good = round(sum(one["success"] * one["scenes"] for one in found))
    return {"success": good / scenes, "scenes": scenes, "ci95": wilson(good, scenes)}


def _evaluate(folder: Path, scenes: int) -> dict[str, Any]:
    file = folder / f"evaluated_{scenes}.json"
    if not file.exists():
        config = folder / "config"
        arguments = json.loads((folder / "run.json").read_text())["arguments"]
        job = Job(
            robot_file=str(config / "robot.yaml"),
            task_file=str(config / "task.yaml"),
            variant=arguments["observation"],
            base=arguments["base"],
            env="resfit_sim.factory:twin_for",
            weights=str(weights_path(folder, newest_version(folder))),
            train_file=str(config / "train.yaml"),
        )
        done = evaluate(job, [episode_seed("evaluate", i) for i in range(scenes)])
        good = sum(r.success for r in done)
        found = {"success": good / scenes, "scenes": scenes, "ci95": wilson(good, scenes)}
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())
