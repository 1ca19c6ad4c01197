"""Checkpoints of the baselines that have no `Learner`: nets, optimisers and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.algorithms.config import saved_settings
from resfit_core.checkpoint import CheckpointError

_SLOT = "optimizer."


def save(
    path: Path,
    kind: str,
    nets: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    header: Mapping[str, Any],
) -> None:
    """Write one file, whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    for name, net in nets.items():
        for key, value in net.state_dict().items():
            tensors[f"{name}/{key}"] = value.detach().cpu().numpy()
    for name, optimizer in optimizers.items():
        for number, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"{_SLOT}{name}/{number}/{slot}"] = torch.as_tensor(value).cpu().numpy()
    tensorfile.write_atomic(path, tensorfile.pack(tensors, {**header, "format": kind}))


def load(
    path: Path,
    kind: str,
    nets: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    expected: Mapping[str, Any],
) -> dict[str, Any]:
    """Bring nets and optimisers to the saved state and return the header.

    Args:
        path: of `save`.
        kind: as saved.
        nets: of the same shapes.
        optimizers: over the same parameters.
        expected: header values that must be equal now: settings and hashes.

    Raises:
        CheckpointError: the file is damaged, of another run, or its tensors do not fit.
    """
    try:
        tensors, header = tensorfile.unpack(path.read_bytes(), str(path))
    except (OSError, tensorfile.TensorFileError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    for name, now in {**expected, "format": kind}.items():
        then = header.get(name)
        if name == "config" and isinstance(then, Mapping):
            then = saved_settings(then)
        if isinstance(now, Mapping) and isinstance(then, Mapping):
            keys = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
            words = ", ".join(f"{key} {then.get(key)!r} -> {now.get(key)!r}" for key in keys)
        else:
            words = f"{then!r} -> {now!r}" if then != now else ""
        if words:
            raise CheckpointError(
                f"{path}: {name} differs ({words}); resume with the saved one or use a new --out"
            )
    try:
        for name, net in nets.items():
            net.load_state_dict(_below(tensors, f"{name}/"))
        for name, optimizer in optimizers.items():
            _load_optimizer(optimizer, _below(tensors, f"{_SLOT}{name}/"))
    except (RuntimeError, KeyError, ValueError) as error:
        words = " ".join(str(error).split())
        raise CheckpointError(f"{path}: tensors do not fit these nets ({words})") from error
    return header


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array.copy())
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in flat.items():
        number, slot = name.split("/")
        state.setdefault(int(number), {})[slot] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
