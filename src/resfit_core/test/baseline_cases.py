"""The toy task as jobs for the baselines: settings whose updates take a millisecond."""

from __future__ import annotations

import numpy as np
import torch
import toy
from learning_cases import BASE, CONTRACT

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase
from resfit_core.train.job import ALGORITHMS, Job, Schedule, config_class

SCALE = np.full(2, 0.3, np.float32)
SPACE = ActionSpace(-np.ones(2), np.ones(2))
SMALL = {
    "heads": 4,
    "critic_width": 64,
    "actor_width": 64,
    "batch_size": 64,
    "n_step": 3,
    "gamma": 0.97,
    "warmup_episodes": 5,
    "critic_warmup_updates": 200,
}


class OffsetPolicy(torch.nn.Module):
    """`toy.MissingBase` with its offset as the only parameter."""

    def __init__(self, offset: float = 0.16) -> None:
        """Aim so far beside the goal, along x."""
        super().__init__()
        self.offset = torch.nn.Parameter(torch.tensor([offset, 0.0]))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return chunks of 5. Shape (batch, 4) to (batch, 5, 2)."""
        position, plan = obs[:, :2], []
        for _ in range(5):
            wanted = ((obs[:, 2:] + self.offset - position) / 0.1).clamp(-0.8, 0.8)
            position = position + 0.1 * wanted
            plan.append(wanted)
        return torch.stack(plan, 1)


def chunked_base(module: torch.nn.Module | None = None) -> ChunkedBase:
    """Return `OffsetPolicy` as the loop runs it; with `module` it brings that for copying."""
    net = OffsetPolicy()

    @torch.inference_mode()
    def plan(observation, images):
        del images
        return net(torch.from_numpy(np.array(observation[None])))[0].numpy()

    base = ChunkedBase(plan, toy.CHUNK, SPACE, BASE, CONTRACT)
    if module is not None:
        base.module = module
    return base


class Records(list):
    """Keeps what a job records, and cuts it as the front end does."""

    def keep(self, episodes: int) -> None:
        """Forget what came after that episode; -1: all."""
        self[:] = [one for one in self if one.get("episode", 0) <= episodes]

    def of(self, kind: str) -> list[dict]:
        """Return the records of one kind."""
        return [one for one in self if one["kind"] == kind]


def job(algo, out, *, steps, base=None, seed=0, resume=False, records=None, final=60, **changes):
    """Return a job on the toy, evaluated only at its end."""
    records = Records() if records is None else records
    config = config_class(algo).from_mapping({**SMALL, "seed": seed, **changes})
    return Job(
        algo=algo,
        env=toy.PegEnv(),
        eval_env=toy.PegEnv(),
        base=base or toy.MissingBase(),
        demos=toy.demos(10, CONTRACT, BASE),
        config=config,
        schedule=Schedule(steps=steps, eval_every=0, eval_episodes=20, final_episodes=final),
        obs_dim=4,
        act_dim=2,
        image_shapes={},
        scale=SCALE,
        control_rate_hz=20.0,
        contract_sha256=CONTRACT,
        base_sha256=BASE,
        out=out,
        resume=resume,
        record=records.append,
        records=records,
        keep_records=records.keep,
    )


def outcome(work: Job):
    """Run a job; return its result and the final success of base and outcome."""
    result = ALGORITHMS[work.algo](work)
    final = {one["policy"]: np.mean(one["verdicts"]) for one in work.records.of("final")}
    return result, final["base"], final["residual"]
