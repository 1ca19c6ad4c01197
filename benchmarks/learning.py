"""How well, how fast and how safely the residual learns on the twin, over several seeds.

In-process and synchronous (`resfit_core.loop`): the learner takes its turn after each episode, so
that a seed gives the same curve on the same machine. The classes are those of the nodes.

    make bench-learning                                    three seeds, 300 episodes, ours
    make bench-learning ARGS="--episodes 1000 --name 1000"
    make bench-learning ARGS="--observation pixels --train-config pixels_places --name pixels
        --base runs/base_pixels.safetensors --demos runs/demos_pixels"
    make bench-learning ARGS="--train-config paper --name paper --set warmup_episodes=10"

Each seed is one process; what is finished is kept in
benchmarks/results/learning/<name>_<seed>.jsonl and not run again; stopped in between, by whatever
means, the same command goes on from a checkpoint that is a minute old. The last line is
`learning: key=value ...`; the figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resfit_core.loop import Observation

if TYPE_CHECKING:
    from resfit_core.action_space import ActionSpace
    from resfit_core.contract import Contract
    from resfit_core.learner import Learner

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WINDOW = 20
CHECKPOINT_S = 60.0


class TwinEnv:
    """The twin behind `resfit_core.loop.Environment`, with observation builder and filter."""

    def __init__(self, contract: Contract, space: ActionSpace) -> None:
        """Build the twin of this contract; actions are normalised by `space`."""
        from resfit_core.control.safety import SafetyFilter
        from resfit_core.evaluation import Observer
        from resfit_sim.factory import twin_for

        self._twin, self._space = twin_for(contract), space
        self._filter, self._observer = SafetyFilter(contract), Observer(contract, small=True)
        self._horizon = contract.horizon_steps

    def reset(self, seed: int) -> Observation:
        """Start the scene of this seed."""
        self._twin.reset(seed)
        self._sensors, self._steps = self._twin.sensors(), 0
        self._filter.reset(self._sensors.joint_position)
        return self._observe()

    def step(self, action_norm: np.ndarray) -> tuple[Observation, bool, bool, np.ndarray]:
        """Filter, execute, observe; wrists count, as in the driver."""
        sensors = self._sensors
        target, _ = self._filter.filter(
            self._space.to_rad(action_norm),
            sensors.joint_position,
            sensors.wrenches,
        )
        self._twin.step(target)
        self._sensors = self._twin.sensors()
        self._steps += 1
        success = bool(self._twin.success)
        done = success or self._steps >= self._horizon
        return self._observe(), success, done, self._space.to_norm(target)

    def _observe(self) -> Observation:
        return Observation(*self._observer.observe(self._twin, self._sensors))


def residual_success(evaluation: Mapping[str, Any]) -> float | None:
    """Return the residual's share of successes, also where the base would act: it is on trial."""
    return evaluation.get("alone", evaluation["success"])


def run_seed(job: dict[str, Any]) -> None:
    """Train one seed and write its curve; go on where an earlier call was stopped."""
    import torch

    from resfit_core.algorithms.config import TrainConfig
    from resfit_core.base.checkpoint import load_base
    from resfit_core.base.relabel import relabel_folder
    from resfit_core.build import build_learner, build_policy
    from resfit_core.contract import load_contract
    from resfit_core.control.guard import Verdict
    from resfit_core.loop import FIRST_EVAL_SEED, LoopConfig, train

    torch.set_num_threads(1)
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml",
        ROOT / f"config/task/{job['task']}.yaml",
        job["observation"],
    )
    base = load_base(job["base"], contract)
    changes = {**job["set"], "seed": job["seed"]}
    config = TrainConfig.from_yaml(job["train_config"]).replace(**changes)
    learner, policy = (build(config, contract, base) for build in (build_learner, build_policy))
    log = Path(job["log"])
    partial, checkpoints = log.with_suffix(".partial"), log.with_suffix(".checkpoints")
    records = take_up(learner, checkpoints, partial)
    if not learner.episodes:
        learner.add_demos(relabel_folder(Path(job["demos"]), base, contract))
    history = [
        Verdict(r["weights_version"] > 0, r["success"]) for r in records if r["kind"] == "episode"
    ]
    trained = [verdict.success for verdict in history]
    saved_s = time.monotonic()

    def say(record: dict[str, Any]) -> None:
        if record["kind"] == "episode":
            trained.append(record["success"])
        if record["kind"] != "episode" or record["episode"] % 25 == 0:
            recent = float(np.mean(trained[-WINDOW:]))
            judged = residual_success(record) if record["kind"] == "eval" else "-"
            print(
                f"{job['name']} seed {job['seed']}: {record['kind']} "
                f"{record.get('episode', '')} success(last {WINDOW}) {recent:.2f} "
                f"eval {judged} "
                f"{record['wall_s']:.0f} s",
                flush=True,
            )

    def save_now_and_then() -> None:
        nonlocal saved_s
        last = learner.episodes >= job["episodes"]
        if last or time.monotonic() - saved_s >= CHECKPOINT_S:
            learner.save(checkpoints)
            saved_s = time.monotonic()

    schedule = LoopConfig(
        episodes=job["episodes"],
        run_seed=job["seed"],
        eval_every=job["eval_every"],
        eval_episodes=job["eval_episodes"],
        final_episodes=job["final_episodes"],
        eval_seed=job["eval_seed"] or FIRST_EVAL_SEED,
    )
    result = train(
        TwinEnv(contract, base.action_space),
        base,
        learner,
        policy,
        schedule,
        partial,
        say,
        after_episode=save_now_and_then,
        history=history,
    )
    result["evals"] = [r for r in records if r["kind"] == "eval"] + result["evals"]
    with partial.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "result", "config": config.to_dict(), **result}) + "\n")
    os.replace(partial, log)
    shutil.rmtree(checkpoints)


def take_up(learner: Learner, checkpoints: Path, partial: Path) -> list[dict[str, Any]]:
    """Load the checkpoint of a stopped call, if there is one; return its records up to there.

    What was recorded after the checkpoint is played again, to the same end.
    """
    from resfit_core import tensorfile
    from resfit_core.checkpoint import has_checkpoint
    from resfit_core.run_log import read_objects

    if not has_checkpoint(checkpoints):
        partial.unlink(missing_ok=True)
        return []
    learner.load(checkpoints)
    kept = [
        record
        for record in read_objects(partial)
        if record["kind"] in ("episode", "eval") and record["episode"] <= learner.episodes
    ]
    lines = "".join(json.dumps(record) + "\n" for record in kept)
    tensorfile.write_atomic(partial, lines.encode())
    return kept


def read_result(log: Path) -> dict[str, Any]:
    """Return the last line of a finished seed."""
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])


def dip(train: list[bool], warmup: int) -> float:
    """Return the lowest success over any `WINDOW` consecutive training episodes after warm-up."""
    after = train[warmup:]
    windows = [np.mean(after[i : i + WINDOW]) for i in range(max(1, len(after) - WINDOW + 1))]
    return float(min(windows))


def summary(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures over seeds, and print one row per seed."""
    from resfit_core.evaluation import wilson

    rows = []
    print(
        f"\n{name}\n{'seed':>4} {'base':>6} {'residual':>9} {'95 % interval':>16} "
        f"{'dip':>5} {'steps':>7}"
    )
    for seed, result in results:
        n, k = len(result["residual"]), sum(result["residual"])
        low, high = wilson(k, n)
        row = {
            "seed": seed,
            "n": n,
            "base": float(np.mean(result["base"])),
            "base_ci95": wilson(sum(result["base"]), n),
            "residual": k / n,
            "residual_ci95": (low, high),
            "dip": dip(result["train"], result["config"]["warmup_episodes"]),
            "env_steps": result["env_steps"],
            "updates": result["updates"],
            "wall_s": result["wall_s"],
            "evals": result["evals"],
            "train_by_20": [
                float(np.mean(result["train"][i : i + WINDOW]))
                for i in range(0, len(result["train"]), WINDOW)
            ],
        }
        rows.append(row)
        print(
            f"{seed:>4} {row['base']:>6.3f} {row['residual']:>9.3f} "
            f"{f'{low:.3f} .. {high:.3f}':>16} {row['dip']:>5.2f} {row['env_steps']:>7}"
        )
    return {
        "name": name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "time": time.strftime("%Y-%m-%d"),
        "episodes": len(results[0][1]["train"]),
        "residual_mean": float(np.mean([r["residual"] for r in rows])),
        "residual_worst": float(np.min([r["residual"] for r in rows])),
        "base_mean": float(np.mean([r["base"] for r in rows])),
        "dip_worst": float(np.min([r["dip"] for r in rows])),
        "config": results[0][1]["config"],
        "seeds": rows,
    }


def main() -> None:
    """Run what is missing, print the table, write the JSON."""
    shipped = ROOT / "config" / "shipped"
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--name", default="default", help="of the results")
    parse.add_argument("--task", default="woolly_ball_pnp")
    parse.add_argument("--observation", default="state", help="the task's observation variant")
    parse.add_argument("--train-config", default="default", help="name in config/train, or a file")
    parse.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings changed"
    )
    parse.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parse.add_argument("--episodes", type=int, default=300)
    parse.add_argument("--eval-every", type=int, default=0)
    parse.add_argument("--eval-episodes", type=int, default=50)
    parse.add_argument("--final-episodes", type=int, default=200)
    parse.add_argument(
        "--eval-seed", type=int, default=0, help="first evaluation scene; 0: the reported ones"
    )
    parse.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parse.add_argument("--base", default="", help="checkpoint; empty: the shipped one")
    parse.add_argument("--demos", default="", help="folder of bags; empty: the shipped ones")
    args = parse.parse_args()
    import yaml

    config = Path(args.train_config)
    if not config.suffix:
        config = ROOT / "config" / "train" / f"{args.train_config}.yaml"
    folder = RESULTS / "learning"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        {
            **{
                k: getattr(args, k)
                for k in ("name", "task", "observation", "episodes", "eval_every")
            },
            "eval_episodes": args.eval_episodes,
            "final_episodes": args.final_episodes,
            "eval_seed": args.eval_seed,
            "seed": seed,
            "set": {k: yaml.safe_load(v) for k, v in (item.split("=", 1) for item in args.set)},
            "train_config": str(config),
            "base": args.base or str(shipped / args.task / f"base_{args.observation}.safetensors"),
            "demos": args.demos or str(shipped / args.task / "demos"),
            "log": str(folder / f"{args.name}_{seed}.jsonl"),
        }
        for seed in args.seeds
    ]
    missing = [job for job in jobs if not Path(job["log"]).exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(min(args.processes, len(missing))) as pool:
            for _ in pool.imap_unordered(run_seed, missing):
                pass
    found = summary(args.name, [(job["seed"], read_result(Path(job["log"]))) for job in jobs])
    (RESULTS / f"learning_{args.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"learning: name={args.name} seeds={len(jobs)} episodes={found['episodes']} "
        f"base={found['base_mean']:.3f} residual={found['residual_mean']:.3f} "
        f"worst={found['residual_worst']:.3f} dip={found['dip_worst']:.2f}"
    )


if __name__ == "__main__":
    main()
