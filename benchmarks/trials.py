"""What was tried for the learning settings: a table of trials, run and printed by name.

A trial is `config/train/<task>.yaml` with some settings changed. Trials are judged on scenes of
their own (`SCENES`), never on those that README reports, and with training seeds of their own, so
that choosing the settings does not fit them to the reported figures.

    make bench-trials ARGS="--list"
    make bench-trials ARGS="before average"               run what is missing, print the table
    make bench-trials ARGS="--table --task package_handover"

Each trial and seed is one process; logs lie in benchmarks/results/trials/<task>/. Settings are
complete where the table names them: a change of the shipped files changes no trial that names the
setting, and `FROM` holds what the files were when the trials began.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.learning import ROOT, WINDOW, dip, residual_success, run_seed

RESULTS = ROOT / "benchmarks" / "results" / "trials"
SCENES = 1_500_000  # first evaluation scene of every trial
TASKS = {
    "woolly_ball_pnp": ("default", 134, 67),
    "package_handover": ("package_handover", 343, 114),
}
FROM = {
    "kernels": "native",
    "critic_view": "task_space",
    "exploration_std": 0.05,
    "actor_average": 0.0,
}
BOTH = {"actor_average": 0.2, "exploration_std": 0.1}
HANDS = {"actor_average": 0.2, "critic_view": "relative", "warmup_std": 0.05}
HURRIED = {
    **{"timeout_bootstrap": True, "gamma": 0.995, "n_step": 10, "utd": 1.0},
    **{"critic_warmup_updates": 1500, "actor_pessimism_half_updates": 4000, "warmup_episodes": 10},
}
PATIENT = {
    **{"timeout_bootstrap": False, "gamma": 0.998, "n_step": 20, "utd": 0.5},
    **{"critic_warmup_updates": 5000, "actor_pessimism_half_updates": 12000},
    "warmup_episodes": 20,
}
TRIALS: dict[str, tuple[dict[str, Any], str]] = {
    "before": ({}, "the settings before these trials"),
    "utd4": ({"utd": 4.0}, "more updates from the same data"),
    "explore": ({"exploration_std": 0.1}, "twice the exploration"),
    "average_explore": (BOTH, "and the average of the actor acts"),
    "grip": (
        {
            **BOTH,
            "residual_scale": {
                **{"right_arm": 0.1, "right_hand": 0.3},
                **{"left_arm": 0.0, "left_hand": 0.0, "head": 0.0},
            },
        },
        "the hand reaches three times as far",
    ),
    "relative": ({**BOTH, "critic_view": "relative"}, "no absolute places, no wrenches"),
    "relative_wrench": ({**BOTH, "critic_view": "relative_wrench"}, "no absolute places"),
    "lean": ({**BOTH, "critic_view": "lean"}, "and the actor sees as little"),
    "relative_long": (
        {**BOTH, "critic_view": "relative", "gamma": 0.995, "n_step": 20},
        "a longer horizon of the value",
    ),
    "relative_utd2": ({**BOTH, "critic_view": "relative", "utd": 2.0}, "and more updates"),
    "calm": (
        {
            **{"actor_average": 0.2, "exploration_std": 0.05, "warmup_std": 0.05},
            **{"critic_view": "relative", "gamma": 0.995},
        },
        "two hands: half the noise, a longer horizon of the value",
    ),
    "hurried": ({**HANDS, **HURRIED}, "two hands, before what follows"),
    "patient": ({**HANDS, **PATIENT}, "a time-out is worth nothing; the critic learns first"),
    "patient_bootstrap": (
        {**HANDS, **PATIENT, "timeout_bootstrap": True},
        "patient, but a time-out bootstraps",
    ),
    "patient_discount": (
        {**HANDS, **PATIENT, "gamma": 0.995},
        "patient, but with more discount",
    ),
    "patient_early": (
        {**HANDS, **PATIENT, "critic_warmup_updates": 1500, "warmup_episodes": 10},
        "patient, but the actor starts as early as before",
    ),
    "patient_sure": (
        {**HANDS, **PATIENT, "actor_pessimism_half_updates": 0},
        "patient, and the pessimism stays",
    ),
}


def job(task: str, name: str, seed: int, scenes: int, short: int = 0) -> dict[str, Any]:
    """Return what `run_seed` wants to know; `short`: so many episodes, judged at their end."""
    config, episodes, every = TASKS[task]
    if short:
        episodes = every = short
    shipped = ROOT / "config" / "shipped" / task
    folder = RESULTS / task
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "name": name,
        "task": task,
        "observation": "state",
        "episodes": episodes,
        "eval_every": every,
        "eval_episodes": scenes,
        "final_episodes": 0,
        "eval_seed": SCENES,
        "seed": seed,
        "set": {**FROM, **TRIALS[name][0]},
        "train_config": str(ROOT / "config" / "train" / f"{config}.yaml"),
        "base": str(shipped / "base_state.safetensors"),
        "demos": str(shipped / "demos"),
        "log": str(folder / f"{name}_{seed}.jsonl"),
    }


def table(task: str) -> None:
    """Print a Markdown table of what is finished."""
    print(
        f"| trial | seed | on {task}'s scenes (episode: share) | dip | last {WINDOW} | updates |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for log in sorted((RESULTS / task).glob("*.jsonl")):
        name, _, seed = log.stem.rpartition("_")
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        played = [one for one in records if one["kind"] == "episode"]
        found = [one for one in records if one["kind"] == "eval"]
        evals = ", ".join(f"{one['episode']}: {residual_success(one):.2f}" for one in found)
        train = [one["success"] for one in played]
        least = dip(train, sum(one["mode"] == 0 for one in played))
        late = sum(train[-WINDOW:]) / WINDOW
        updates = played[-1]["total_updates"]
        print(f"| {name} | {seed} | {evals} | {least:.2f} | {late:.2f} | {updates} |")


def main() -> None:
    """Run what is missing of the named trials, then print the table."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("trials", nargs="*", metavar="TRIAL", help="names from --list")
    parse.add_argument("--task", default="woolly_ball_pnp", choices=sorted(TASKS))
    parse.add_argument("--seeds", type=int, nargs="+", default=[10, 11])
    parse.add_argument("--scenes", type=int, default=100, help="per evaluation")
    parse.add_argument("--episodes", type=int, default=0, help="0: as many as the task has")
    parse.add_argument("--processes", type=int, default=1)
    parse.add_argument("--list", action="store_true", help="name the trials and stop")
    parse.add_argument("--table", action="store_true", help="print what is finished and stop")
    args = parse.parse_args()
    unknown = sorted(set(args.trials) - set(TRIALS))
    if unknown:
        parse.error(f"unknown trials {unknown}; --list names all")
    if args.list:
        for name, (settings, why) in TRIALS.items():
            print(f"{name:20} {settings}  {why}")
        return
    if not args.table:
        jobs = [
            job(args.task, name, seed, args.scenes, args.episodes)
            for name in args.trials
            for seed in args.seeds
        ]
        missing = [one for one in jobs if not Path(one["log"]).exists()]
        with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
            for _ in pool.imap_unordered(run_seed, missing, chunksize=1):
                pass
    table(args.task)


if __name__ == "__main__":
    main()
