"""Parameters as declared data: type, default, range, choices; bad ones refused in one line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node

_Value = TypeVar("_Value", bool, int, float, str, list)
# rclpy declares these itself, or they steer rclpy and not the node.
_FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")


class ParameterError(ValueError):
    """A parameter that is unknown, of the wrong type or out of range."""


def declare(
    node: Node,
    name: str,
    default: _Value,
    description: str,
    *,
    range: tuple[float | None, float | None] | None = None,
    read_only: bool = True,
    choices: Sequence[Any] | None = None,
) -> _Value:
    """Declare one parameter and return its checked value.

    Calling it again returns the present value. The type is the default's; a whole number is taken
    where a float is expected, since `5` is what people type.

    Args:
        node: Node that owns it.
        name: Snake case, unit as suffix.
        default: Value where none is given; a list gives its items' type by its first item.
        description: Shown by `ros2 param describe`, with unit and meaning of zero.
        range: Least and most allowed value, both inclusive; None: no bound on that side.
        read_only: Refuse changes while the node runs.
        choices: The only allowed values.

    Raises:
        ParameterError: The given value has the wrong type or is out of range.
    """
    facts = (name, default, range, tuple(choices) if choices is not None else None)
    bounds = f" Range: {range[0]} to {range[1]}." if range else ""
    words = f" One of {list(choices)}." if choices is not None else ""
    descriptor = ParameterDescriptor(
        description=description + bounds + words,
        read_only=read_only,
        # Checked here: rclpy's own errors name neither the allowed set nor the fix.
        dynamic_typing=True,
    )
    if not node.has_parameter(name):
        node.declare_parameter(name, default, descriptor)
        if not read_only:
            _watch(node, facts)
    return _checked(*facts, node.get_parameter(name).value)


def refuse_unknown(node: Node) -> None:
    """Refuse given parameters that the node never declared: nearly always a misspelt key.

    Call it after the constructor.

    Raises:
        ParameterError: Names the key and the nearest declared one.
    """
    given = getattr(node, "_parameter_overrides", {})
    declared = set(node._parameters) if hasattr(node, "_parameters") else set(given)
    for name in given:
        if name not in declared and not name.startswith(_FOREIGN):
            near = difflib.get_close_matches(name, declared, n=1)
            known = sorted(n for n in declared if not n.startswith(_FOREIGN))
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise ParameterError(f"unknown parameter '{name}'; {hint}")


def _watch(node: Node, facts: tuple) -> None:
    def check(parameters: list) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == facts[0]:
                try:
                    _checked(*facts, parameter.value)
                except ParameterError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def _checked(name: str, default: Any, bounds: Any, choices: Any, value: Any) -> Any:
    value = _typed(name, default, value)
    if choices is not None and value not in choices:
        raise ParameterError(f"parameter '{name}' is {value!r}, expected one of {list(choices)}")
    if bounds is not None:
        least, most = bounds
        if (least is not None and value < least) or (most is not None and value > most):
            low = "-inf" if least is None else least
            high = "inf" if most is None else most
            raise ParameterError(f"parameter '{name}' is {value}, must be from {low} to {high}")
    return value


def _typed(name: str, default: Any, value: Any) -> Any:
    kind = type(default)
    wrong = ParameterError(f"parameter '{name}' is {value!r}, expected {kind.__name__}")
    if kind is list:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise wrong
        items = list(value)
        return [_typed(f"{name}[]", default[0], item) for item in items] if default else items
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong
        if not math.isfinite(value):
            raise ParameterError(f"parameter '{name}' is {value}, a finite number is needed")
        return float(value)
    if type(value) is not kind:
        raise wrong
    return value
