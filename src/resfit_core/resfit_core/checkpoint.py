"""Checkpoints of the learner: one atomic file of state beside content-addressed episodes.

    <folder>/learner.safetensors         nets, targets, optimisers, generators, counters, settings
    <folder>/kept/learner_<updates>.safetensors   the last few of these
    <folder>/best.safetensors            the one whose weights did best in evaluation
    <folder>/episodes/<sha256>.safetensors   each episode once, whatever the number of checkpoints

The last two where asked for; they share their bytes by hard links. Episodes are written first;
`learner.safetensors` names them by hash and replaces the previous one
in a single rename. A crash at any instant leaves the previous checkpoint whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.algorithms.config import saved_settings
from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.data.replay import ReplayBuffer, content_sha256

if TYPE_CHECKING:
    from resfit_core.algorithms.resfit import ResFiT
    from resfit_core.learner import Learner

_FORMAT = "resfit-learner-2"
_NETS = ("actor", "critic", "target_actor", "target_critic", "normaliser", "encoder")
_NETS += ("acting_actor",)
_OPTIMIZERS = ("actor_optimizer", "critic_optimizer")
_COUNTERS = ("env_steps", "episodes", "last_episode", "steps_at_start", "normaliser_fitted")
_STATE = "learner.safetensors"
_SLOTS = {"exp_avg": True, "exp_avg_sq": True, "step": False}
"""What AdamW keeps of a parameter; true: in its shape, false: one number."""


BEST = "best.safetensors"
"""Name of the checkpoint that did best in evaluation."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


class DamagedError(CheckpointError):
    """A checkpoint whose bytes are not what was written."""


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a checkpoint was written here."""
    return (folder / _STATE).exists()


def states(folder: Path) -> list[Path]:
    """Return the state files to resume from, newest first."""
    kept = sorted((folder / "kept").glob("learner_*.safetensors"), reverse=True)
    return [path for path in (folder / _STATE, *kept) if path.exists()]


def keep_best(folder: Path) -> Path:
    """Keep the newest checkpoint as the best one as well; return its path."""
    tensorfile.link_atomic(folder / _STATE, folder / BEST)
    return folder / BEST


def save(learner: Learner, folder: Path, keep: int = 0) -> Path:
    """Write the whole state; return the path of the state file.

    Args:
        learner: Whose state.
        folder: Of the checkpoints.
        keep: So many of the last states are kept beside; 0: only the newest.
    """
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
    data = tensorfile.pack_sealed(tensors, header)
    if keep:
        kept = folder / "kept" / f"learner_{algorithm.critic_updates:09d}.safetensors"
        tensorfile.write_atomic(kept, data)
        tensorfile.link_atomic(kept, path)
        for old in sorted(kept.parent.glob("learner_*.safetensors"))[:-keep]:
            old.unlink()
    else:
        tensorfile.write_atomic(path, data)
    _forget_episodes(folder)
    return path


def load(learner: Learner, folder: Path, name: str = _STATE) -> None:
    """Bring the learner to the saved state, replay included.

    Args:
        learner: Made with the same contract, base and settings.
        folder: Of the checkpoints.
        name: State file in it.

    Raises:
        DamagedError: Missing or damaged files; nothing was changed.
        CheckpointError: Another contract, base, scale or settings; nothing was changed.
    """
    path = folder / name
    try:
        tensors, header = tensorfile.unpack_sealed(path.read_bytes(), str(path))
    except OSError as error:
        raise DamagedError(
            f"{path}: cannot be read ({error}); is the run folder right?"
        ) from error
    except tensorfile.TensorFileError as error:
        raise DamagedError(str(error)) from error
    # Everything that can fail comes before the first change: a refused checkpoint changes nothing.
    try:
        _check(learner, path, header, tensors)
        episodes = {
            side: [_read_episode(folder, sha) for sha in header["replay"][side]]
            for side in ("demos", "online")
        }
        learner.replay.check(*episodes["demos"], *episodes["online"])
        _check_tensors(learner.algorithm, path, tensors)
        _check_counts(header, tensors)
    except CheckpointError:
        raise
    except (*tensorfile.UNREADABLE, AttributeError, RuntimeError, OverflowError) as error:
        raise DamagedError(
            f"{path}: it does not hold the state of a learner of ours ({error!r:.200}); use "
            "another copy of it"
        ) from error
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
    learner.seen = dict(map(tuple, header["seen"]))
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
    now, then = learner.config.to_dict(), saved_settings(header["config"])
    changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
    if changed:
        words = ", ".join(f"{key} {then.get(key)!r} -> {now.get(key)!r}" for key in changed)
        raise CheckpointError(f"{path}: settings differ ({words}); resume with the saved ones")
    if not np.array_equal(tensors["scale"], learner.algorithm.scale.cpu().numpy()):
        raise CheckpointError(f"{path}: residual scale per joint differs; use a new run_dir")


def _check_tensors(algorithm: ResFiT, path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Refuse tensors that do not fit the nets before the first of them is changed."""
    wanted: dict[str, tuple[int, ...]] = {}
    for name in _nets(algorithm):
        state = getattr(algorithm, name).state_dict()
        wanted |= {f"{name}/{key}": tuple(value.shape) for key, value in state.items()}
    for name in _OPTIMIZERS:
        if any(key.startswith(f"{name}/") for key in tensors):  # none before the first update
            wanted |= _optimizer_shapes(name, getattr(algorithm, name), tensors)
    found = {
        name: array.shape
        for name, array in tensors.items()
        if name.split("/")[0] in (*_NETS, *_OPTIMIZERS) and "/" in name
    }
    wrong = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise CheckpointError(
            f"{path}: tensor '{key}' has shape {found.get(key)}, these nets need "
            f"{wanted.get(key)} ({len(wrong)} differ); use the settings it was written with"
        )


def _optimizer_shapes(
    name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Return what an optimiser keeps: for each parameter that it stepped, slots of its shape."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stepped = {key.split("/")[1] for key in tensors if key.startswith(f"{name}/")}
    shapes: dict[str, tuple[int, ...]] = {}
    for number in stepped:
        shape = tuple(parameters[int(number)].shape)
        for slot, own in _SLOTS.items():
            shapes[f"{name}/{number}/{slot}"] = shape if own else (1,)
    return shapes


def _check_counts(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Try what is no tensor on stand-ins.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: It is missing or makes no sense.
    """
    if not isinstance(header["seen"], list):
        raise TypeError("seen is no list")
    counters = dict(header["counters"])
    if type(counters.pop("normaliser_fitted")) is not bool:
        raise TypeError("normaliser_fitted is no truth value")
    if counters["steps_at_start"] is None:
        del counters["steps_at_start"]
    pairs = [number for pair in header["seen"] for number in pair]
    if not all(len(pair) == 2 for pair in header["seen"]):
        raise ValueError("seen: pairs of episode and revision are needed")
    for value in (*counters.values(), *pairs, header["critic_updates"], header["actor_updates"]):
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"a count is {value!r:.50}")
    if header["replay_sha256"] != ":".join(
        content_sha256(header["replay"][side]) for side in ("demos", "online")
    ):
        raise ValueError("replay_sha256 is not that of the episodes it names")
    torch.Generator().set_state(torch.from_numpy(tensors["generator"].copy()))
    np.random.default_rng(0).bit_generator.state = json.loads(header["sampler"])
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"tensor '{name}' is not finite")


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
            raise DamagedError(f"{path}: content does not match its name; the file is damaged")
        return Episode.from_bytes(data)
    except (OSError, EpisodeError) as error:
        raise DamagedError(f"{path}: cannot be read back ({error})") from error


def _forget_episodes(folder: Path) -> None:
    """Delete episodes that no checkpoint names any more."""
    kept: set[str] = set()
    best = folder / BEST
    for state in [*states(folder), *([best] if best.exists() else [])]:
        try:
            named = tensorfile.read_header(state)["replay"]
        except tensorfile.TensorFileError:
            continue  # damaged: of no use with its episodes either
        kept |= {*named["demos"], *named["online"]}
    for path in (folder / "episodes").glob("*.safetensors"):
        if path.stem not in kept:
            path.unlink()
