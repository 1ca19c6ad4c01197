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


def compare(out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train undisturbed with the seed of the first killed run; evaluate both on the same scenes.

    Returns:
        Success, number of scenes and Wilson interval of `killed` and `undisturbed`, and `within`:
        the killed run's rate lies in the undisturbed one's interval or above it.
    """
    killed, quiet = out / "run_0", out / "undisturbed"
    if not (quiet / "done").exists():
        words = [
            f"run_dir:={quiet}", f"seed:={given.seed}", f"episodes:={given.episodes}",
            "evaluate_episodes:=2", f"train_config:={given.train_config}", "keyboard:=false",
            "report:=false", "video:=false",
        ]  # fmt: skip
        command = [sys.executable, "-m", "resfit_bringup.main", "run", "train", *words]
        subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
        (quiet / "done").touch()
    result: dict[str, Any] = {"episodes": given.episodes, "seed": given.seed}
    for name, folder in (("killed", killed), ("undisturbed", quiet)):
        result[name] = _evaluate(folder, given.scenes)
    low = result["undisturbed"]["ci95"][0]
    result["within"] = result["killed"]["success"] >= low
    return result


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
