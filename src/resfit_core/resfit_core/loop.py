"""Synchronous training in one process: for experiments, benchmarks and any simulator.

The robot's graph does the same with nodes and topics. Warm-up, training and evaluation go through
the same `ResidualPolicy`, `Learner` and combine rule as there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from resfit_core.base.protocol import BaseAction
from resfit_core.control.guard import Verdict
from resfit_core.data.episode import EVALUATE, TRAIN, WARMUP, Episode
from resfit_core.learner import Learner
from resfit_core.residual import ResidualPolicy
from resfit_core.seeds import episode_seed, training_seed

FIRST_EVAL_SEED = episode_seed("evaluate", 0)
MODE_WORDS = {WARMUP: "warmup", TRAIN: "train", EVALUATE: "evaluate"}


class Observation(NamedTuple):
    """What a task with images shows; one without returns the vector alone.

    Attributes:
        vector: shape (obs_dim,).
        images: camera to uint8 (H, W, 3), as the residual sees and the replay keeps them.
        full: likewise as the base sees them; None: the same ones.
    """

    vector: np.ndarray
    images: Mapping[str, np.ndarray] = {}
    full: Mapping[str, np.ndarray] | None = None


class StepResult(NamedTuple):
    """What one step of an environment gives; a plain (observation, success, done) will do.

    `done` alone is a time-out, which bootstraps; `failed` ended the task for good, without reward.
    """

    observation: np.ndarray | Observation
    success: bool
    done: bool
    executed_action: np.ndarray | None = None
    failed: bool = False


class Environment(Protocol):
    """A task with a sparse verdict."""

    def reset(self, seed: int) -> np.ndarray | Observation:
        """Start the scene of this seed; return the first observation, shape (obs_dim,)."""

    def step(self, action_norm: np.ndarray) -> StepResult:
        """Execute a normalised action. `done` without `success` is a time-out."""


class Base(Protocol):
    """The two verbs of `base.protocol.BasePolicy` that a rollout needs."""

    def reset(self) -> None:
        """Drop the chunk; the next action plans anew."""

    def act(self, observation: np.ndarray) -> BaseAction:
        """Return the next action of the chunk; images, where there are any, come second."""


class Policy(Protocol):
    """What acts on top of the base, or instead of it; `ResidualPolicy` is one."""

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Start an episode; without `use_residual` the base acts alone."""

    def act(
        self, observation: np.ndarray, base_action: np.ndarray, chunk_phase: float
    ) -> tuple[np.ndarray, bool]:
        """Return the normalised action, and whether it explores; `images=` where there are any."""

    def executed(self, action_norm: np.ndarray) -> None:
        """Take what was executed of the last action. Shape (act_dim,)."""

    def identity(self, use_residual: bool) -> str:
        """Name what acts in an evaluation now: within a run, equal names act alike."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train and when to evaluate.

    Attributes:
        episodes: most training episodes, warm-up included.
        run_seed: seed of the training scenes.
        eval_every: evaluate after so many training episodes; 0: only at the end.
        eval_episodes: seeds of each evaluation on the way.
        final_episodes: seeds of the last one, base and residual alike; 0: none.
        steps: training ends with the episode that reaches so many environment steps; 0: by
            `episodes` alone.
        eval_every_steps: evaluate before the first step and at the first episode end at or after
            each multiple of so many steps; 0: never.
        eval_seed: episode i of every evaluation uses `eval_seed + i`; training keeps away.
    """

    episodes: int = 100
    run_seed: int = 0
    eval_every: int = 0
    eval_episodes: int = 20
    final_episodes: int = 100
    steps: int = 0
    eval_every_steps: int = 0
    eval_seed: int = FIRST_EVAL_SEED

    def training_seed(self, index: int) -> int:
        """Return the scene seed of training episode `index`, from 0."""
        count = max(self.eval_episodes, self.final_episodes)
        seeds = range(self.eval_seed, self.eval_seed + count)
        return training_seed(index, self.run_seed, seeds)

    def ended(self, episodes: int, env_steps: int) -> bool:
        """Tell whether training is over after so many episodes and steps."""
        return episodes >= self.episodes or 0 < self.steps <= env_steps


def eval_due(every: int, before: int | None, now: int) -> bool:
    """Tell whether an episode from step `before` to step `now` reached a multiple of `every`.

    Args:
        every: steps between evaluations; 0: never.
        before: steps before the episode; None: none was played yet, which counts as reaching 0.
        now: steps after it.
    """
    return every > 0 and (before is None or before // every != now // every)


def rollout(
    env: Environment,
    base: Base,
    policy: Policy,
    *,
    seed: int,
    mode: int,
    number: int,
    use_residual: bool = True,
    contract_sha256: str = "",
    base_sha256: str = "",
) -> Episode:
    """Play one episode to its end and return it as it is stored; evaluations keep no images."""
    keeps = mode != EVALUATE
    seen = _observation(env.reset(seed), keeps)
    base.reset()
    policy.begin_episode(seed, mode, use_residual)
    rows: list[tuple[Observation, np.ndarray, float]] = []
    actions: list[np.ndarray] = []
    explored: list[bool] = []
    success = failed = done = False
    while not (success or failed or done):
        proposal = _propose(base, seen)
        rows.append((seen, proposal.action_norm, proposal.chunk_phase))
        shown = {"images": seen.images} if seen.images else {}
        action, noisy = policy.act(
            seen.vector, proposal.action_norm, proposal.chunk_phase, **shown
        )
        result = StepResult(*env.step(action))
        executed = result.executed_action
        actions.append(action if executed is None else executed)
        policy.executed(actions[-1])
        explored.append(noisy)
        seen = _observation(result.observation, keeps)
        success, done = bool(result.success), bool(result.done)
        failed = bool(result.failed) and not success
    # The last observation's base action comes from the unreset chunk: a time-out bootstraps on it.
    proposal = _propose(base, seen)
    rows.append((seen, proposal.action_norm, proposal.chunk_phase))
    observations, base_actions, phases = zip(*rows, strict=True)
    reward = np.zeros(len(actions), np.float32)
    reward[-1] = float(success)
    return Episode(
        observation=np.stack([o.vector for o in observations]),
        base_action=np.stack(base_actions),
        chunk_phase=np.array(phases),
        action=np.stack(actions),
        reward=reward,
        terminated=success or failed,
        truncated=not (success or failed),
        intervention=np.zeros(len(actions), np.bool_),
        explored=np.array(explored),
        episode=number,
        mode=mode,
        seed=seed,
        success=success,
        contract_sha256=contract_sha256,
        base_sha256=base_sha256,
        images={n: np.stack([o.images[n] for o in observations]) for n in seen.images if keeps},
    )


def evaluate(
    env: Environment,
    base: Base,
    policy: Policy,
    episodes: int,
    *,
    use_residual: bool = True,
    first_seed: int = FIRST_EVAL_SEED,
) -> list[bool]:
    """Return the verdicts on the first evaluation seeds, without noise.

    Evaluation seeds never depend on the run, so base and residual meet the same scenes.
    """
    how = {"mode": EVALUATE, "use_residual": use_residual}
    return [
        rollout(env, base, policy, seed=first_seed + index, number=index, **how).success
        for index in range(episodes)
    ]


def episode_record(
    episode: Episode,
    *,
    env_steps: int,
    updates: int,
    metrics: Mapping[str, float],
    use_residual: bool = True,
    weights_version: int = 0,
) -> dict[str, Any]:
    """Return the log record of a training episode.

    Args:
        episode: as it was played.
        env_steps: training steps so far, this episode's included.
        updates: gradient updates so far, those after this episode included.
        metrics: of those updates; plain numbers.
        use_residual: false: the base acted alone.
        weights_version: of the learned policy that acted; 0: none.
    """
    ended_by = "success" if episode.success else "failure" if episode.terminated else "timeout"
    return {
        "kind": "episode",
        "episode": episode.episode,
        "mode": episode.mode,
        "seed": episode.seed,
        "use_residual": use_residual,
        "weights_version": weights_version,
        "ended_by": ended_by,
        "success": episode.success,
        "steps": episode.steps,
        "env_steps": env_steps,
        "total_updates": updates,
        **metrics,
    }


def train(
    env: Environment,
    base: Base,
    learner: Learner,
    policy: ResidualPolicy,
    config: LoopConfig,
    log_path: str | Path | None = None,
    on_episode: Callable[[dict[str, Any]], None] | None = None,
    *,
    judge: Callable[[int, bool], list[bool]] | None = None,
    after_episode: Callable[[], None] | None = None,
    history: Sequence[Verdict] = (),
) -> dict[str, Any]:
    """Run the whole schedule: warm-up, training, evaluations, final comparison.

    After each episode all owed updates are done and the newest weights applied. A learner that
    was loaded from a checkpoint goes on with its next episode.

    Args:
        env: the task.
        base: the frozen base.
        learner: with its demos already added.
        policy: acts; gets the learner's weights.
        config: the schedule.
        log_path: a JSON line per episode and evaluation is appended here.
        on_episode: called with the same record.
        judge: plays so many evaluation scenes, with the residual or without; None: on `env`.
        after_episode: called when an episode, its updates and evaluations are done: the moment
            for a checkpoint.
        history: verdicts of the episodes that a resumed run played before, for the guard.

    Returns:
        Final verdicts and totals: `base`, `residual` (success lists), `train` (success of each
        training episode), `evals`, `env_steps`, `updates`, `wall_s`.
    """
    begin = time.monotonic()
    past = list(history)
    evals: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        record["wall_s"] = round(time.monotonic() - begin, 3)
        if log_path is not None:
            with Path(log_path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if on_episode is not None:
            on_episode(record)

    def judged(count: int, use: bool = True) -> list[bool]:
        if judge is not None:
            return judge(count, use)
        return evaluate(env, base, policy, count, use_residual=use, first_seed=config.eval_seed)

    guard = learner.config.guard()

    def look() -> None:
        # What would act now is judged; beside it the residual, where that is the base.
        why = guard.judge(past).on_trial if learner.updates else ""
        seen = judged(config.eval_episodes, not why)
        found: dict[str, Any] = {"episode": learner.episodes, "env_step": learner.env_steps}
        found |= {"success": _rate(seen), "n": len(seen)}
        if why and learner.algorithm.actor_updates:
            found |= {"on_trial": why, "alone": _rate(judged(config.eval_episodes))}
        evals.append(found)
        report({"kind": "eval", **found})

    if learner.updates:
        policy.load(learner.weights_bytes(learner.last_episode))
    if not learner.episodes and eval_due(config.eval_every_steps, None, 0):
        look()
    while not config.ended(learner.episodes, learner.env_steps):
        number, before = learner.episodes + 1, learner.env_steps
        tick = time.monotonic()
        mode = TRAIN if learner.learning_started else WARMUP
        back = guard.judge(past).stepped_back if mode == TRAIN else ""
        episode = rollout(
            env,
            base,
            policy,
            seed=config.training_seed(number - 1),
            mode=mode,
            number=number,
            use_residual=not back,
            contract_sha256=learner.contract_sha256,
            base_sha256=learner.base_sha256,
        )
        played = time.monotonic()
        version = policy.version if mode == TRAIN and not back else 0
        past.append(Verdict(version > 0, episode.success))
        learner.add_episode(episode)
        metrics = learner.train()
        if metrics["updates"]:
            policy.load(learner.weights_bytes(number))
        record = episode_record(
            episode,
            env_steps=learner.env_steps,
            updates=learner.updates,
            metrics=metrics,
            use_residual=not back,
            weights_version=version,
        )
        seconds = {"play_s": played - tick, "learn_s": time.monotonic() - played}
        record |= {name: round(value, 4) for name, value in seconds.items()}
        report(record | ({"stepped_back": back} if back else {}))
        by_episodes = config.eval_every and number % config.eval_every == 0
        if by_episodes or eval_due(config.eval_every_steps, before, learner.env_steps):
            look()
        if after_episode is not None:
            after_episode()
    final: dict[str, list[bool]] = {}
    for side in ("base", "residual"):
        final[side] = judged(config.final_episodes, side == "residual")
        report({"kind": "final", "policy": side, "verdicts": final[side]})
    return {
        **final,
        "train": [success for _, success in past],
        "evals": evals,
        "env_steps": learner.env_steps,
        "updates": learner.updates,
        "wall_s": time.monotonic() - begin,
    }


def _observation(seen: np.ndarray | Observation, keeps: bool) -> Observation:
    given = seen if isinstance(seen, Observation) else Observation(seen)
    images = dict(given.images) if keeps else given.images  # a simulator draws when asked
    return given._replace(vector=np.asarray(given.vector, np.float32), images=images)


def _propose(base: Base, seen: Observation) -> BaseAction:
    if not seen.images:
        return base.act(seen.vector)
    return base.act(seen.vector, seen.images if seen.full is None else seen.full)  # type: ignore[call-arg]


def _rate(verdicts: Sequence[bool]) -> float | None:
    return float(np.mean(verdicts)) if len(verdicts) else None
