"""The versions of residual weights that a run published: files, so that a restart finds them."""

from __future__ import annotations

from pathlib import Path

from resfit_core import tensorfile

KEEP = 10
"""Versions kept where nothing else is said."""


def weights_path(run_dir: Path, version: int) -> Path:
    """Return where a version lies: `weights/version_000012.safetensors`."""
    return Path(run_dir) / "weights" / f"version_{version:06d}.safetensors"


def save_weights(run_dir: Path, version: int, data: bytes, keep: int = KEEP) -> Path:
    """Write one version, whole or not at all; the newest `keep` stay, 0: all."""
    path = weights_path(run_dir, version)
    tensorfile.write_atomic(path, data)
    for old in _versions(run_dir)[:-keep] if keep else ():
        weights_path(run_dir, old).unlink(missing_ok=True)
    return path


def newest_version(run_dir: Path) -> int:
    """Return the highest version on disk; 0: none."""
    return max(_versions(run_dir), default=0)


def newest_weights(run_dir: Path) -> tuple[int, bytes] | None:
    """Return version and bytes of the newest weights, or None where there are none."""
    version = newest_version(run_dir)
    return (version, weights_path(run_dir, version).read_bytes()) if version else None


def _versions(run_dir: Path) -> list[int]:
    found = (Path(run_dir) / "weights").glob("version_*.safetensors")
    numbers = [path.stem.removeprefix("version_") for path in found]
    return sorted(int(number) for number in numbers if number.isdigit())
