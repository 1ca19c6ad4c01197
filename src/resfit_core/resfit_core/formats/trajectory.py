"""One demonstration on its way from another format into an episode of ours, and how it is made.

A *mapping* says where in a foreign dataset each part of the contract lies. It is YAML:

    action: {key: action}                     # joint targets, contract order
    fields:                                   # of the observation, as the task names them
      joint_position: {key: observation.state, names: [left.joint_1, left.joint_2], unit: deg}
    images: {left: observation.images.top}    # contract's camera: key
    success: all                              # all | reward: what the last reward says | a key
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.observe import shrink
from resfit_core.strict_yaml import ContractError, check_keys_in, read_yaml

UNITS = {"rad": 1.0, "deg": np.pi / 180.0}
Progress = Callable[[int, int], None]
"""Called with (episodes done, all)."""
# Rounding to float32 and back may leave the range by so much; it is clipped.
_SLACK_RAD = 1e-4


class FormatError(ValueError):
    """A file of another format that cannot be taken; names file, episode, field and the fix."""


@dataclasses.dataclass(frozen=True)
class Column:
    """Where numbers lie: which entry, which of its elements, in which unit.

    Attributes:
        key: of the entry.
        names: elements by name, in our order; empty: by `indices`.
        indices: elements by place; empty, with `names` empty too: all.
        unit: `rad` or `deg`; positions and forces: `rad`, which leaves them as they are.
    """

    key: str
    names: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    unit: str = "rad"

    def take(self, values: np.ndarray, known: Sequence[str], who: str) -> np.ndarray:
        """Return this column's numbers.

        Args:
            values: of the entry. Shape (rows, n).
            known: the entry's element names, empty where the file has none.
            who: for errors: file and episode.

        Returns:
            float64. Shape (rows, m).
        """
        indices = self.indices
        if self.names:
            absent = [name for name in self.names if name not in known]
            if absent:
                raise FormatError(
                    f"{who}: '{self.key}' has no element '{absent[0]}'; it has {list(known)}: "
                    "name those in the mapping, or give `indices`"
                )
            indices = tuple(list(known).index(name) for name in self.names)
        if indices and max(indices) >= values.shape[1]:
            raise FormatError(
                f"{who}: '{self.key}' has {values.shape[1]} elements, no index {max(indices)}"
            )
        chosen = values[:, list(indices)] if indices else values
        return np.asarray(chosen, np.float64) * UNITS[self.unit]


@dataclasses.dataclass(frozen=True)
class FieldMap:
    """A whole mapping; see the module."""

    action: Column
    fields: Mapping[str, Column]
    images: Mapping[str, str]
    success: str = "all"

    def check(self, contract: Contract, where: str) -> None:
        """Refuse a mapping that leaves a part of the contract without a source.

        Raises:
            FormatError: names the part.
        """
        for kind, needed, given in (
            ("fields", contract.fields, self.fields),
            ("images", contract.images, self.images),
        ):
            for name in needed:
                if name not in given:
                    raise FormatError(
                        f"{where}: no source for {kind} '{name}' of task '{contract.task}' "
                        f"({contract.variant}); say it in the mapping"
                    )


def read_map(path: Path) -> FieldMap:
    """Read a mapping's YAML.

    Raises:
        ContractError: names file, key and fix.
    """
    given = read_yaml(path)
    check_keys_in(given, {"action", "fields", "images", "success"}, str(path))
    if "action" not in given:
        raise ContractError(f"{path}: missing key 'action'")
    fields = given.get("fields") or {}
    images = given.get("images") or {}
    for name, what in (("fields", fields), ("images", images)):
        if not isinstance(what, Mapping):
            raise ContractError(f"{path}: {name} is {what!r}, expected name: source")
    return FieldMap(
        _column(given["action"], f"{path}: action"),
        {name: _column(value, f"{path}: fields: {name}") for name, value in fields.items()},
        {str(name): str(value) for name, value in images.items()},
        str(given.get("success", "all")),
    )


def _column(given: Any, where: str) -> Column:
    if isinstance(given, str):
        return Column(given)
    check_keys_in(given, {"key", "names", "indices", "unit"}, where)
    if not isinstance(given.get("key"), str):
        raise ContractError(f"{where}: key is {given.get('key')!r}, expected the entry's name")
    unit = given.get("unit", "rad")
    if unit not in UNITS:
        raise ContractError(f"{where}: unit is {unit!r}, expected one of {list(UNITS)}")
    indices = given.get("indices", [])
    if not all(isinstance(i, int) and i >= 0 for i in indices):
        raise ContractError(f"{where}: indices is {indices!r}, expected numbers from 0")
    names = tuple(str(name) for name in given.get("names", []))
    return Column(given["key"], names, tuple(indices), unit)


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """A demonstration of T steps under a contract.

    Attributes:
        observation: float32 (T + 1, obs_dim), contract layout.
        action_rad: float64 (T, act_dim), joint targets [rad].
        images: one uint8 (T + 1, size, size, 3) per camera of the contract, in its order.
        success: it ended in success; else it is kept as timed out.
        source: where it comes from, in words, for the manifest.
    """

    observation: np.ndarray
    action_rad: np.ndarray
    images: tuple[np.ndarray, ...]
    success: bool
    source: str


class Assembler:
    """Puts a foreign episode's arrays into the contract's shapes."""

    def __init__(self, contract: Contract, mapping: FieldMap, where: str) -> None:
        """Check that the mapping covers the contract.

        Args:
            contract: what is wanted.
            mapping: where it lies.
            where: file or mapping, for errors.

        Raises:
            FormatError: a part of the contract has no source.
        """
        mapping.check(contract, where)
        self.contract, self.map = contract, mapping

    def assemble(
        self,
        entry: Callable[[str], tuple[np.ndarray, Sequence[str]]],
        frames: Callable[[str], np.ndarray],
        success: bool,
        who: str,
    ) -> Trajectory:
        """Return the trajectory.

        Args:
            entry: gives the array (rows, n) of a key and its element names; for the action
                (T, n), else (T + 1, n).
            frames: gives the images (T + 1, H, W, 3), uint8, of a key.
            success: the verdict.
            who: file and episode, for errors.

        Raises:
            FormatError: a shape, a range or a value does not fit; names field and row.
        """
        contract = self.contract
        action = self._take(self.map.action, entry, contract.action_dim, "action", who)
        action = self._in_range(action, who)
        observation = np.zeros((len(action) + 1, contract.obs_dim), np.float32)
        for name, place in contract.layout.items():
            size = place.stop - place.start
            values = self._take(self.map.fields[name], entry, size, name, who)
            if len(values) != len(observation):
                raise FormatError(
                    f"{who}: {name} has {len(values)} rows for {len(action)} actions, expected "
                    f"{len(observation)}"
                )
            observation[:, place] = values
        images = []
        for camera in contract.images:
            seen = frames(self.map.images[camera])
            if seen.dtype != np.uint8 or seen.ndim != 4 or seen.shape[3] != 3:
                raise FormatError(
                    f"{who}: images '{self.map.images[camera]}' are {seen.dtype} {seen.shape}, "
                    "expected uint8 (rows, H, W, 3)"
                )
            if len(seen) != len(observation):
                raise FormatError(
                    f"{who}: images '{self.map.images[camera]}' has {len(seen)} frames, expected "
                    f"{len(observation)}"
                )
            images.append(np.stack([shrink(image, contract.image_size) for image in seen]))
        return Trajectory(observation, action, tuple(images), success, who)

    def _take(
        self,
        column: Column,
        entry: Callable[[str], tuple[np.ndarray, Sequence[str]]],
        size: int,
        name: str,
        who: str,
    ) -> np.ndarray:
        values, known = entry(column.key)
        if values.ndim != 2:
            raise FormatError(
                f"{who}: '{column.key}' has shape {values.shape}, expected (rows, n)"
            )
        taken = column.take(values, known, who)
        if taken.shape[1] != size:
            raise FormatError(
                f"{who}: {name} takes {taken.shape[1]} numbers from '{column.key}', the contract "
                f"has {size}; choose them with `names` or `indices` in the mapping"
            )
        finite = np.isfinite(taken)
        if not finite.all():
            row, element = np.argwhere(~finite)[0]
            raise FormatError(
                f"{who}: {name}[{row}, {element}] is {taken[row, element]}; drop the episode"
            )
        return taken

    def _in_range(self, action: np.ndarray, who: str) -> np.ndarray:
        contract = self.contract
        beyond = (action < contract.lower - _SLACK_RAD) | (action > contract.upper + _SLACK_RAD)
        if beyond.any():
            row, joint = np.argwhere(beyond)[0]
            it = contract.joints[joint]
            raise FormatError(
                f"{who}: action[{row}] of '{it.name}' is {action[row, joint]:.4g} rad, outside "
                f"[{it.lower}, {it.upper}]: these must be joint targets in rad, in the robot's "
                "order (`unit: deg` and `names` in the mapping help)"
            )
        return np.clip(action, contract.lower, contract.upper)
