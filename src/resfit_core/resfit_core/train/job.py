"""What an algorithm gets, what it gives back, and which algorithms there are.

    def run(job: Job) -> Result: ...        in the algorithm's module, see `MODULES`
    Config = TrainConfig or a subclass      its settings; optional

`run` trains until `job.schedule.steps` environment steps and then judges base and outcome on the
same scenes. An off-policy algorithm with our learner builds `Learner` and policy and hands them to
`resfit_core.train.off_policy.learn`; one with its own loop uses the verbs of `Job`:

    if schedule.eval_due(None, 0): job.evaluate(policy, 0)      before the first step
    episode = job.play(policy, number, mode)                    one training episode, number from 1
    job.record(episode_record(episode, env_steps=..., updates=..., metrics=...))
    if schedule.eval_due(before, env_steps): job.evaluate(policy, env_steps)
    job.finish(policy)                                          the final figures
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.sight import Sight
from resfit_core.data.episode import Episode
from resfit_core.loop import Base, Environment, Policy, eval_due, evaluate, rollout
from resfit_core.nets.views import View
from resfit_core.seeds import training_seed

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to train and when to evaluate, in environment steps.

    Attributes:
        steps: training ends with the episode that reaches so many; warm-up counts.
        eval_every: evaluate before the first step and at the first episode end at or after each
            multiple of it; 0: only at the end.
        eval_episodes: scenes of each evaluation on the way.
        eval_seed: episode i of every evaluation is `reset(seed=eval_seed + i)`.
        final_episodes: scenes of the last one, of base and outcome alike; 0: none.
        eval_once: a scene that a policy was judged on is not played again while the policy stays
            as it is; for environments where seed and actions decide an episode.
    """

    steps: int = 25_000
    eval_every: int = 2_500
    eval_episodes: int = 50
    eval_seed: int = 1_000_000
    final_episodes: int = 200
    eval_once: bool = False

    def eval_due(self, before: int | None, now: int) -> bool:
        """Tell whether the episode from step `before` to step `now` asks for an evaluation.

        Args:
            before: steps before the episode; None: nothing was played yet.
            now: steps after it.
        """
        return eval_due(self.eval_every, before, now)

    @property
    def eval_seeds(self) -> range:
        """Every seed that an evaluation uses; training never does."""
        count = max(self.eval_episodes, self.final_episodes)
        return range(self.eval_seed, self.eval_seed + count)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Everything that one training needs, loaded and checked.

    Attributes:
        algo: name in `ALGORITHMS`.
        env: training environment, actions normalised to [-1, 1].
        eval_env: a second instance, for evaluations only.
        base: the frozen base policy with its chunk queue (`act(observation, images)`, `reset()`).
        demos: demonstrations, each a success, relabelled with the base's actions.
        config: the algorithm's settings; an instance of its module's `Config`.
        schedule: steps and evaluations.
        obs_dim: length of the flat observation.
        act_dim: number of action dimensions.
        image_shapes: camera to (H, W, 3), uint8; empty for flat observations.
        scale: reach of the residual per action dimension, normalised. Shape (act_dim,).
        control_rate_hz: turns correlation times into steps [Hz].
        contract_sha256: hash of spaces and action range; every episode and checkpoint carries it.
        base_sha256: hash of the base policy.
        out: output folder. Algorithms write into `out / "checkpoints"` only.
        resume: go on from `out / "checkpoints"` where that exists.
        record: takes one record (see `episode_record`): progress file, TensorBoard, display.
        records: what was recorded so far, in order; after a resume the part up to the checkpoint.
        keep_records: cut `records` to what a checkpoint knows; called once, at a resume.
        view: what actor and critic see, where a robot's contract gives one; None: the vectors.
        known: verdicts by the policy's identity, in the scenes' order; kept for `eval_once`.
        sight: what the base sees in the images, where actor and critic see by it; or None.
    """

    algo: str
    env: Environment
    eval_env: Environment
    base: Base
    demos: Sequence[Episode]
    config: TrainConfig
    schedule: Schedule
    obs_dim: int
    act_dim: int
    image_shapes: Mapping[str, tuple[int, int, int]]
    scale: np.ndarray
    control_rate_hz: float
    contract_sha256: str
    base_sha256: str
    out: Path
    resume: bool
    record: Callable[[Record], None]
    records: Sequence[Record]
    keep_records: Callable[[int], None]
    view: View | None = None
    known: dict[str, list[bool]] = dataclasses.field(default_factory=dict)
    sight: Sight | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the algorithm's checkpoints."""
        return self.out / "checkpoints"

    def training_seed(self, index: int) -> int:
        """Return the scene seed of training episode `index`, from 0; never one of evaluation."""
        return training_seed(index, self.config.seed, self.schedule.eval_seeds)

    def play(
        self, policy: Policy, number: int, mode: int, *, use_residual: bool = True
    ) -> Episode:
        """Play one training episode to its end.

        Args:
            policy: acts on top of the base, or instead of it.
            number: of the episode, from 1; decides its scene.
            mode: WARMUP or TRAIN of `resfit_core.data.episode`.
            use_residual: False: the base acts alone.
        """
        return rollout(
            self.env,
            self.base,
            policy,
            seed=self.training_seed(number - 1),
            mode=mode,
            number=number,
            use_residual=use_residual,
            contract_sha256=self.contract_sha256,
            base_sha256=self.base_sha256,
        )

    def evaluate(self, policy: Policy, env_step: int, episode: int = 0) -> list[bool]:
        """Play the evaluation scenes without noise, record and return the verdicts.

        Args:
            policy: as it would be deployed now.
            env_step: training steps so far.
            episode: training episodes so far.
        """
        verdicts = self.verdicts(policy, self.schedule.eval_episodes)
        success = sum(verdicts) / len(verdicts) if verdicts else None
        self.record(
            {
                "kind": "eval",
                "episode": episode,
                "env_step": env_step,
                "success": success,
                "n": len(verdicts),
            }
        )
        return verdicts

    def finish(self, policy: Policy) -> tuple[list[bool], list[bool]]:
        """Judge base alone and outcome on the same final scenes; record and return verdicts."""
        sides = []
        for name, use_residual in (("base", False), ("residual", True)):
            verdicts = self.verdicts(
                policy, self.schedule.final_episodes, use_residual=use_residual
            )
            self.record({"kind": "final", "policy": name, "verdicts": verdicts})
            sides.append(verdicts)
        return sides[0], sides[1]

    def verdicts(self, policy: Policy, count: int, *, use_residual: bool = True) -> list[bool]:
        """Play the first `count` evaluation scenes without noise, or those not known yet."""
        known: list[bool] = []
        if self.schedule.eval_once:
            known = self.known.setdefault(policy.identity(use_residual), known)
        known += evaluate(
            self.eval_env,
            self.base,
            policy,
            max(0, count - len(known)),
            use_residual=use_residual,
            first_seed=self.schedule.eval_seed + len(known),
        )
        return known[:count]


@dataclasses.dataclass(frozen=True)
class Result:
    """How a training ended.

    Attributes:
        env_steps: training steps, warm-up included.
        updates: gradient updates of the algorithm's own kind (critic updates where it has one).
        utd_target: updates per step aimed at; None where that is no notion of the algorithm.
        utd_achieved: updates per step achieved since learning started; likewise.
        extra: further plain values for `report.json`, under the key `extra`. No wall times.
    """

    env_steps: int
    updates: int
    utd_target: float | None = None
    utd_achieved: float | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


MODULES = {
    "resfit": "resfit_core.train.resfit",
    "rlpd": "resfit_core.baselines.rlpd",
    "ibrl": "resfit_core.baselines.ibrl",
    "filtered_bc": "resfit_core.baselines.filtered_bc",
    "residual_ppo": "resfit_core.baselines.residual_ppo",
}
"""Where each algorithm's `run(job)` and `Config` are; imported when it is asked for."""


def _by_name(name: str) -> Callable[[Job], Result]:
    def run(job: Job) -> Result:
        return importlib.import_module(MODULES[name]).run(job)

    return run


ALGORITHMS: dict[str, Callable[[Job], Result]] = {name: _by_name(name) for name in MODULES}


def config_class(name: str) -> type[TrainConfig]:
    """Return the settings class of an algorithm: its module's `Config`, else `TrainConfig`."""
    return getattr(importlib.import_module(MODULES[name]), "Config", TrainConfig)
