"""Make demonstrations and a chunked base policy for a Meta-World task.

    .venv-metaworld/bin/python -m benchmarks.metaworld.prepare hand-insert-v3

Writes `runs/metaworld/<task>/`: `demos.npz` (`obs`, `actions`, `episode_ends`), `base.pt`
(TorchScript, (B, obs_dim) -> (B, chunk, act_dim), normalisation inside) and `info.json` (what was
made and the base's success on the evaluation seeds). One seed, one thread and one machine give the
same files. The base is as good as its few demonstrations make it, and no better.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import metaworld.policies
import numpy as np
import torch
from benchmarks.metaworld.tasks import FACTORIES, HORIZONS, MetaWorldTask
from torch import nn

from resfit_core.evaluation import wilson
from resfit_core.seeds import episode_seed

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a task's data and base are made.

    Attributes:
        expert: Meta-World's scripted policy.
        demos: successful demonstrations kept. Few on purpose: this sets how good the base is.
        chunk: actions that the base plans at once and runs open loop.
        updates: gradient steps of behaviour cloning.
    """

    expert: str
    demos: int
    chunk: int = 10
    updates: int = 4000


RECIPES = {
    "hand-insert-v3": Recipe("SawyerHandInsertV3Policy", demos=30),
    "basketball-v3": Recipe("SawyerBasketballV3Policy", demos=30),
    "soccer-v3": Recipe("SawyerSoccerV3Policy", demos=40),
}


class Hand:
    """What a person adds to the script: a speed of their own, tremor, drift and short pauses."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw this demonstration's speed."""
        self._rng = rng
        self._speed = rng.uniform(0.85, 1.0)
        self._drift = np.zeros(3)
        self._pause = 0

    def move(self, scripted: np.ndarray) -> np.ndarray:
        """Return the action of a person who wants `scripted`, in [-1, 1]."""
        rng = self._rng
        # First-order noise of deviation .08 that holds for about ten steps; white tremor on top.
        self._drift = 0.9 * self._drift + 0.08 * math.sqrt(1 - 0.9**2) * rng.normal(size=3)
        if self._pause == 0 and rng.random() < 0.005:
            self._pause = int(rng.integers(2, 6))
        action = np.clip(scripted, -1.0, 1.0).astype(np.float64)
        speed = self._speed
        if self._pause:
            self._pause -= 1
            speed = 0.1
        action[:3] = speed * action[:3] + self._drift + 0.03 * rng.normal(size=3)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


class ChunkPolicy(nn.Module):
    """A small net from one observation to a chunk of actions, normalisation inside."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, chunk: int, act_dim: int) -> None:
        """Store the statistics and build the net."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.chunk, self.act_dim = chunk, act_dim
        self.net = nn.Sequential(
            nn.Linear(mean.numel(), 256),
            nn.LayerNorm(256),
            nn.GELU(),
            nn.Linear(256, 256),
            nn.LayerNorm(256),
            nn.GELU(),
            nn.Linear(256, chunk * act_dim),
        )

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions, shape (batch, chunk, act_dim), for observations (batch, obs_dim)."""
        out = self.net((obs - self.mean) / self.std)
        return torch.clamp(out.view(-1, self.chunk, self.act_dim), -1.0, 1.0)


def collect(env: MetaWorldTask, recipe: Recipe, seed: int) -> dict[str, np.ndarray]:
    """Return successful demonstrations: `obs`, `actions`, `episode_ends`, and `tries`."""
    rng = np.random.default_rng(seed)
    expert = getattr(metaworld.policies, recipe.expert)()
    obs_all: list[np.ndarray] = []
    actions_all: list[np.ndarray] = []
    ends: list[int] = []
    tries = 0
    while len(ends) < recipe.demos:
        observation, _ = env.reset(seed=episode_seed("demo", tries))
        tries += 1
        hand = Hand(rng)
        rows: list[np.ndarray] = []
        actions: list[np.ndarray] = []
        success = truncated = False
        while not (success or truncated):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the script's gains ask for more than the limit
                action = hand.move(expert.get_action(env.meta_observation))
            rows.append(observation)
            actions.append(action)
            observation, _, success, truncated, _ = env.step(action)
        if success:
            obs_all += rows
            actions_all += actions
            ends.append(len(obs_all))
    return {
        "obs": np.stack(obs_all),
        "actions": np.stack(actions_all),
        "episode_ends": np.array(ends, np.int64),
        "tries": np.array(tries),
    }


def fit(demos: dict[str, np.ndarray], recipe: Recipe, seed: int) -> ChunkPolicy:
    """Clone the demonstrations; beyond an episode's end the last action is repeated."""
    torch.manual_seed(seed)
    obs, actions = torch.from_numpy(demos["obs"]), torch.from_numpy(demos["actions"])
    ends = demos["episode_ends"]
    last = np.repeat(ends - 1, np.diff(np.concatenate([[0], ends])))
    index = np.minimum(np.arange(len(obs))[:, None] + np.arange(recipe.chunk), last[:, None])
    chunks = actions[torch.from_numpy(index)]
    policy = ChunkPolicy(
        obs.mean(0), obs.std(0).clamp_min(1e-2), recipe.chunk, int(actions.shape[1])
    )
    optimiser = torch.optim.AdamW(policy.net.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.updates)
    for _ in range(recipe.updates):
        batch = torch.randint(len(obs), (256,))
        # The net's raw output: the clamp would stop the gradient.
        out = policy.net((obs[batch] - policy.mean) / policy.std)
        loss = nn.functional.smooth_l1_loss(out.view(-1, *chunks.shape[1:]), chunks[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return policy.eval()


@torch.no_grad()
def measure(env: MetaWorldTask, base: nn.Module, episodes: int) -> dict[str, Any]:
    """Return the base's success on the evaluation seeds, and physics steps per CPU second."""
    verdicts, lengths, physics = [], [], 0.0
    for number in range(episodes):
        observation, _ = env.reset(seed=episode_seed("evaluate", number))
        plan: list[np.ndarray] = []
        success = truncated = False
        steps = 0
        while not (success or truncated):
            if not plan:
                plan = list(base(torch.from_numpy(observation)[None])[0].numpy())
            begin = time.process_time()
            observation, _, success, truncated, _ = env.step(plan.pop(0))
            physics += time.process_time() - begin
            steps += 1
        verdicts.append(success)
        lengths.append(steps)
    return {
        "success": float(np.mean(verdicts)),
        "ci95": wilson(sum(verdicts), episodes),
        "episodes": episodes,
        "first_seed": episode_seed("evaluate", 0),
        "steps_mean": float(np.mean(lengths)),
        "physics_steps_per_cpu_s": round(sum(lengths) / physics),
    }


def prepare(task: str, recipe: Recipe, seed: int, episodes: int, out: Path) -> dict[str, Any]:
    """Make the files of one task; returns what goes to `info.json`."""
    env = FACTORIES[task](seed)
    demos = collect(env, recipe, seed)
    base = torch.jit.script(fit(demos, recipe, seed))
    lengths = np.diff(np.concatenate([[0], demos["episode_ends"]]))
    info = {
        "task": task,
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "horizon": HORIZONS[task],
        "expert_success": recipe.demos / int(demos.pop("tries")),
        "demo_steps": {"mean": float(lengths.mean()), "longest": int(lengths.max())},
        "base": measure(env, base, episodes),
    }
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "demos.npz", **demos)
    base.save(str(out / "base.pt"))
    (out / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    env.close()
    return info


def main() -> None:
    """Prepare the task named on the command line; one per process, so that files are the same."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("task", choices=list(RECIPES))
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--demos", type=int, default=0, help="0: as the recipe says")
    parse.add_argument("--eval-episodes", type=int, default=200)
    parse.add_argument("--out", type=Path, default=ROOT / "runs" / "metaworld")
    args = parse.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES[args.task]
    if args.demos:
        recipe = dataclasses.replace(recipe, demos=args.demos)
    info = prepare(args.task, recipe, args.seed, args.eval_episodes, args.out / args.task)
    low, high = info["base"]["ci95"]
    print(
        f"{args.task}: {recipe.demos} demos of {info['demo_steps']['mean']:.0f} steps (longest "
        f"{info['demo_steps']['longest']}, horizon {info['horizon']}), expert "
        f"{info['expert_success']:.2f}, base {info['base']['success']:.3f} "
        f"({low:.3f} .. {high:.3f}, n={args.eval_episodes}), "
        f"{info['base']['physics_steps_per_cpu_s']} physics steps per CPU second"
    )


if __name__ == "__main__":
    main()
