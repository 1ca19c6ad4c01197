"""YAML that is read strictly: unknown and missing keys are refused, naming the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_MOST = 1e9  # no length, rate or angle of a robot comes near it; infinity would be no limit


class ContractError(ValueError):
    """A robot, task or data item does not keep the contract. The text names value and fix."""


class _Loader(yaml.SafeLoader):
    """YAML without Python's own types, in which no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: the later one would win unseen."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.YAMLError(f"key '{key.value}' stands twice{key.start_mark}")
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file, whatever it holds.

    Raises:
        OSError: It cannot be read.
        yaml.YAMLError: It is no YAML, no UTF-8, nested without end, or a key stands twice.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise yaml.YAMLError(str(error)) from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ContractError: If the file is missing, no YAML, or not a mapping.
    """
    try:
        loaded = load_yaml(path)
    except FileNotFoundError as error:
        raise ContractError(f"config file '{path}' does not exist") from error
    except OSError as error:
        raise ContractError(f"config file '{path}' cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ContractError(f"{path}: a mapping of keys is expected, not {type(loaded).__name__}")
    return loaded


def check_keys(given: Any, allowed: set[str], where: str) -> None:
    """Refuse missing and unknown keys, naming the nearest allowed one.

    Raises:
        ContractError: If `given` is no mapping or its keys are not exactly `allowed`.
    """
    check_keys_in(given, allowed, where)
    missing = sorted(allowed - set(given))
    if missing:
        raise ContractError(f"{where}: missing key '{missing[0]}'")


def check_keys_in(given: Any, allowed: set[str], where: str) -> None:
    """Refuse unknown keys only, naming the nearest allowed one.

    Raises:
        ContractError: If `given` is no mapping or has a key outside `allowed`.
    """
    if not isinstance(given, Mapping):
        raise ContractError(f"{where}: a mapping of keys is expected, not {given!r}")
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; allowed: {sorted(allowed)}"
            raise ContractError(f"{where}: unknown key '{key}'{hint}")


def is_number(value: Any) -> bool:
    """Return whether a value is a number of a size that something of a robot can have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST


def positive(data: Mapping[str, Any], key: str, where: str | Path) -> float:
    """Return a finite number above 0 of a mapping.

    Raises:
        ContractError: It is something else.
    """
    value = data[key]
    if not is_number(value) or not value > 0:
        raise ContractError(f"{where}: '{key}' is {value!r}, a finite number above 0 is needed")
    return float(value)


def not_negative(data: Mapping[str, Any], key: str, where: str | Path) -> float:
    """Return a finite number of 0 or more of a mapping.

    Raises:
        ContractError: It is something else.
    """
    value = data[key]
    if not is_number(value) or value < 0:
        raise ContractError(
            f"{where}: '{key}' is {value!r}, a finite number of 0 or more is needed"
        )
    return float(value)
