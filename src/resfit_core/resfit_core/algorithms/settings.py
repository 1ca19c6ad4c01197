"""Frozen settings read from YAML: unknown keys refused, ranges checked, errors with the fix."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from resfit_core.strict_yaml import load_yaml

_Settings = TypeVar("_Settings")


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


def setting(
    default: Any,
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a setting: default, description and the values it may take (bounds inclusive)."""
    facts = {"doc": doc, "least": least, "most": most, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


def check(settings: Any) -> None:
    """Bring int, float, bool and str settings to their type and check the declared ranges.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """
    for field in dataclasses.fields(settings):
        value = _typed(field, getattr(settings, field.name))
        object.__setattr__(settings, field.name, value)
        facts = field.metadata
        if facts.get("choices") and value not in facts["choices"]:
            raise ConfigError(f"{field.name} is {value!r}, expected one of {facts['choices']}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            for bound, good, word in (
                ("least", lambda v, b: v >= b, ">="),
                ("most", lambda v, b: v <= b, "<="),
                ("above", lambda v, b: v > b, ">"),
            ):
                limit = facts.get(bound)
                if limit is not None and not good(value, limit):
                    raise ConfigError(
                        f"{field.name} is {value}, must be {word} {limit}: {facts['doc']}"
                    )


def from_mapping(
    kind: type[_Settings], values: Mapping[str, Any], where: str = "settings"
) -> _Settings:
    """Build settings from a mapping.

    Raises:
        ConfigError: an unknown key (with the nearest known ones) or a bad value.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def from_yaml(kind: type[_Settings], path: str | Path) -> _Settings:
    """Build settings from a YAML file; an empty file gives the defaults.

    Raises:
        ConfigError: no such file, no mapping, an unknown key or a bad value.
    """
    try:
        values = load_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, expected `key: value` lines")
    return from_mapping(kind, values, str(path))


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    kind = field.type
    wrong = ConfigError(f"{field.name} is {value!r}, expected {kind}")
    if kind == "bool":
        if not isinstance(value, bool):
            raise wrong
        return value
    if kind == "str":
        if not isinstance(value, str):
            raise wrong
        return value
    if kind in ("int", "float"):
        return _number(kind, value, wrong)
    return value


def _number(kind: str, value: Any, wrong: ConfigError) -> int | float:
    if isinstance(value, str):
        # YAML 1.1 reads 1e-4 as a string; people write it all the time.
        try:
            value = float(value)
        except ValueError:
            raise wrong from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong
    if kind == "int":
        if int(value) != value:
            raise wrong
        return int(value)
    return float(value)
