"""Checkpoints of the learner: one atomic file of state beside content-addressed episodes.

    <folder>/learner.safetensors         nets, targets, optimisers, generators, counters, settings
    <folder>/episodes/<sha256>.safetensors   each episode once, whatever the number of checkpoints

Episodes are written first; `learner.safetensors` names them by hash and replaces the previous one
in a single rename. A crash at any instant leaves the previous checkpoint whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.data.replay import ReplayBuffer

if TYPE_CHECKING:
    from resfit_core.algorithms.resfit import ResFiT
    from resfit_core.learner import Learner

_FORMAT = "resfit-learner-1"
_NETS = ("actor", "critic", "target_actor", "target_critic", "normaliser", "encoder")
_NETS += ("acting_actor",)
_OPTIMIZERS = ("actor_optimizer", "critic_optimizer")
_COUNTERS = ("env_steps", "episodes", "last_episode", "steps_at_start", "normaliser_fitted")
_STATE = "learner.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a checkpoint was written here."""
    return (folder / _STATE).exists()


def save(learner: Learner, folder: Path) -> Path:
    """Write the whole state; return the path of the state file."""
    index = {
        "demos": _save_episodes(learner.replay.demos, folder),
        "online": _save_episodes(learner.replay.online, folder),
    }
    algorithm = learner.algorithm
    tensors: dict[str, np.ndarray] = {"generator": algorithm.generator.get_state().numpy()}
    for name in _nets(algorithm):
        state = getattr(algorithm, name).state_dict()
        tensors |= {f"{name}/{key}": value.cpu().numpy() for key, value in state.items()}
    for name in _OPTIMIZERS:
        for number, slots in getattr(algorithm, name).state_dict()["state"].items():
            tensors |= {f"{name}/{number}/{slot}": v.cpu().numpy() for slot, v in slots.items()}
    tensors["scale"] = algorithm.scale.cpu().numpy()
    header = {
        "format": _FORMAT,
        "config": learner.config.to_dict(),
        "contract_sha256": learner.contract_sha256,
        "base_sha256": learner.base_sha256,
        "counters": {name: getattr(learner, name) for name in _COUNTERS},
        "critic_updates": algorithm.critic_updates,
        "actor_updates": algorithm.actor_updates,
        "seen": sorted(learner.seen.items()),
        "sampler": json.dumps(learner.replay.rng.bit_generator.state),
        "replay": index,
        "replay_sha256": learner.replay.sha256(),
    }
    path = folder / _STATE
    tensorfile.write_atomic(path, tensorfile.pack(tensors, header))
    _forget_episodes(folder, set(index["demos"]) | set(index["online"]))
    return path


def load(learner: Learner, folder: Path) -> None:
    """Bring the learner to the saved state, replay included.

    Raises:
        CheckpointError: missing or damaged files, another contract, base, scale or settings.
    """
    path = folder / _STATE
    try:
        tensors, header = tensorfile.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); is the run folder right?"
        ) from error
    except tensorfile.TensorFileError as error:
        raise CheckpointError(str(error)) from error
    _check(learner, path, header, tensors)
    # Everything that can fail comes before the first change: a refused checkpoint changes nothing.
    episodes = {
        side: [_read_episode(folder, sha) for sha in header["replay"][side]]
        for side in ("demos", "online")
    }
    algorithm = learner.algorithm
    for name in _nets(algorithm):
        getattr(algorithm, name).load_state_dict(_strip(tensors, f"{name}/"))
    for name in _OPTIMIZERS:
        _load_optimizer(getattr(algorithm, name), _strip(tensors, f"{name}/"))
    algorithm.generator.set_state(torch.from_numpy(tensors["generator"]))
    algorithm.critic_updates = header["critic_updates"]
    algorithm.actor_updates = header["actor_updates"]
    for name in _COUNTERS:
        setattr(learner, name, header["counters"][name])
    learner.seen = {int(episode): int(revision) for episode, revision in header["seen"]}
    learner.replay.restore(**episodes)
    learner.replay.rng.bit_generator.state = json.loads(header["sampler"])
    if learner.replay.sha256() != header["replay_sha256"]:
        raise CheckpointError(
            f"{path}: the replay read back has another hash; raise replay_capacity or start anew"
        )


def _nets(algorithm: ResFiT) -> list[str]:
    """Return the names of the nets it has; there is an encoder only for images."""
    return [name for name in _NETS if getattr(algorithm, name) is not None]


def _check(
    learner: Learner, path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    if header.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: format is {header.get('format')!r}, expected {_FORMAT!r}; "
            "use the release that wrote it"
        )
    for name in ("contract_sha256", "base_sha256"):
        if header[name] != getattr(learner, name):
            raise CheckpointError(
                f"{path}: {name} is {header[name][:12]}…, this run has "
                f"{getattr(learner, name)[:12]}…; resume with the matching one "
                "or use a new run_dir"
            )
    now, then = learner.config.to_dict(), header["config"]
    changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
    if changed:
        words = ", ".join(f"{key} {then.get(key)!r} -> {now.get(key)!r}" for key in changed)
        raise CheckpointError(f"{path}: settings differ ({words}); resume with the saved ones")
    if not np.array_equal(tensors["scale"], learner.algorithm.scale.cpu().numpy()):
        raise CheckpointError(f"{path}: residual scale per joint differs; use a new run_dir")


def _strip(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name[len(prefix) :]: torch.from_numpy(array.copy())
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, slot = name.split("/")
        state.setdefault(int(number), {})[slot] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _episode_path(folder: Path, sha: str) -> Path:
    return folder / "episodes" / f"{sha}.safetensors"


def _save_episodes(buffer: ReplayBuffer, folder: Path) -> list[str]:
    hashes = []
    for key, sha in buffer.entries():
        path = _episode_path(folder, sha)
        if not path.exists():
            tensorfile.write_atomic(path, buffer.get(key).to_bytes())
        hashes.append(sha)
    return hashes


def _read_episode(folder: Path, sha: str) -> Episode:
    path = _episode_path(folder, sha)
    try:
        data = path.read_bytes()
        if tensorfile.sha256(data) != sha:
            raise CheckpointError(f"{path}: content does not match its name; the file is damaged")
        return Episode.from_bytes(data)
    except (OSError, EpisodeError) as error:
        raise CheckpointError(f"{path}: cannot be read back ({error})") from error


def _forget_episodes(folder: Path, kept: set[str]) -> None:
    """Delete episodes that the new checkpoint no longer names."""
    for path in (folder / "episodes").glob("*.safetensors"):
        if path.stem not in kept:
            path.unlink()
