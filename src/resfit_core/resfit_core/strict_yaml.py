"""YAML that is read strictly: unknown and missing keys are refused, naming the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


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
