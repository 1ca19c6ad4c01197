"""Training with our learner: what `resfit`, `rlpd` and `ibrl` share."""

from __future__ import annotations

import time

from resfit_core.checkpoint import has_checkpoint
from resfit_core.control.guard import Verdict
from resfit_core.learner import Learner
from resfit_core.loop import LoopConfig, train
from resfit_core.residual import ResidualPolicy
from resfit_core.train.job import Job, Result

SAVE_EVERY_S = 60.0
_UNBOUNDED = 1_000_000  # episodes; there are no more training seeds


def learn(job: Job, learner: Learner, policy: ResidualPolicy) -> Result:
    """Train to the end of the schedule, or go on from the checkpoint, and judge the outcome.

    A checkpoint is written at the first episode end after a minute and at the end of training.
    When it is written changes no number, so the clock may decide it.

    Args:
        job: what to train.
        learner: new, without demos.
        policy: new, without weights.
    """
    schedule = job.schedule
    if job.resume and has_checkpoint(job.checkpoints):
        learner.load(job.checkpoints)
        job.keep_records(learner.episodes)
    else:
        job.keep_records(-1)
        learner.add_demos(job.demos)
    saved_s = time.monotonic()

    def save_now_and_then() -> None:
        nonlocal saved_s
        done = schedule.steps <= learner.env_steps
        if done or time.monotonic() - saved_s >= SAVE_EVERY_S:
            learner.save(job.checkpoints)
            saved_s = time.monotonic()

    train(
        job.env,
        job.base,
        learner,
        policy,
        LoopConfig(
            episodes=_UNBOUNDED,
            run_seed=job.config.seed,
            eval_episodes=schedule.eval_episodes,
            final_episodes=schedule.final_episodes,
            steps=schedule.steps,
            eval_every_steps=schedule.eval_every,
            eval_seed=schedule.eval_seed,
        ),
        on_episode=job.record,
        judge=lambda count, use: job.verdicts(policy, count, use_residual=use),
        after_episode=save_now_and_then,
        history=[
            Verdict(record["weights_version"] > 0, record["success"])
            for record in job.records
            if record["kind"] == "episode"
        ],
    )
    return Result(
        env_steps=learner.env_steps,
        updates=learner.updates,
        utd_target=job.config.utd,
        utd_achieved=learner.utd_achieved,
    )
