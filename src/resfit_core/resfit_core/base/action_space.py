"""The action space of a base policy, out of its file, without torch: the driver loads this.

A base is named by a file or by `package.module:Callable`:

    ours.safetensors    ranges are in the file
    theirs.pt           TorchScript; ranges in `theirs.range.safetensors`, else the joint limits
    package.mod:Class   the joint limits
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resfit_core import tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import BaseError
from resfit_core.contract import Contract, ContractError

BASE_FORMAT = "resfit-base-1"
RANGE_FORMAT = "resfit-range-1"
LOW, HIGH = "action_low", "action_high"
_KINDS = "a file ending in .safetensors or .pt, or package.module:Callable"


def kind_of(name: str | Path) -> str:
    """Return `act` (our file), `torchscript` or `callable`.

    Raises:
        BaseError: The name is none of them.
    """
    text = str(name)
    if text.endswith(".safetensors"):
        return "act"
    if text.endswith(".pt"):
        return "torchscript"
    module, colon, attribute = text.partition(":")
    if colon and attribute.isidentifier() and all(p.isidentifier() for p in module.split(".")):
        return "callable"
    raise BaseError(f"base policy '{text}' is of no known kind; give {_KINDS}")


def load_action_space(name: str | Path, contract: Contract) -> ActionSpace:
    """Return the space in which the base's actions, and those added to them, are normalised.

    Raises:
        BaseError: The file is missing, damaged, or of an unknown kind.
        ContractError: It was made for another contract.
    """
    kind = kind_of(name)
    if kind == "act":
        tensors, _ = read_base_file(Path(name), contract)
        return _space(tensors, contract, Path(name))
    if kind == "torchscript":
        sidecar = range_file(Path(name))
        if sidecar.exists():
            tensors, header = _read(sidecar)
            _check_header(sidecar, tensors, header, RANGE_FORMAT, contract)
            return _space(tensors, contract, sidecar)
    return ActionSpace.from_limits(contract)


def read_base_file(path: Path, contract: Contract) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (tensors, header) of our own base file, checked against the contract.

    Raises:
        BaseError: Missing, damaged, or of another format.
        ContractError: Made for another contract.
    """
    tensors, header = _read(path)
    _check_header(path, tensors, header, BASE_FORMAT, contract)
    return tensors, header


def range_file(path: Path) -> Path:
    """Return where the action range of a TorchScript file lies: `<name>.range.safetensors`."""
    return path.with_name(f"{path.stem}.range.safetensors")


def write_range(path: Path, space: ActionSpace, contract: Contract) -> Path:
    """Write the action range beside a TorchScript file; return where."""
    header = {"format": RANGE_FORMAT, "contract_sha256": contract.sha256}
    tensors = {LOW: space.low.astype(np.float64), HIGH: space.high.astype(np.float64)}
    tensorfile.write_atomic(range_file(path), tensorfile.pack(tensors, header))
    return range_file(path)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        return tensorfile.unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise BaseError(
            f"base policy '{path}' cannot be read ({error.strerror}); make one with 'make base'"
        ) from error
    except tensorfile.TensorFileError as error:
        raise BaseError(str(error)) from error


def _check_header(
    path: Path,
    tensors: dict[str, np.ndarray],
    header: dict[str, Any],
    form: str,
    contract: Contract,
) -> None:
    if header.get("format") != form:
        raise BaseError(
            f"{path}: format is {header.get('format')!r}, expected {form!r}; "
            "is this a base policy? make one with 'make base'"
        )
    joints = len(tensors.get(LOW, contract.lower))
    if joints != contract.action_dim:  # another contract as well, but this says what differs
        raise BaseError(
            f"base policy {path} moves {joints} joints, robot '{contract.robot}' has "
            f"{contract.action_dim}: give the robot:= it was made for, or make a base for this "
            "one with 'make demos' and 'make base'"
        )
    contract.require(str(header.get("contract_sha256", "")), f"base policy {path}")


def _space(tensors: dict[str, np.ndarray], contract: Contract, path: Path) -> ActionSpace:
    for name in (LOW, HIGH):
        shape = tensors[name].shape if name in tensors else None
        if shape != (contract.action_dim,):
            raise BaseError(
                f"{path}: {name} has shape {shape}, ({contract.action_dim},) is needed; "
                "make the file anew"
            )
    try:
        return ActionSpace(tensors[LOW].astype(np.float64), tensors[HIGH].astype(np.float64))
    except ContractError as error:
        raise BaseError(f"{path}: {error}") from error
