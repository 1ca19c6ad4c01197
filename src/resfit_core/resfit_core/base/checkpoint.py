"""Freeze a base policy as one safetensors file, and load any kind of base behind one protocol."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit_core import tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.base.act import Act, ActConfig, fields_of
from resfit_core.base.action_space import (
    BASE_FORMAT,
    HIGH,
    LOW,
    kind_of,
    load_action_space,
    read_base_file,
)
from resfit_core.base.protocol import BaseError, BasePolicy, ChunkedBase, Images
from resfit_core.contract import Contract
from resfit_core.control.observe import shrink

_NET = "net."


def freeze(
    path: Path,
    net: Act,
    space: ActionSpace,
    contract: Contract,
    made_from: Mapping[str, Any] | None = None,
) -> str:
    """Write the net, its normalisation and action range; return `base_sha256`.

    Args:
        path: Where to; replaced in one step.
        net: Trained; its buffers hold the observation's statistics.
        space: The action range it was trained in.
        contract: Whose layout it reads.
        made_from: Facts about the training, kept in the header (numbers and strings).
    """
    tensors = {_NET + name: value.numpy() for name, value in net.state_dict().items()}
    tensors |= {LOW: space.low.astype(np.float64), HIGH: space.high.astype(np.float64)}
    architecture = net.config.to_header()
    base_sha256 = _hash(tensors, architecture)
    header = {
        "format": BASE_FORMAT,
        "kind": "act",
        "architecture": architecture,
        "robot": contract.robot,
        "task": contract.task,
        "variant": contract.variant,
        "contract_sha256": contract.sha256,
        "base_sha256": base_sha256,
        "made_from": dict(made_from or {}),
    }
    tensorfile.write_atomic(path, tensorfile.pack(tensors, header))
    return base_sha256


def load_base(name: str | Path, contract: Contract) -> BasePolicy:
    """Load a base policy, ready to act.

    Args:
        name: `.safetensors` of ours; `.pt`, TorchScript from (batch, obs_dim) to (batch, chunk,
            action_dim) in rad; or `package.module:Callable`, called with the contract. The latter
            two run code of the person who made them: name only what you trust.
        contract: What it must fit.

    Raises:
        BaseError: Missing, damaged, of an unknown kind, or of other shapes.
        ContractError: Made for another contract.
    """
    kind = kind_of(name)
    if kind == "act":
        return _load_act(Path(name), contract)
    if kind == "torchscript":
        return _load_torchscript(Path(name), contract)
    return _call(str(name), contract)


def _load_act(path: Path, contract: Contract) -> BasePolicy:
    tensors, header = read_base_file(path, contract)
    if header.get("kind") != "act":
        raise BaseError(f"{path}: kind is {header.get('kind')!r}, expected 'act'; use its release")
    try:
        config = ActConfig.from_header(header["architecture"])
        net = Act(config)
        state = {
            key[len(_NET) :]: torch.from_numpy(value.copy())
            for key, value in tensors.items()
            if key.startswith(_NET)
        }
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split())
        raise BaseError(
            f"{path}: tensors do not fit the header ({words}); fetch it anew"
        ) from error
    if _hash(tensors, header["architecture"]) != header["base_sha256"]:
        raise BaseError(f"{path}: content does not match its base_sha256; fetch or make it anew")
    _check_shape(path, contract, fields_of(contract.layout), config)
    net.eval().requires_grad_(False)

    @torch.inference_mode()
    def plan(observation: np.ndarray, images: Images | None) -> np.ndarray:
        flat = torch.from_numpy(np.array(observation, np.float32)[None])
        return net(flat, _stack(images, contract))[0].numpy()

    @torch.inference_mode()
    def locate(images: np.ndarray) -> np.ndarray:
        return net.locate(torch.from_numpy(images)).numpy()

    space = load_action_space(path, contract)
    hashes = (header["base_sha256"], contract.sha256)
    return ChunkedBase(plan, config.chunk, space, *hashes, locate if config.places else None)


def _check_shape(
    path: Path, contract: Contract, fields: tuple[tuple[int, int], ...], config: ActConfig
) -> None:
    found = (config.fields, config.action_dim, config.cameras)
    expected = (fields, contract.action_dim, len(contract.images))
    if found != expected:
        raise BaseError(f"{path}: reads {found}, the contract has {expected}; make it anew")


def _stack(images: Images | None, contract: Contract) -> torch.Tensor | None:
    """Return the contract's cameras as uint8 (1, cameras, size, size, 3); None without cameras."""
    if not contract.images:
        return None
    images = images or {}
    missing = [name for name in contract.images if name not in images]
    if missing:
        raise BaseError(f"image of camera '{missing[0]}' is missing; the base policy needs it")
    frames = [shrink(images[name], contract.image_size) for name in contract.images]
    return torch.from_numpy(np.stack(frames)[None])


def _load_torchscript(path: Path, contract: Contract) -> BasePolicy:
    space = load_action_space(path, contract)
    try:
        data = path.read_bytes()
        net = torch.jit.load(str(path), map_location="cpu").eval()
    except OSError as error:
        raise BaseError(f"base policy '{path}' cannot be read ({error.strerror})") from error
    except RuntimeError as error:
        words = " ".join(str(error).split())[:120]
        raise BaseError(f"{path}: not a TorchScript file ({words}); save it anew") from error

    @torch.inference_mode()
    def chunk_rad(observation: np.ndarray, images: Images | None) -> np.ndarray:
        flat = torch.from_numpy(np.array(observation, np.float32)[None])
        frames = _stack(images, contract)
        found = net(flat) if frames is None else net(flat, frames)
        return found[0].double().numpy()

    chunk = _trial(path, chunk_rad, contract)
    sha256 = tensorfile.sha256(data + space.low.tobytes() + space.high.tobytes())
    return ChunkedBase(
        lambda observation, images: space.to_norm(chunk_rad(observation, images)),
        chunk,
        space,
        sha256,
        contract.sha256,
    )


def _trial(path: Path, chunk_rad: Any, contract: Contract) -> int:
    """Ask the policy once, so that a wrong shape is said before the robot moves."""
    size = contract.image_size
    images = {name: np.zeros((size, size, 3), np.uint8) for name in contract.images}
    needed = f"(1, {contract.obs_dim}) to (1, chunk, {contract.action_dim}) in rad"
    try:
        found = chunk_rad(np.zeros(contract.obs_dim, np.float32), images)
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        words = " ".join(str(error).split())[-120:]
        raise BaseError(f"{path}: it must map {needed}, but failed: {words}") from error
    if found.ndim != 2 or found.shape[1] != contract.action_dim or len(found) < 1:
        raise BaseError(f"{path}: it must map {needed}, but gave (1, *{found.shape})")
    return len(found)


def _call(name: str, contract: Contract) -> BasePolicy:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BaseError(f"base policy '{name}': cannot import {module_name} ({error})") from error
    if not hasattr(module, attribute):
        raise BaseError(f"base policy '{name}': module {module_name} has no '{attribute}'")
    made = getattr(module, attribute)(contract)
    needed = [
        n for n in ("reset", "act", *inspect.get_annotations(BasePolicy)) if not hasattr(made, n)
    ]
    if needed:
        raise BaseError(
            f"base policy '{name}' has no '{needed[0]}'; see resfit_core.base.protocol.BasePolicy"
        )
    contract.require(made.contract_sha256, f"base policy {name}")
    limits = load_action_space(name, contract)
    if not (
        np.array_equal(made.action_space.low, limits.low)
        and np.array_equal(made.action_space.high, limits.high)
    ):
        raise BaseError(
            f"base policy '{name}': its action space is not the joint limits, which the driver "
            "assumes; use ActionSpace.from_limits(contract)"
        )
    return made


def _hash(tensors: Mapping[str, np.ndarray], architecture: Mapping[str, Any]) -> str:
    """Hash weights, normalisation and shape; not the facts about how it was made."""
    return tensorfile.sha256(tensorfile.pack(tensors, {"architecture": architecture}))
