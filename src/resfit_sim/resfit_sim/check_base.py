"""Measure a base policy on the twin: `python -m resfit_sim.check_base --task package_handover`.

The same rollout as in every report (`resfit_core.evaluation`): observation, safety filter, oracle.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from resfit_core.base.protocol import BaseError
from resfit_core.contract import ContractError
from resfit_core.evaluation import Job, evaluate, wilson
from resfit_core.seeds import SPLITS, episode_seed
from resfit_sim.errors import SimError
from resfit_sim.tasks import TASKS


def main() -> None:
    """Print the success rate with a Wilson interval and speed, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--task", default="woolly_ball_pnp", choices=sorted(TASKS))
    add("--observation", default="state", help="the task's observation variant")
    add("--base", default="", help="the policy's file; default: the task's shipped one")
    add("--config", type=Path, default=Path("config"), help="folder with robot/ and task/")
    add("--episodes", type=int, default=200)
    add("--seed-split", default="evaluate", choices=SPLITS)
    add("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.episodes < 1:
        parser.error(f"--episodes {given.episodes} must be 1 or more")
    shipped = given.config / "shipped" / given.task / f"base_{given.observation}.safetensors"
    job = Job(
        robot_file=str(given.config / "robot/vega_1.yaml"),
        task_file=str(given.config / f"task/{given.task}.yaml"),
        variant=given.observation,
        base=given.base or str(shipped),
        env="resfit_sim.factory:twin_for",
    )
    seeds = [episode_seed(given.seed_split, index) for index in range(given.episodes)]
    begin = time.perf_counter()
    try:
        results = evaluate(job, seeds, given.processes)
    except (BaseError, ContractError, SimError) as error:
        sys.exit(f"check_base: {error}")
    wall = time.perf_counter() - begin
    wins = [result.steps for result in results if result.success]
    peaks = [result.peak_n for result in results]
    print(
        json.dumps(
            {
                "task": given.task,
                "observation": given.observation,
                "base": job.base,
                "split": given.seed_split,
                "n": len(results),
                "success": len(wins) / len(results),
                "ci95": [round(end, 4) for end in wilson(len(wins), len(results))],
                "mean_steps_of_successes": round(float(np.mean(wins)), 1) if wins else None,
                "force_held_steps": sum(result.held for result in results),
                "peak_force_n": [round(float(v), 1) for v in np.percentile(peaks, (50, 95, 100))],
                "steps_per_s": round(sum(result.steps for result in results) / wall, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
