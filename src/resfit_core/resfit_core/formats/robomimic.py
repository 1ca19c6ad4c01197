"""A robomimic HDF5 file as trajectories under a contract.

`data/demo_<n>` holds `actions` (T, n), `obs/<key>` (T, ...), often `next_obs/<key>`, `rewards`
and `dones` (robomimic's documentation, "Dataset structure"). With `next_obs` all T steps are kept;
without it the last action is left out, since nothing says what was seen after it. Actions must be
joint targets: those of an end-effector controller cannot be taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.formats.trajectory import Assembler, FieldMap, FormatError, Trajectory


def is_dataset(path: Path) -> bool:
    """Return whether `path` looks like an HDF5 file."""
    return path.suffix in (".hdf5", ".h5")


class RobomimicReader:
    """Reads one file, demonstration by demonstration."""

    def __init__(self, path: Path, contract: Contract, mapping: FieldMap | None) -> None:
        """Open the file.

        Args:
            path: of the HDF5 file.
            contract: what the trajectories must fit.
            mapping: where the contract's parts lie, by names below `obs`; needed.

        Raises:
            FormatError: no such file, h5py is missing, or there is no mapping.
        """
        try:
            import h5py
        except ImportError as error:
            raise FormatError(
                "robomimic files need h5py: pip install -r requirements/formats.txt"
            ) from error
        if mapping is None:
            raise FormatError(
                f"{path}: robomimic files name their observations freely; say with mapping:=FILE "
                "which is which (docs/formats.md)"
            )
        self._assembler = Assembler(contract, mapping, str(path))
        self._map, self._path, self._action_dim = mapping, Path(path), contract.action_dim
        try:
            self._file = h5py.File(path, "r")
            self._names = sorted(self._file["data"], key=_number)
        except (OSError, KeyError) as error:
            raise FormatError(f"{path}: no robomimic file ({error}); fetch it again") from error

    def __len__(self) -> int:
        """Return the number of demonstrations."""
        return len(self._names)

    def __iter__(self) -> Iterator[Trajectory]:
        """Yield the demonstrations in order of their numbers.

        Raises:
            FormatError: one cannot be taken; names file, demonstration and field.
        """
        for name in self._names:
            yield self._read(self._file["data"][name], f"{self._path}: {name}")

    def _read(self, demo: Any, who: str) -> Trajectory:
        action_key = self._map.action.key
        actions = self._array(demo, action_key, who)
        whole = "next_obs" in demo
        steps = len(actions) if whole else len(actions) - 1
        if steps < 1:
            raise FormatError(
                f"{who}: {len(actions)} actions, at least {1 if whole else 2} needed"
            )

        def rows(key: str) -> np.ndarray:
            seen = self._array(demo, f"obs/{key}", who)
            if len(seen) != len(actions):
                raise FormatError(
                    f"{who}: obs/{key} has {len(seen)} rows, expected {len(actions)}"
                )
            if not whole:
                return seen
            return np.concatenate((seen, self._array(demo, f"next_obs/{key}", who)[-1:]))

        def entry(key: str) -> tuple[np.ndarray, list[str]]:
            if key == action_key:
                return actions[:steps].astype(np.float64), []
            values = rows(key).astype(np.float64)
            return (values[:, None] if values.ndim == 1 else values), []

        rule = self._map.success
        success = True
        if rule != "all":
            key = "rewards" if rule == "reward" else rule
            success = bool(self._array(demo, key, who)[-1] > 0)
        return self._assembler.assemble(entry, rows, success, who)

    def _array(self, demo: Any, key: str, who: str) -> np.ndarray:
        try:
            return np.asarray(demo[key])
        except (KeyError, OSError, TypeError) as error:
            raise FormatError(
                f"{who}: no readable '{key}' ({error}); there are {sorted(demo)} and obs/"
                f"{sorted(demo.get('obs', ()))}"
            ) from error


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"\d+$", name)
    return (int(found[0]) if found else -1), name
