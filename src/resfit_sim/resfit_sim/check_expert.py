"""Measure the expert: `python -m resfit_sim.check_expert --episodes 200 --seed-split evaluate`."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy.stats import binomtest

from resfit_sim.errors import PlanFailed
from resfit_sim.expert import Expert, make_expert
from resfit_sim.joints import LEFT_ARM, RIGHT_ARM
from resfit_sim.tasks import SPLITS, TASKS, episode_seed
from resfit_sim.twin import Twin


def run_episode(twin: Twin, expert: Expert, seed: int) -> tuple[bool, int, float]:
    """Play one episode.

    Returns:
        Whether it succeeded, its control steps, and the largest distance of an arm target from the
        measured joint [rad]. An episode whose plan fails ends there.
    """
    twin.reset(seed)
    sensors = twin.sensors()
    gap = 0.0
    for step in range(twin.task.horizon_steps):
        try:
            if step == 0:
                rng = np.random.default_rng([seed, 1])  # as `ExpertBase`
                expert.reset(sensors.object_poses, sensors.joint_position, rng)
            target = expert.act(step, sensors.object_poses)
        except PlanFailed:
            return False, step, gap
        away = np.abs(target - sensors.joint_position)
        gap = max(gap, float(away[RIGHT_ARM].max()), float(away[LEFT_ARM].max()))
        twin.step(target)
        if twin.success:
            return True, step + 1, gap
        sensors = twin.sensors()
    return False, twin.task.horizon_steps, gap


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
        if not results[-1][0]:
            failed.append(seed)
    wall = time.perf_counter() - begin
    wins = [steps for success, steps, _ in results if success]
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
                "max_arm_target_gap_rad": round(max(gap for *_, gap in results), 3),
                "steps_per_s": round(sum(steps for _, steps, _ in results) / wall, 1),
                "failed_seeds": failed,
            }
        )
    )


if __name__ == "__main__":
    main()
