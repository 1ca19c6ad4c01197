"""What filtered BC trains: a chunked net, and the successes it learns from."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resfit_core.action_space import ActionSpace
from resfit_core.base.act import Act, ActConfig
from resfit_core.data.episode import Episode


class Chunks:
    """Observations of successes, each with the chunk of actions that followed. Not thread-safe."""

    def __init__(self, chunk: int) -> None:
        """Start empty, for chunks of this length."""
        self.chunk = chunk
        self.episodes = 0
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._joined: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of chunks."""
        return sum(len(row[0]) for row in self._rows)

    def add(self, episode: Episode) -> bool:
        """Take in a success; False: it was none, nothing was stored."""
        if not episode.success:
            return False
        index = np.arange(episode.steps)[:, None] + np.arange(self.chunk)
        within = (index < episode.steps).astype(np.float32)[..., None]
        actions = episode.action[np.minimum(index, episode.steps - 1)]
        self._rows.append((episode.observation[:-1], actions, within))
        self._joined = []
        self.episodes += 1
        return True

    def sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw observations, chunks and masks (0 past the episode's end), with replacement.

        Shapes (size, obs_dim), (size, chunk, act_dim), (size, chunk, 1).
        """
        if not self._joined:
            columns = zip(*self._rows, strict=True)
            self._joined = [torch.from_numpy(np.concatenate(column)) for column in columns]
        index = torch.from_numpy(rng.integers(0, len(self._joined[0]), size))
        obs, action, within = (column[index] for column in self._joined)
        return obs, action, within


def masked_l1(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error over the entries within episodes."""
    return ((found - wanted).abs() * mask).sum() / (mask.sum() * found.shape[-1])


class ScriptStudent(nn.Module):
    """A copy of a TorchScript base that answers in normalised actions."""

    def __init__(self, module: nn.Module, space: ActionSpace) -> None:
        """Copy the module; the original never changes."""
        super().__init__()
        self.module = _copy(module)
        for parameter in self.module.parameters():
            parameter.requires_grad_(True)  # a ScriptModule has no such verb of its own
        self.low = nn.Buffer(torch.tensor(space.low, dtype=torch.float32))
        self.high = nn.Buffer(torch.tensor(space.high, dtype=torch.float32))

    def forward(self, observation: Tensor) -> Tensor:
        """Return chunks. Shape (batch, obs_dim) to (batch, chunk, act_dim)."""
        return 2.0 * (self.module(observation) - self.low) / (self.high - self.low) - 1.0


def _copy(module: nn.Module) -> nn.Module:
    if not isinstance(module, torch.jit.ScriptModule):
        return copy.deepcopy(module)
    # deepcopy would hand over parameters that still hang on the original's.
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def copy_of(base: Any, obs_dim: int) -> ScriptStudent | None:
    """Return a trainable copy of a base that brings its TorchScript module; None: a black box."""
    module = getattr(base, "module", None)
    if not isinstance(module, nn.Module) or not list(module.parameters()):
        return None
    student = ScriptStudent(module, base.action_space)
    try:
        student(torch.zeros(1, obs_dim)).sum().backward()
    except RuntimeError:  # exported without gradients
        return None
    if all(parameter.grad is None for parameter in student.parameters()):
        return None
    student.zero_grad(set_to_none=True)
    return student


def plans(base: Any, observations: np.ndarray) -> np.ndarray:
    """Ask a black box for its whole plan at each observation.

    Args:
        base: with `reset`, `act` and `chunk_length`.
        observations: shape (n, obs_dim).

    Returns:
        Shape (n, chunk, act_dim), normalised.
    """
    found = []
    for observation in observations:
        base.reset()
        # The queue is asked until it is empty: only the first call looks at the observation.
        found.append([base.act(observation).action_norm for _ in range(base.chunk_length)])
    base.reset()
    return np.asarray(found, np.float32)


def new_net(
    observations: np.ndarray, chunk: int, act_dim: int, *, width: int, std_floor: float, seed: int
) -> Act:
    """Return our small chunked net, untrained, with the z-score of these observations.

    Args:
        observations: shape (n, obs_dim).
        chunk: steps of one plan.
        act_dim: number of joints.
        width: of every token, a multiple of 4.
        std_floor: least standard deviation of the z-score.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    obs_dim = observations.shape[1]
    net = Act(
        ActConfig(
            fields=((0, obs_dim),),
            action_dim=act_dim,
            chunk=chunk,
            width=width,
            feedforward=2 * width,
            encoder_layers=1,
        )
    )
    wide = observations.astype(np.float64)
    net.obs_mean.copy_(torch.from_numpy(wide.mean(0)))
    net.obs_std.copy_(torch.from_numpy(np.maximum(wide.std(0), std_floor)))
    return net
