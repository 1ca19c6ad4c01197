"""What the keys and buttons of an operator's devices mean; read from YAML, no ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from resfit_core.control.press import Press
from resfit_core.strict_yaml import load_yaml
from resfit_reward import linux_keys

GO = "GO"
"""Means START where the run waits for one, RESET_DONE otherwise."""
DEVICES = ("keyboard", "gamepad", "keypad")
_MEANINGS = (GO, *(p.name for p in Press if p != Press.TIMEOUT))


class MappingError(ValueError):
    """A mapping that cannot be used; the text names file, key and what is allowed."""


def _keyboard() -> dict[str, str]:
    return {
        "s": "SUCCESS", "f": "FAILURE", "a": "ABORT", "u": "UNDO", "p": "PAUSE", "r": GO,
        "q": "STOP", " ": "ESTOP", "z": "REARM",
    }  # fmt: skip


def _gamepad() -> dict[int, str]:
    # Numbers of joy's game_controller_node: A, B, X, Y, back, start, left shoulder.
    return {
        0: "SUCCESS", 1: "FAILURE", 2: "UNDO", 3: "ABORT", 4: "ESTOP", 6: GO, 9: "PAUSE",
    }  # fmt: skip


def _keypad() -> dict[str, str]:
    # A number pad; three-switch pedals mostly send A, B and C.
    return {
        "KEY_KP1": "SUCCESS", "KEY_KP2": "FAILURE", "KEY_KP3": "UNDO", "KEY_KPENTER": GO,
        "KEY_KP0": "ESTOP", "KEY_A": "SUCCESS", "KEY_B": "FAILURE", "KEY_C": GO,
    }  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Meanings by device: characters, numbers of `Joy.buttons`, names of Linux keys."""

    keyboard: Mapping[str, str] = field(default_factory=_keyboard)
    gamepad: Mapping[int, str] = field(default_factory=_gamepad)
    keypad: Mapping[str, str] = field(default_factory=_keypad)

    @classmethod
    def load(cls, path: str | Path) -> Inputs:
        """Read a YAML file; a device that it does not name keeps its defaults.

        Raises:
            MappingError: The file, a device, a key or a meaning is wrong.
        """
        try:
            data = load_yaml(path)
        except (OSError, yaml.YAMLError) as error:
            words = " ".join(str(error).split())
            raise MappingError(f"mapping '{path}' cannot be read: {words}") from error
        if not isinstance(data, dict):
            raise MappingError(f"mapping '{path}': devices are expected, of {', '.join(DEVICES)}")
        for device in data:
            if device not in DEVICES:
                raise MappingError(
                    f"mapping '{path}': '{device}' is no device; known: {', '.join(DEVICES)}"
                )
        return cls(**{d: _checked(str(path), d, keys) for d, keys in data.items()})

    def help(self) -> str:
        """Return what the terminal's keys mean, in one line."""
        words = {" ": "space"}
        return ", ".join(
            f"{words.get(k, k)} {m.lower().replace('_', ' ')}" for k, m in self.keyboard.items()
        )


def press_of(meaning: str, waits: bool) -> Press:
    """Return the press that a meaning stands for.

    Args:
        meaning: Name of a press, or `GO`.
        waits: The run waits for START.
    """
    if meaning == GO:
        return Press.START if waits else Press.RESET_DONE
    if meaning == Press.PAUSE.name and waits:
        return Press.RESUME
    return Press[meaning]


class Gamepad:
    """Turns the buttons of `sensor_msgs/Joy` into meanings; a long press is one press."""

    def __init__(self, mapping: Mapping[int, str]) -> None:
        """Take the mapping."""
        self._mapping = mapping
        self._down: frozenset[int] | None = None

    def pressed(self, buttons: Sequence[int]) -> list[str]:
        """Return the meanings of the buttons that went down since the last message.

        What is down in the first message was pressed before this node came up, and is left out.
        """
        down = frozenset(i for i, value in enumerate(buttons) if value)
        new = down - (down if self._down is None else self._down)
        self._down = down
        return [self._mapping[i] for i in sorted(new) if i in self._mapping]


def _checked(path: str, device: str, keys: Any) -> dict[Any, str]:
    if not isinstance(keys, dict):
        raise MappingError(f"mapping '{path}', {device}: 'key: MEANING' pairs are expected")
    for key, meaning in keys.items():
        if meaning not in _MEANINGS:
            raise MappingError(
                f"mapping '{path}', {device}, {key!r}: '{meaning}' is no meaning; "
                f"known: {', '.join(_MEANINGS)}"
            )
        fault = _fault(device, key)
        if fault:
            raise MappingError(f"mapping '{path}', {device}: {key!r} {fault}")
    return dict(keys)


def _fault(device: str, key: Any) -> str:
    if device == "gamepad" and (type(key) is not int or key < 0):
        return "is no number of a button, from 0"
    if device == "keyboard" and not (isinstance(key, str) and len(key) == 1):
        return "is not one character (quote digits and y, n)"
    if device == "keypad" and key not in linux_keys.CODES:
        return "is no key; see resfit_reward/linux_keys.py, e.g. KEY_A, KEY_KP1, BTN_0"
    return ""
