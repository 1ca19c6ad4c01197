"""The contract, as a node's parameters name it."""

from __future__ import annotations

from rclpy.node import Node

from resfit_core.contract import Contract, load_contract
from resfit_ros.parameters import ParameterError, declare


def declare_contract(node: Node) -> tuple[str, str, str]:
    """Declare `robot_file`, `task_file` and `observation`; return their values.

    Lifecycle nodes call it in their constructor and load when they are configured.
    """
    return (
        declare(node, "robot_file", "", "path of the robot YAML (config/robot); required"),
        declare(node, "task_file", "", "path of the task YAML (config/task); required"),
        declare(node, "observation", "state", "observation variant of the task"),
    )


def contract_from_parameters(node: Node) -> Contract:
    """Load what the parameters `robot_file`, `task_file` and `observation` name.

    Raises:
        ParameterError: A file is not given.
        ContractError: A file is missing or wrong.
    """
    robot, task, variant = declare_contract(node)
    for name, value in (("robot_file", robot), ("task_file", task)):
        if not value:
            raise ParameterError(f"parameter '{name}' is empty; give the path of its YAML file")
    return load_contract(robot, task, variant)
