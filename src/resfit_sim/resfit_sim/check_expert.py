"""Measure the expert: `python -m resfit_sim.check_expert --episodes 200 --seed-split evaluate`."""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from resfit_sim.errors import PlanFailed
from resfit_sim.expert import Expert, make_expert
from resfit_sim.joints import LEFT_ARM, RIGHT_ARM
from resfit_sim.tasks import SPLITS, TASKS, episode_seed
from resfit_sim.twin import Twin


class Played(NamedTuple):
    """How one episode went.

    Attributes:
        success: The oracle saw the task done.
        steps: Control steps.
        gap_rad: Largest distance of an arm target from the measured joint.
        cpu_s: Processor time of the twin's steps alone, whatever else the machine does.
    """

    success: bool
    steps: int
    gap_rad: float
    cpu_s: float


def run_episode(twin: Twin, expert: Expert, seed: int) -> Played:
    """Play one episode; one whose plan fails ends there."""
    twin.reset(seed)
    sensors = twin.sensors()
    gap = cpu = 0.0
    for step in range(twin.task.horizon_steps):
        try:
            if step == 0:
                rng = np.random.default_rng([seed, 1])  # as `ExpertBase`
                expert.reset(sensors.object_poses, sensors.joint_position, rng)
            target = expert.act(step, sensors.object_poses)
        except PlanFailed:
            return Played(False, step, gap, cpu)
        away = np.abs(target - sensors.joint_position)
        gap = max(gap, float(away[RIGHT_ARM].max()), float(away[LEFT_ARM].max()))
        begin = time.process_time()
        twin.step(target)
        cpu += time.process_time() - begin
        if twin.success:
            return Played(True, step + 1, gap, cpu)
        sensors = twin.sensors()
    return Played(False, twin.task.horizon_steps, gap, cpu)


def main() -> None:
    """Print the success rate with a Wilson interval, mean steps and speed, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="woolly_ball_pnp", choices=sorted(TASKS))
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed-split", default="evaluate", choices=SPLITS)
    arguments = parser.parse_args()
    if arguments.episodes < 1:
        parser.error(f"--episodes {arguments.episodes} must be 1 or more")

    twin = Twin(arguments.task)
    expert = make_expert(arguments.task, twin.model)
    results, failed, begin = [], [], time.perf_counter()
    for index in range(arguments.episodes):
        seed = episode_seed(arguments.seed_split, index)
        results.append(run_episode(twin, expert, seed))
        if not results[-1].success:
            failed.append(seed)
    wall = time.perf_counter() - begin
    wins = [played.steps for played in results if played.success]
    steps = sum(played.steps for played in results)
    interval = binomtest(len(wins), len(results)).proportion_ci(method="wilson")
    print(
        json.dumps(
            {
                "task": arguments.task,
                "split": arguments.seed_split,
                "n": len(results),
                "success": len(wins) / len(results),
                "ci95": [round(interval.low, 4), round(interval.high, 4)],
                "mean_steps_of_successes": round(float(np.mean(wins)), 1) if wins else None,
                "max_arm_target_gap_rad": round(max(p.gap_rad for p in results), 3),
                "steps_per_s": round(steps / wall, 1),
                "twin_steps_per_cpu_s": round(steps / sum(p.cpu_s for p in results)),
                "failed_seeds": failed,
            }
        )
    )


if __name__ == "__main__":
    main()
