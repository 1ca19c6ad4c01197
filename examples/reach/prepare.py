"""Make `demos.npz` and `base.pt` for the reach example: a few demonstrations, a hasty BC policy.

python prepare.py [--demos 20] [--epochs 60] [--out .] [--seen]

With `--seen` they are for `reach:make_seen`, a Dict with a camera picture: the keys of the
demonstrations and what the base takes are those of the observation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from reach import SIZE, expert, make, make_seen
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


class SeenPolicy(nn.Module):
    """The same policy behind a camera: it reads the red button off the picture."""

    def __init__(self, policy: Policy, size: int) -> None:
        """Take the policy that knows where the button is, and the picture's edge [px]."""
        super().__init__()
        self.policy = policy
        self.size = float(size)
        self.register_buffer("place", torch.arange(size, dtype=torch.float32))

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the chunk; observation: state (B, 4), top (B, size, size, 3)."""
        red = (observation["top"][:, :, :, 0] > 0).float()
        count = red.sum(2).sum(1).clamp(min=1.0)
        row = (red.sum(2) * self.place).sum(1) / count
        column = (red.sum(1) * self.place).sum(1) / count
        button = (torch.stack([row, column], 1) + 0.5) * 2.0 / self.size - 1.0
        return self.policy(torch.cat([observation["state"], button], 1))


def record(episodes: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return successful episodes of the expert in the format of `--demos`, and their pictures."""
    env, camera = make(0), make_seen(0)
    rng = np.random.default_rng(0)
    observations, pictures, actions, ends = [], [], [], []
    for seed in range(3_000_000, 3_000_000 + episodes):
        seen, _ = env.reset(seed=seed)
        shown, _ = camera.reset(seed=seed)
        done = success = False
        while not done:
            wanted = expert(seen[:2], seen[2:4], seen[4:]) + rng.normal(0, 0.004, 2)
            action = np.clip(wanted, env.action_space.low, env.action_space.high)
            observations.append(seen)
            pictures.append(shown["top"])
            actions.append(action.astype(np.float32))
            seen, _, success, late, _ = env.step(actions[-1])
            shown = camera.step(actions[-1])[0]
            done = success or late
        if not success:
            raise RuntimeError(f"the expert failed on seed {seed}")
        ends.append(len(actions))
    demos = {
        "obs": np.stack(observations),
        "actions": np.stack(actions),
        "episode_ends": np.array(ends),
    }
    return demos, np.stack(pictures)


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
    parser.add_argument("--seen", action="store_true", help="for reach:make_seen")
    given = parser.parse_args()
    torch.set_num_threads(1)
    demos, pictures = record(given.demos)
    policy: nn.Module = clone(demos, given.epochs)
    if given.seen:
        policy = SeenPolicy(policy, SIZE)
        # One array for each key of the observation: the button is in the picture alone.
        demos = {"obs.state": demos.pop("obs")[:, :4], "obs.top": pictures, **demos}
    given.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(given.out / "demos.npz", **demos)
    torch.jit.script(policy.eval()).save(str(given.out / "base.pt"))
    steps = demos["episode_ends"][-1]
    print(f"{given.out / 'demos.npz'}: {given.demos} episodes, {steps} steps; base.pt beside it")


if __name__ == "__main__":
    main()
