"""The table of `make bench-methods`: which runs there are. Data, and what follows from it alone.

A cell is one training run: task, algorithm, settings, seed. Groups may share cells: the default
run of a task is in the comparison of baselines, in the ablations and in the dip table at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from resfit_core.algorithms import settings
from resfit_core.train.job import config_class

ROOT = Path(__file__).resolve().parents[1]
METAWORLD = ROOT / "runs" / "metaworld"
FIRST_STEPS, FIRST_EVERY = 6_000, 500  # the span in which the dip is looked for
LONG_STEPS, LONG_EVERY = 25_000, 2_500
EVAL_EPISODES, FINAL_EPISODES = 100, 200


@dataclasses.dataclass(frozen=True)
class Task:
    """Where a task's environment, base and demonstrations are.

    Attributes:
        name: as in results and on the command line.
        env: `module:factory` of a Gymnasium environment, or "" for a task of the twin.
        horizon: most steps of an episode, for the estimate of the computing.
        config: our settings for it, a file in config/train; "" for the library's defaults.
        step_ms: CPU time of one environment step with the base and the actor, for the estimate.
    """

    name: str
    env: str
    horizon: int
    config: str
    step_ms: float

    def missing(self) -> str:
        """Return what must be made before the task can run, in words; empty: nothing."""
        if self.name == "reach":
            return ""
        if self.env:
            ready = (METAWORLD / self.name / "base.pt").exists()
            return "" if ready else "run `python3 benchmarks/metaworld/setup.py`"
        base = ROOT / "config" / "shipped" / self.name / "base_state.safetensors"
        return "" if base.exists() else f"no {base.relative_to(ROOT)}"


TASKS = {
    task.name: task
    for task in (
        Task("woolly_ball_pnp", "", 160, "default", 1.6),
        Task("package_handover", "", 300, "package_handover", 1.8),
        Task("hand-insert-v3", "benchmarks.metaworld.tasks:hand_insert", 150, "", 0.55),
        Task("basketball-v3", "benchmarks.metaworld.tasks:basketball", 200, "", 0.4),
        Task("soccer-v3", "benchmarks.metaworld.tasks:soccer", 200, "", 0.6),
        Task("reach", "reach:make", 40, "", 0.5),  # examples/reach, for --smoke alone
    )
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with one rhythm of evaluation; the next phase resumes where it ends.

    Attributes:
        steps: environment steps from the very start.
        every: steps between evaluations.
        episodes: scenes of each evaluation.
    """

    steps: int
    every: int
    episodes: int = EVAL_EPISODES


DENSE = (Phase(FIRST_STEPS, FIRST_EVERY),)
SPARSE = (Phase(LONG_STEPS, LONG_EVERY),)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        task: name in `TASKS`.
        algo: name in `resfit_core.train`.
        name: of the settings, as the table shows it.
        config: `ours` (the task's file or the library's defaults), `own` (the algorithm's
            published defaults) or a name in config/train.
        settings: `key=value` on top.
        seed: of the run.
        phases: how long, and when evaluations come.
        final: scenes of the last evaluation.
    """

    task: str
    algo: str
    name: str
    config: str
    settings: tuple[str, ...] = ()
    seed: int = 0
    phases: tuple[Phase, ...] = SPARSE
    final: int = FINAL_EPISODES

    @property
    def key(self) -> str:
        """Name of its result file and its output folder."""
        return f"{self.task}__{self.algo}__{self.name}__s{self.seed}".replace(" ", "_")

    @property
    def row(self) -> tuple[str, str, str]:
        """What its seeds have in common."""
        return self.task, self.algo, self.name

    def config_file(self) -> Path | None:
        """Return the settings file; None: the algorithm's own defaults."""
        name = TASKS[self.task].config if self.config == "ours" else self.config
        return None if name in ("", "own") else ROOT / "config" / "train" / f"{name}.yaml"

    def changes(self) -> tuple[str, ...]:
        """Return the `key=value` pairs of its command: only the twin has a task-space view."""
        raw = ("critic_view=raw",) if TASKS[self.task].env else ()
        return (*self.settings, *raw)

    def resolved(self) -> dict[str, Any]:
        """Return every setting of the run, defaults included.

        Raises:
            ConfigError: a key is unknown or a value unfit.
        """
        kind, file = config_class(self.algo), self.config_file()
        config = settings.from_yaml(kind, file) if file else kind()
        pairs = (text.partition("=") for text in self.changes())
        values = {key: yaml.safe_load(value) for key, _, value in pairs}
        found = settings.from_mapping(kind, {**config.to_dict(), **values}, self.key)
        return found.replace(seed=self.seed).to_dict()

    def spec(self) -> dict[str, Any]:
        """Return everything in the table that decides the outcome, as plain values."""
        plain = {**dataclasses.asdict(self), "resolved": self.resolved()}
        return json.loads(json.dumps(plain))


def same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether two specs ask for the same run.

    A setting that only one of them knows does not count: it came or went with the code, and a new
    one leaves by its default everything as it was.
    """
    old, new = before.get("resolved", {}), now["resolved"]
    rest = [{k: v for k, v in spec.items() if k != "resolved"} for spec in (before, now)]
    return rest[0] == rest[1] and all(old[key] == new[key] for key in old.keys() & new.keys())


def seeds(count: int, task: str, algo: str, name: str, config: str, *changes: str) -> list[Cell]:
    """Return the cells of one row."""
    return [Cell(task, algo, name, config, changes, seed) for seed in range(count)]


def starts(task: str, name: str, config: str, *changes: str) -> list[Cell]:
    """Return the cells of one row of the dip table: the first steps alone, evaluated densely.

    A run is decided by its settings and seed, so these are the first steps of the long runs.
    """
    return [
        Cell(task, "resfit", name, config, changes, seed, DENSE, EVAL_EPISODES)
        for seed in range(3)
    ]


MAIN_TASKS = ("woolly_ball_pnp", "basketball-v3")
DIP_TASKS = (
    "woolly_ball_pnp",
    "package_handover",
    "hand-insert-v3",
    "basketball-v3",
    "soccer-v3",
)
ABLATION_TASK = "basketball-v3"
BASELINES = ("rlpd", "ibrl", "filtered_bc", "residual_ppo")
#: What each baseline is tried with beside its published settings.
SWEEP = {
    "rlpd": (
        ("utd 20, n-step 1", "utd=20", "n_step=1"),  # as Ball et al. have it
        ("utd 8", "utd=8"),
        ("n-step 5", "n_step=5"),
        ("actor lr 1e-4", "actor_lr=1e-4"),
    ),
    "ibrl": (("noise .05", "exploration_std=0.05"), ("n-step 5", "n_step=5"), ("utd 4", "utd=4")),
    "filtered_bc": (("every 5", "bc_every=5"), ("1000 updates", "bc_updates=1000")),
    "residual_ppo": (
        ("batch 2048", "ppo_batch_steps=2048"),
        ("10 epochs", "ppo_epochs=10"),
        ("smaller noise", "ppo_log_std=-2.5"),
    ),
}
#: On the twin also with what our default has there: critic in task space, idle joints left alone.
SWEEP_TWIN = {
    "rlpd": (("task space", "critic_view=task_space"),),
    "ibrl": (("task space", "critic_view=task_space"),),
    "residual_ppo": (
        ("used joints", "residual_scale={right_arm: 0.1, right_hand: 0.1, default: 0.0}"),
    ),
}
#: The published 10,000 steps of warm-up would outlast the dip's span; the rest is as published.
PAPER_WARMUP = ("warmup_episodes=10",)
#: An update 1,024 wide takes a third of the time; factors of products are rounded to bfloat16.
FAST = ("kernels=native", "matmul_dtype=bfloat16")
#: The published recipe with nets a quarter as wide, for whom 1,024 is too much to wait for.
NARROW = ("critic_width=256", "actor_width=256")
#: Ours in all but what keeps the actor near the base: it ascends the heads' mean, as published.
PUBLISHED_ACTOR = ("actor_pessimism=0", "actor_base_weight=0", "guard_confidence=0")
#: One setting changed, two seeds. What equals the default is the default's own row.
ABLATIONS = (
    ("published actor", *PUBLISHED_ACTOR),
    ("no LayerNorm", "layer_norm=false"),
    ("no demos", "demo_fraction=0"),
    *((f"utd {value}", f"utd={value}") for value in (0.25, 0.5, 2, 4, 8)),
    *((f"n-step {value}", f"n_step={value}") for value in (1, 3, 7, 9)),
    *((f"scale {value}", f"residual_scale={value}") for value in (0.05, 0.1, 0.3, 0.5)),
)


def groups() -> dict[str, list[Cell]]:
    """Return every group of the table; a cell may be in several."""
    baselines = [
        cell
        for task in MAIN_TASKS
        for cell in (
            *seeds(3, task, "resfit", "default", "ours"),
            *(c for algo in BASELINES for c in seeds(3, task, algo, "default", "own")),
        )
    ]
    sweep = [
        cell
        for task in MAIN_TASKS
        for algo in BASELINES
        for name, *changes in (
            *SWEEP[algo],
            *(() if TASKS[task].env else SWEEP_TWIN.get(algo, ())),
        )
        for cell in seeds(1, task, algo, name, "own", *changes)
    ]
    ablations = seeds(2, ABLATION_TASK, "resfit", "default", "ours") + [
        cell
        for name, *changes in ABLATIONS
        for cell in seeds(2, ABLATION_TASK, "resfit", name, "ours", *changes)
    ]
    dip = [
        cell
        for task in DIP_TASKS
        for cell in (
            *starts(task, "start", "ours"),
            *starts(task, "start, published actor", "ours", *PUBLISHED_ACTOR),
            *starts(task, "start, paper, 256 wide", "paper", *PAPER_WARMUP, *NARROW, *FAST),
            *starts(task, "start, paper", "paper", *PAPER_WARMUP, *FAST),
        )
    ]
    metaworld = [
        cell
        for task in DIP_TASKS
        if TASKS[task].env
        for cell in seeds(3, task, "resfit", "default", "ours")
    ]
    return {
        "baselines": baselines,
        "sweep": sweep,
        "ablations": ablations,
        "dip": dip,
        "metaworld": metaworld,
    }


def smoke_groups() -> dict[str, list[Cell]]:
    """Return a table of minutes on examples/reach: every path of the runner, no result."""
    phases = (Phase(400, 200, 4), Phase(800, 400, 4))
    small = ("warmup_episodes=2", "critic_warmup_updates=20", "batch_size=32")
    cells = [
        Cell("reach", "resfit", "default", "ours", small, seed, phases, 8) for seed in range(2)
    ]
    cells.append(Cell("reach", "rlpd", "default", "own", small, 0, phases[1:], 8))
    return {
        "baselines": cells,
        "sweep": [],
        "ablations": cells[:2],
        "dip": cells[:2],
        "metaworld": [],
    }


# CPU milliseconds of one update on one core of a shared two-core machine, for the estimate of rows
# of which no seed has finished. `ours` and `own` are widths 128 and 256 at batch 128.
UPDATE_MS = {"ours": 7.0, "own": 7.0, "paper": 80.0, "paper, narrow": 9.5}
UTD = {"resfit": 1.0, "rlpd": 4.0, "ibrl": 2.5, "filtered_bc": 1.0, "residual_ppo": 0.02}


def estimate_s(cell: Cell) -> float:
    """Return roughly how many CPU seconds a cell takes, where none of its row has finished."""
    task, steps = TASKS[cell.task], cell.phases[-1].steps
    utd = 4.0 if cell.config == "paper" else UTD[cell.algo]
    for text in cell.settings:
        key, _, value = text.partition("=")
        utd = float(value) if key == "utd" else utd
    # `--eval-once`: the base's first scenes and the outcome's last ones are known at the end.
    played = 2 * cell.final - cell.phases[-1].episodes
    before = 0
    for phase in cell.phases:
        played += phase.episodes * ((phase.steps - before) // phase.every)
        before = phase.steps
    env_ms = (steps + 0.75 * played * task.horizon) * task.step_ms
    narrow = cell.config == "paper" and set(NARROW) <= set(cell.settings)
    update_ms = UPDATE_MS["paper, narrow" if narrow else cell.config]
    updates = cell.resolved()["critic_warmup_updates"] + steps * utd
    return (env_ms + updates * update_ms) / 1000
