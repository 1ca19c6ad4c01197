"""Typed `name:=value` arguments, alike for `resfit run` and for `ros2 launch`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resfit_bringup.errors import UsageError

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")


@dataclass(frozen=True)
class Argument:
    """One argument of a job: its type is the type of its default.

    Attributes:
        name: As in `name:=value`.
        default: Value when it is not given; `str`, `bool`, `int` or `float`.
        help: One sentence, with unit and the meaning of zero or empty.
        choices: Allowed values; empty: any.
        least: Smallest allowed number; None: any.
        kept: A continued run keeps the value that it had.
    """

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    kept: bool = True

    def parse(self, text: str) -> Any:
        """Turn text into a value of this argument's type.

        Raises:
            UsageError: If the text is no such value; names argument, value and what is allowed.
        """
        kind = type(self.default)
        if kind is bool:
            if text.lower() not in TRUE + FALSE:
                raise UsageError(f"{self.name}:={text}: true or false is needed")
            return text.lower() in TRUE
        if kind in (int, float):
            return self._number(text, kind)
        if self.choices and text not in self.choices:
            raise UsageError(f"{self.name}:={text}: not one of {', '.join(self.choices)}")
        return text

    def _number(self, text: str, kind: type) -> Any:
        name = "a whole number" if kind is int else "a number"
        bound = "" if self.least is None else f" of at least {self.least:g}"
        problem = UsageError(f"{self.name}:={text}: {name}{bound} is needed")
        try:
            value = kind(text)
        except ValueError:
            raise problem from None
        if not math.isfinite(value) or (self.least is not None and value < self.least):
            raise problem
        return value

    def as_text(self) -> str:
        """Return the default as launch files and help texts write it."""
        return as_text(self.default)


def as_text(value: Any) -> str:
    """Write a value as `parse` reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def split_pairs(words: Iterable[str]) -> dict[str, str]:
    """Split `name:=value` words.

    Raises:
        UsageError: If a word is no such pair or a name is given twice.
    """
    given: dict[str, str] = {}
    for word in words:
        name, mark, value = word.partition(":=")
        if not mark or not name:
            raise UsageError(f"'{word}' is not an argument: write name:=value")
        if name in given:
            raise UsageError(f"{name}:= is given twice: '{given[name]}' and '{value}'")
        given[name] = value
    return given


def parse_all(arguments: Iterable[Argument], given: Mapping[str, str], job: str) -> dict[str, Any]:
    """Return the value of every argument, defaults filled in.

    Raises:
        UsageError: If a name is unknown or a value wrong.
    """
    known = {a.name: a for a in arguments}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}:=?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"job '{job}' has no argument '{name}'; {hint}")
    return {
        name: argument.parse(given[name]) if name in given else argument.default
        for name, argument in known.items()
    }
