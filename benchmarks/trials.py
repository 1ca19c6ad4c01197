"""What was tried for the learning settings: a table of trials, run and printed by name.

A trial is `config/train/<file>.yaml` with some settings changed. Trials are judged on scenes of
their own (`SCENES`), never on those that README reports, and with training seeds of their own, so
that choosing the settings does not fit them to the reported figures.

    python benchmarks/trials.py --list
    python benchmarks/trials.py utd4 ema                  run what is missing, print the table
    python benchmarks/trials.py --table                   the table of what is finished

Each trial and seed is one process; results lie in benchmarks/results/trials/<task>/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any

from benchmarks.learning import ROOT, dip, run_seed

RESULTS = ROOT / "benchmarks" / "results" / "trials"
SCENES = 1_500_000  # first evaluation scene of every trial
EPISODES = {"woolly_ball_pnp": 134, "package_handover": 343}
CONFIG = {"woolly_ball_pnp": "default", "package_handover": "package_handover"}

# Name to (settings changed, why). Settings are written against the files as they are now, so a
# trial whose settings became the default repeats the default.
NATIVE = {"kernels": "native"}
TRIALS: dict[str, tuple[dict[str, Any], str]] = {
    "before": ({"utd": 1.0}, "the settings before these trials"),
    "utd2": ({**NATIVE, "utd": 2.0}, "more updates from the same data"),
    "utd4": ({**NATIVE, "utd": 4.0}, "more updates from the same data"),
    "utd2_self": (
        {**NATIVE, "utd": 2.0, "successes_to_demos": True},
        "own successes join the demo half",
    ),
    "utd2_imitate": (
        {
            **NATIVE, "utd": 2.0, "successes_to_demos": True,
            "actor_bc_weight": 0.02, "actor_bc_q_filter": True,
        },
        "and the actor is pulled to them where the critic prefers them",
    ),
    "utd2_target_actor": ({**NATIVE, "utd": 2.0, "target_actor": True}, "slow actor in the target"),
    "utd2_n5": ({**NATIVE, "utd": 2.0, "n_step": 5}, "shorter windows"),
    "utd2_n20": ({**NATIVE, "utd": 2.0, "n_step": 20}, "longer windows"),
    "utd2_actor3": ({**NATIVE, "utd": 2.0, "actor_lr": 3e-4}, "faster actor"),
    "utd2_actor2": ({**NATIVE, "utd": 2.0, "actor_every": 2}, "actor moves twice as often"),
}


def job(task: str, name: str, seed: int, episodes: int, every: int, scenes: int) -> dict[str, Any]:
    """Return what `run_seed` wants to know."""
    shipped = ROOT / "config" / "shipped" / task
    folder = RESULTS / task
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "name": name,
        "task": task,
        "episodes": episodes,
        "eval_every": every,
        "eval_episodes": scenes,
        "final_episodes": 0,
        "eval_seed": SCENES,
        "seed": seed,
        "set": TRIALS[name][0],
        "train_config": str(ROOT / "config" / "train" / f"{CONFIG[task]}.yaml"),
        "base": str(shipped / "base_state.safetensors"),
        "demos": str(shipped / "demos"),
        "log": str(folder / f"{name}_{seed}.jsonl"),
    }


def row(log: Path) -> dict[str, Any]:
    """Return the figures of a finished trial."""
    result = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return {
        "evals": {e["episode"]: e["success"] for e in result["evals"]},
        "dip": dip(result["train"], result["config"]["warmup_episodes"]),
        "wall_s": result["wall_s"],
        "updates": result["updates"],
    }


def table(task: str) -> None:
    """Print a Markdown table of what is finished."""
    print("| trial | seed | success on the way (episode: share) | dip | updates | wall s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for log in sorted((RESULTS / task).glob("*.jsonl")):
        name, _, seed = log.stem.rpartition("_")
        r = row(log)
        evals = ", ".join(f"{k}: {v:.2f}" for k, v in r["evals"].items())
        print(f"| {name} | {seed} | {evals} | {r['dip']:.2f} | {r['updates']} | {r['wall_s']:.0f} |")


def main() -> None:
    """Run what is missing of the named trials, then print the table."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="TRIAL")
    parse.add_argument("--task", default="woolly_ball_pnp", choices=sorted(EPISODES))
    parse.add_argument("--seeds", type=int, nargs="+", default=[10, 11])
    parse.add_argument("--episodes", type=int, default=0, help="0: the task's aim")
    parse.add_argument("--eval-every", type=int, default=67)
    parse.add_argument("--scenes", type=int, default=100, help="per evaluation")
    parse.add_argument("--processes", type=int, default=1)
    parse.add_argument("--list", action="store_true", help="name the trials and stop")
    parse.add_argument("--table", action="store_true", help="print what is finished and stop")
    args = parse.parse_args()
    if args.list:
        for name, (settings, why) in TRIALS.items():
            print(f"{name:20} {settings}  {why}")
        return
    if not args.table:
        episodes = args.episodes or EPISODES[args.task]
        jobs = [
            job(args.task, name, seed, episodes, args.eval_every, args.scenes)
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
