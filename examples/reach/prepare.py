"""Make `demos.npz` and `base.pt` for the reach example: a few demonstrations, a hasty BC policy.

python prepare.py [--demos 20] [--epochs 60] [--out .]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from reach import expert, make
from torch import Tensor, nn

CHUNK = 8


class Policy(nn.Module):
    """(B, 6) to (B, CHUNK, 2), in the environment's units."""

    def __init__(self, mean: Tensor, std: Tensor, reach: float) -> None:
        """Take the observation's statistics and the largest action."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.reach = reach
        self.net = nn.Sequential(
            nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CHUNK * 2)
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Return the chunk."""
        flat = self.net((observation - self.mean) / self.std) * self.reach
        return flat.reshape(-1, 8, 2)


def record(episodes: int) -> dict[str, np.ndarray]:
    """Return successful episodes of the expert in the format of `--demos`."""
    env = make(0)
    rng = np.random.default_rng(0)
    observations, actions, ends = [], [], []
    for seed in range(3_000_000, 3_000_000 + episodes):
        seen, _ = env.reset(seed=seed)
        done = success = False
        while not done:
            wanted = expert(seen[:2], seen[2:4], seen[4:]) + rng.normal(0, 0.004, 2)
            action = np.clip(wanted, env.action_space.low, env.action_space.high)
            observations.append(seen)
            actions.append(action.astype(np.float32))
            seen, _, success, late, _ = env.step(actions[-1])
            done = success or late
        if not success:
            raise RuntimeError(f"the expert failed on seed {seed}")
        ends.append(len(actions))
    return {
        "obs": np.stack(observations),
        "actions": np.stack(actions),
        "episode_ends": np.array(ends),
    }


def clone(demos: dict[str, np.ndarray], epochs: int) -> Policy:
    """Train a chunked policy on the demonstrations."""
    torch.manual_seed(0)
    obs, actions = torch.from_numpy(demos["obs"]), torch.from_numpy(demos["actions"])
    chunks = []
    for start, end in zip([0, *demos["episode_ends"][:-1]], demos["episode_ends"], strict=True):
        index = torch.arange(start, end)[:, None] + torch.arange(CHUNK)
        chunks.append(actions[index.clamp(max=int(end) - 1)])
    wanted = torch.cat(chunks)
    reach = float(actions.abs().max())
    policy = Policy(obs.mean(0), obs.std(0), reach)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(obs)).split(64):
            loss = (policy(obs[batch]) - wanted[batch]).abs().mean() / reach
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policy.eval()


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demos", type=int, default=20, help="demonstrations")
    parser.add_argument("--epochs", type=int, default=60, help="passes over them")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args()
    torch.set_num_threads(1)
    demos = record(given.demos)
    given.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(given.out / "demos.npz", **demos)
    torch.jit.script(clone(demos, given.epochs)).save(str(given.out / "base.pt"))
    steps = demos["episode_ends"][-1]
    print(f"{given.out / 'demos.npz'}: {given.demos} episodes, {steps} steps; base.pt beside it")


if __name__ == "__main__":
    main()
