"""A user's ROS parameter file, laid over the graph's parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from resfit_bringup.errors import UsageError
from resfit_core.strict_yaml import load_yaml

if TYPE_CHECKING:
    from resfit_bringup.graph import Node

EVERY = "/**"


def merge(nodes: tuple[Node, ...], file: str) -> tuple[Node, ...]:
    """Add the parameters of a ROS parameter YAML to the nodes it names.

    What an argument sets cannot be set here as well: there is then never a question of which of
    the two won.

    Args:
        nodes: With all their parameters filled in.
        file: `node: {ros__parameters: {name: value}}`; `/**` means every node.

    Raises:
        UsageError: The file is unreadable, names an unknown node, or sets what an argument sets.
    """
    sections = _sections(file)
    names = [n.name for n in nodes]
    for section in sections:
        if section != EVERY and section not in names:
            raise UsageError(f"{file}: node '{section}' is not one of {', '.join(names)}")
    merged = []
    for node in nodes:
        extra = {**sections.get(EVERY, {}), **sections.get(node.name, {})}
        for key in extra:
            if key in node.parameters:
                raise UsageError(
                    f"{file}: '{key}' of {node.name} is set by the job's arguments; "
                    f"leave it out here and give {key}:= instead"
                )
        merged.append(dataclasses.replace(node, parameters={**node.parameters, **extra}))
    return tuple(merged)


def _sections(file: str) -> dict[str, Mapping[str, Any]]:
    try:
        loaded = load_yaml(file)
    except OSError as error:
        raise UsageError(f"params_file:={file}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"params_file:={file}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"params_file:={file}: node names with 'ros__parameters' are expected")
    sections = {}
    for name, content in loaded.items():
        if not isinstance(content, dict) or not isinstance(content.get("ros__parameters"), dict):
            raise UsageError(f"{file}: '{name}' needs a mapping 'ros__parameters'")
        key = name if name == EVERY else str(name).lstrip("/")
        sections[key] = content["ros__parameters"]
    return sections


def write(nodes: tuple[Node, ...], folder: Path) -> dict[str, Path]:
    """Write one ROS parameter file for each node, and return where they lie.

    A file and not `-p name:=value`: YAML keeps the types, so that a folder called `2024` stays
    text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for node in nodes:
        content = {node.name: {"ros__parameters": dict(node.parameters)}}
        path = folder / f"{node.name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=True))
        written[node.name] = path
    return written
