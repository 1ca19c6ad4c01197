"""Arrays plus a JSON header as safetensors bytes, and files that are whole or absent.

One format for episodes, weights and checkpoints: no pickle, so a file from a stranger cannot run
code. The header is stored under a single metadata key: several keys would be written in random
order, and equal content would then hash differently.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save

from resfit_core.files import sync_folder

_KEY = "resfit"


UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, RecursionError)
"""What reading bytes or JSON of a stranger raises; brackets nested without end do the last."""


class TensorFileError(ValueError):
    """The bytes are not what was written, or hold something else."""


def pack(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> bytes:
    """Return deterministic safetensors bytes; equal content gives equal bytes."""
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _save(arrays, metadata={_KEY: text})


def unpack(data: bytes, what: str = "tensor file") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (arrays, header) of `pack`.

    Args:
        data: the bytes.
        what: what the caller expects them to be, for the error's words.

    Raises:
        TensorFileError: the bytes are cut short, damaged, or not ours.
    """
    try:
        arrays = _load(bytes(data))
        length = int.from_bytes(data[:8], "little")
        text = json.loads(bytes(data[8 : 8 + length]))["__metadata__"][_KEY]
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError(f"the header is a {type(header).__name__}")
        return arrays, header
    except UNREADABLE as error:
        raise TensorFileError(
            f"{what}: {len(data)} bytes are not a whole resfit safetensors file ({error}); "
            "fetch or write it again"
        ) from error


_SEAL = "content_sha256"


def pack_sealed(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> bytes:
    """Return `pack` with a hash of everything in the header: any changed byte is found."""
    return pack(tensors, {**header, _SEAL: sha256(pack(tensors, header))})


def unpack_sealed(data: bytes, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (arrays, header) of `pack_sealed`.

    Raises:
        TensorFileError: Cut short, not ours, or not what was written.
    """
    tensors, header = unpack(data, what)
    seal = header.pop(_SEAL, "")
    found = sha256(pack(tensors, header)) if seal else "none"
    if found != seal:
        raise TensorFileError(
            f"{what}: content has hash {found[:12]}, its header says {str(seal)[:12] or 'nothing'}"
            "; the file is damaged or forged: use another copy of it"
        )
    return tensors, header


def read_header(path: Path) -> dict[str, Any]:
    """Return the header alone, without reading the arrays.

    Raises:
        TensorFileError: The file is missing, cut short or not ours.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise TensorFileError(f"{path}: cut short or no safetensors file; write it again")
            return json.loads(json.loads(file.read(length))["__metadata__"][_KEY])
    except TensorFileError:
        raise
    except (OSError, *UNREADABLE) as error:
        raise TensorFileError(f"{path}: no header of ours can be read ({error})") from error


def remove_partial(folder: Path) -> int:
    """Remove what a killed writer left half written below `folder`; return how many there were.

    Call it where nobody else writes.
    """
    left = list(folder.rglob(".*.partial"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def link_atomic(source: Path, path: Path) -> None:
    """Let `path` name the content of `source` as well, without a second copy where possible."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        # A file system without hard links: the bytes twice.
        write_atomic(path, source.read_bytes())
        return
    partial.replace(path)
    sync_folder(path.parent)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of the bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write so that the path holds the old content or all of the new, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
