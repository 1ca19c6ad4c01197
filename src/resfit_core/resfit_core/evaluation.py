"""The rollout behind every figure, and what the figures say.

Base, residual, combine rule and safety filter are the classes that the nodes run, in the same
order, so that a seed gives the same trajectory here and through the graph.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from resfit_core.base.checkpoint import load_base
from resfit_core.base.protocol import BasePolicy
from resfit_core.contract import Contract, load_contract
from resfit_core.control.observe import ObservationBuilder, Pictures, shrink
from resfit_core.control.safety import Reason, SafetyFilter
from resfit_core.data.episode import EVALUATE
from resfit_core.intervals import wilson as wilson


class EvaluationError(ValueError):
    """An evaluation that cannot be run; the text names value and fix."""


class Sensors(Protocol):
    """What a robot measures at one instant; see `resfit_sim.twin.Sensors`."""

    joint_position: np.ndarray
    joint_velocity: np.ndarray
    wrenches: np.ndarray  # of the contract's streams, (streams, 6)
    object_poses: np.ndarray


class Env(Protocol):
    """A robot with a task and an oracle; `resfit_sim.twin.Twin` is one."""

    def reset(self, seed: int) -> None:
        """Start the scene of this seed."""

    def step(self, target_rad: np.ndarray) -> None:
        """Drive the joints towards the targets [rad] for one control period."""

    def sensors(self) -> Sensors:
        """Return the measurements now."""

    @property
    def success(self) -> bool:
        """Whether the task was done at the last step."""


class Residual(Protocol):
    """The part of `resfit_core.residual.ResidualPolicy` that acts."""

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Start an episode."""

    def act(
        self,
        observation: np.ndarray,
        base_action: np.ndarray,
        chunk_phase: float,
        *,
        explore: bool = True,
    ) -> tuple[np.ndarray, bool]:
        """Return the combined action and whether noise was added; `images=` if there are any."""

    def executed(self, action_norm: np.ndarray) -> None:
        """Take what the last action became after the filter. Shape (action_dim,)."""


class SeedResult(NamedTuple):
    """How one seed went; steps that the force limit held, and the largest wrist force [N]."""

    seed: int
    success: bool
    steps: int
    held: int = 0
    peak_n: float = 0.0


class Tick(NamedTuple):
    """One step of a rollout, for recording and tests."""

    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: float
    action_norm: np.ndarray
    action_rad: np.ndarray
    reasons: int


class Observer:
    """Builds what a policy sees out of an env's sensors, as `base_policy` does out of messages."""

    def __init__(self, contract: Contract, *, small: bool = False) -> None:
        """Take the layout.

        Args:
            contract: names fields and cameras.
            small: images come as the residual sees them; else at full size.
        """
        self._contract, self._small = contract, small
        self._builder = ObservationBuilder(contract)
        self._pictures = Pictures((), lambda camera: np.empty(0))

    def observe(self, env: Env, sensors: Sensors) -> tuple[np.ndarray, Pictures]:
        """Return the flat observation and the contract's images, to be had until the next call."""
        flat = self._builder.build(
            sensors.joint_position,
            sensors.joint_velocity,
            sensors.wrenches,
            sensors.object_poses,
        )

        def draw(name: str) -> np.ndarray:
            camera = self._contract.camera(name)
            image = env.render(name, camera.width, camera.height)  # type: ignore[attr-defined]
            return shrink(image, self._contract.image_size) if self._small else image

        self._pictures.close()
        self._pictures = Pictures(self._contract.images, draw)
        return flat, self._pictures


def rollout(
    env: Env,
    base: BasePolicy,
    contract: Contract,
    seed: int,
    residual: Residual | None = None,
    on_tick: Callable[[Tick], None] | None = None,
) -> SeedResult:
    """Play one evaluation episode, without noise, to success or the horizon.

    Args:
        env: Robot and oracle.
        base: The frozen policy.
        contract: Horizon, limits, layout.
        seed: Of the scene.
        residual: Acts on top of the base; None: the base alone.
        on_tick: Called after every step.
    """
    observer, safety = Observer(contract), SafetyFilter(contract)
    env.reset(seed)
    sensors = env.sensors()
    safety.reset(sensors.joint_position)
    base.reset(seed)
    if residual is not None:
        residual.begin_episode(seed, EVALUATE, use_residual=True)
    held, peak_n = 0, 0.0
    for step in range(1, contract.horizon_steps + 1):
        observation, images = observer.observe(env, sensors)
        proposal = base.act(observation, images or None)
        action = proposal.action_norm
        if residual is not None:
            small = {n: shrink(image, contract.image_size) for n, image in images.items()}
            shown = {"images": small} if small else {}
            action, _ = residual.act(
                observation, action, proposal.chunk_phase, explore=False, **shown
            )
        wrenches = sensors.wrenches
        target, reasons = safety.filter(
            base.action_space.to_rad(action), sensors.joint_position, wrenches
        )
        held += bool(reasons & Reason.FORCE_LIMIT)
        peak_n = max([peak_n, *map(float, np.linalg.norm(wrenches[:, :3], axis=1))])
        env.step(target)
        if residual is not None:
            residual.executed(base.action_space.to_norm(target))
        if on_tick is not None:
            on_tick(
                Tick(
                    observation,
                    proposal.action_norm,
                    proposal.chunk_phase,
                    action,
                    target,
                    reasons,
                )
            )
        if env.success:
            return SeedResult(seed, True, step, held, peak_n)
        sensors = env.sensors()
    return SeedResult(seed, False, contract.horizon_steps, held, peak_n)


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything a worker process needs to build env and policies; all of it plain data.

    Attributes:
        robot_file: robot YAML.
        task_file: task YAML.
        variant: observation variant.
        base: file or `package.module:Callable`.
        env: `package.module:callable` that makes the env out of the contract.
        weights: file with residual weights; None: the base alone.
        train_file: train YAML of those weights; None: the defaults.
    """

    robot_file: str
    task_file: str
    variant: str
    base: str
    env: str
    weights: str | None = None
    train_file: str | None = None


def evaluate(
    job: Job,
    seeds: Sequence[int],
    processes: int = 2,
    on_result: Callable[[SeedResult], None] | None = None,
) -> list[SeedResult]:
    """Run every seed once; return the results in the order of the seeds.

    The result of a seed depends on nothing but job and seed, whatever the number of processes.

    Args:
        job: What to run.
        seeds: Scenes.
        processes: Worker processes; 0: run in this one.
        on_result: Called with each result as it comes, in any order.

    Raises:
        BaseError, WeightsError, ContractError: What the job names cannot be loaded.
    """
    results: dict[int, SeedResult] = {}

    def take(result: SeedResult) -> None:
        results[result.seed] = result
        if on_result is not None:
            on_result(result)

    processes = min(processes, len(seeds))
    if processes < 1:
        loaded = load(job)
        for seed in seeds:
            take(loaded.play(seed))
    else:
        load(dataclasses.replace(job, env=""))  # wrong files are said here, not by a worker
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes, _start_worker, (job,)) as pool:
            for result in pool.imap_unordered(_run_seed, seeds):
                take(result)
    return [results[seed] for seed in seeds]


class Loaded(NamedTuple):
    """What a job names, loaded. `env` is None where the job names none."""

    env: Any
    base: BasePolicy
    contract: Contract
    residual: Any

    def play(self, seed: int, on_tick: Callable[[Tick], None] | None = None) -> SeedResult:
        """Play one seed; see `rollout`."""
        return rollout(self.env, self.base, self.contract, seed, self.residual, on_tick)


def load(job: Job) -> Loaded:
    """Load contract, policies and env of a job.

    Raises:
        BaseError, WeightsError, ContractError, EvaluationError: What it names cannot be loaded.
    """
    import torch

    # One thread: workers share the cores, and sums keep their order.
    torch.set_num_threads(1)
    contract = load_contract(job.robot_file, job.task_file, job.variant)
    base = load_base(job.base, contract)
    residual = _residual(job, Path(job.weights), contract, base) if job.weights else None
    return Loaded(_make_env(job.env, contract) if job.env else None, base, contract, residual)


_job: Job | None = None
_loaded: Loaded | None = None


def _start_worker(job: Job) -> None:
    global _job
    _job = job


def _run_seed(seed: int) -> SeedResult:
    """Run in a worker; it loads here, for a pool replaces for ever what fails at its start."""
    global _loaded
    if _loaded is None:
        if _job is None:
            raise EvaluationError("worker was not told its job; use evaluate()")
        _loaded = load(_job)
    return _loaded.play(seed)


def _make_env(name: str, contract: Contract) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        maker = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise EvaluationError(
            f"env '{name}' cannot be had ({error}); give package.module:callable"
        ) from error
    return maker(contract)


def _residual(job: Job, weights: Path, contract: Contract, base: BasePolicy) -> Any:
    from resfit_core.algorithms.config import TrainConfig
    from resfit_core.build import build_policy

    config = TrainConfig.from_yaml(job.train_file) if job.train_file else TrainConfig()
    policy = build_policy(config, contract, base)
    policy.load(weights.read_bytes())
    return policy
