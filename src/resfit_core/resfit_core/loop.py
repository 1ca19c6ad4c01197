"""Synchronous training in one process: for experiments, benchmarks and any simulator.

The robot's graph does the same with nodes and topics. Warm-up, training and evaluation go through
the same `ResidualPolicy`, `Learner` and combine rule as there.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from resfit_core.base.protocol import BaseAction
from resfit_core.data.episode import EVALUATE, TRAIN, WARMUP, Episode
from resfit_core.learner import Learner
from resfit_core.residual import ResidualPolicy
from resfit_core.seeds import episode_seed


class StepResult(NamedTuple):
    """What one step of an environment gives; a plain (observation, success, done) will do."""

    observation: np.ndarray
    success: bool
    done: bool
    executed_action: np.ndarray | None = None


class Environment(Protocol):
    """A task with a sparse verdict."""

    def reset(self, seed: int) -> np.ndarray:
        """Start the scene of this seed; return the first observation, shape (obs_dim,)."""

    def step(self, action_norm: np.ndarray) -> StepResult:
        """Execute a normalised action. `done` without `success` is a time-out."""


class Base(Protocol):
    """The two verbs of `resfit_core.base.protocol.BasePolicy` that a rollout needs."""

    def reset(self) -> None:
        """Drop the chunk; the next action plans anew."""

    def act(self, observation: np.ndarray) -> BaseAction:
        """Return the next action of the chunk, planning a new one where it ended."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train and when to evaluate.

    Attributes:
        episodes: training episodes, warm-up included.
        run_seed: seed of the training scenes.
        eval_every: evaluate after so many training episodes; 0: only at the end.
        eval_episodes: seeds of each evaluation on the way.
        final_episodes: seeds of the last one, base and residual alike; 0: none.
    """

    episodes: int = 100
    run_seed: int = 0
    eval_every: int = 0
    eval_episodes: int = 20
    final_episodes: int = 100


def rollout(
    env: Environment,
    base: Base,
    policy: ResidualPolicy,
    *,
    seed: int,
    mode: int,
    number: int,
    use_residual: bool = True,
    contract_sha256: str = "",
    base_sha256: str = "",
) -> Episode:
    """Play one episode to its end and return it as it is stored."""
    observation = np.asarray(env.reset(seed), np.float32)
    base.reset()
    policy.begin_episode(seed, mode, use_residual)
    rows: list[tuple[np.ndarray, np.ndarray, float]] = []
    actions: list[np.ndarray] = []
    explored: list[bool] = []
    success = done = False
    while not (success or done):
        proposal = base.act(observation)
        rows.append((observation, proposal.action_norm, proposal.chunk_phase))
        action, noisy = policy.act(observation, proposal.action_norm, proposal.chunk_phase)
        result = StepResult(*env.step(action))
        executed = result.executed_action
        actions.append(action if executed is None else executed)
        explored.append(noisy)
        observation = np.asarray(result.observation, np.float32)
        success, done = bool(result.success), bool(result.done)
    # The last observation's base action comes from the unreset chunk: a time-out bootstraps on it.
    proposal = base.act(observation)
    rows.append((observation, proposal.action_norm, proposal.chunk_phase))
    observations, base_actions, phases = zip(*rows, strict=True)
    reward = np.zeros(len(actions), np.float32)
    reward[-1] = float(success)
    return Episode(
        observation=np.stack(observations),
        base_action=np.stack(base_actions),
        chunk_phase=np.array(phases),
        action=np.stack(actions),
        reward=reward,
        terminated=success,
        truncated=not success,
        intervention=np.zeros(len(actions), np.bool_),
        explored=np.array(explored),
        episode=number,
        mode=mode,
        seed=seed,
        success=success,
        contract_sha256=contract_sha256,
        base_sha256=base_sha256,
    )


def evaluate(
    env: Environment,
    base: Base,
    policy: ResidualPolicy,
    episodes: int,
    *,
    use_residual: bool = True,
) -> list[bool]:
    """Return the verdicts on the first evaluation seeds, without noise.

    Evaluation seeds never depend on the run, so base and residual meet the same scenes.
    """
    return [
        rollout(
            env,
            base,
            policy,
            seed=episode_seed("evaluate", index),
            mode=EVALUATE,
            number=index,
            use_residual=use_residual,
        ).success
        for index in range(episodes)
    ]


def train(
    env: Environment,
    base: Base,
    learner: Learner,
    policy: ResidualPolicy,
    config: LoopConfig,
    log_path: str | Path | None = None,
    on_episode: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run the whole schedule: warm-up, training, evaluations, final comparison.

    After each episode all owed updates are done and the newest weights applied.

    Args:
        env: the task.
        base: the frozen base.
        learner: with its demos already added.
        policy: acts; gets the learner's weights.
        config: the schedule.
        log_path: a JSON line per episode and evaluation is appended here.
        on_episode: called with the same record.

    Returns:
        Final verdicts and totals: `base`, `residual` (success lists), `train` (success of each
        training episode), `evals`, `env_steps`, `updates`, `wall_s`.
    """
    begin = time.monotonic()
    verdicts: list[bool] = []
    evals: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        record["wall_s"] = round(time.monotonic() - begin, 3)
        if log_path is not None:
            with Path(log_path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if on_episode is not None:
            on_episode(record)

    for number in range(1, config.episodes + 1):
        mode = TRAIN if learner.learning_started else WARMUP
        episode = rollout(
            env,
            base,
            policy,
            seed=episode_seed("train", number - 1, config.run_seed),
            mode=mode,
            number=number,
            contract_sha256=learner.contract_sha256,
            base_sha256=learner.base_sha256,
        )
        verdicts.append(episode.success)
        learner.add_episode(episode)
        metrics = learner.train()
        if metrics["updates"]:
            policy.load(learner.weights_bytes(number))
        report(
            {
                "kind": "episode",
                "episode": number,
                "mode": mode,
                "success": episode.success,
                "steps": episode.steps,
                "env_steps": learner.env_steps,
                "total_updates": learner.updates,
                **metrics,
            }
        )
        if config.eval_every and number % config.eval_every == 0:
            success = evaluate(env, base, policy, config.eval_episodes)
            evals.append(_summary(success, learner, number))
            report({"kind": "eval", **evals[-1]})
    final = config.final_episodes
    result = {
        "base": evaluate(env, base, policy, final, use_residual=False),
        "residual": evaluate(env, base, policy, final),
        "train": verdicts,
        "evals": evals,
        "env_steps": learner.env_steps,
        "updates": learner.updates,
        "wall_s": time.monotonic() - begin,
    }
    report({"kind": "final", **{k: _mean(result[k]) for k in ("base", "residual")}})
    return result


def _mean(verdicts: Sequence[bool]) -> float | None:
    return float(np.mean(verdicts)) if len(verdicts) else None


def _summary(verdicts: Sequence[bool], learner: Learner, number: int) -> dict[str, Any]:
    return {
        "episode": number,
        "env_step": learner.env_steps,
        "success": _mean(verdicts),
        "n": len(verdicts),
    }
