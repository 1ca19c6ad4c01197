"""What a job is made of: nodes, their parameters, and the plan that is left when all is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resfit_bringup.arguments import Argument

FINISHER = "episode_manager"  # the node whose exit with code 0 means that the run is finished


@dataclass(frozen=True)
class Ref:
    """Stands in a node's parameters for the value of an argument, or of a path made from one."""

    name: str


@dataclass(frozen=True)
class Node:
    """One process of the graph.

    Attributes:
        package: Package that installs the executable.
        name: Name of the node and of its executable.
        parameters: ROS parameters; a :class:`Ref` is replaced by the argument's value.
        required: Its death ends the run; every other node is started again.
        console: It gets the terminal's keyboard.
        when: Argument that must be true (or other than `none`) for it to start, or
            `argument=value`; empty: it always does.
    """

    package: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False
    console: bool = False
    when: str = ""

    @property
    def executable(self) -> str:
        """Name of the executable: the node's own (STYLE: same string for both)."""
        return self.name


@dataclass(frozen=True)
class Job:
    """What one command starts.

    Attributes:
        name: As in `resfit run <name>` and `<name>.launch.py`.
        help: One sentence.
        arguments: What a user may give.
        nodes: What is started.
        blind: It is a blind evaluation: its folder lies in that of a training run, and is sealed.
        finisher: Node whose exit with code 0 means that the run is finished.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...]
    nodes: tuple[Node, ...]
    blind: bool = False
    finisher: str = FINISHER


@dataclass(frozen=True)
class Plan:
    """A job with all its values: nothing is left to decide, nothing has been started.

    Attributes:
        job: its name.
        values: of the arguments.
        nodes: their references filled in.
        sources: `robot`, `task` and `train`: the YAML files that the run copies.
        finisher: Node whose exit with code 0 means that the run is finished.
    """

    job: str
    values: Mapping[str, Any]
    nodes: tuple[Node, ...]
    sources: Mapping[str, str]
    finisher: str = FINISHER

    @property
    def log_level(self) -> str:
        """Log level of every node."""
        return self.values["log_level"]
