"""The topics of a person who may take over, and of the run whose episodes they drive in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import Contract, ContractError
from resfit_core.control.answers import Answer
from resfit_core.control.driver import DriverCore
from resfit_core.control.reset_motion import StartPose, load_start
from resfit_interfaces.msg import EpisodeState
from resfit_ros import conversions, qos
from resfit_ros.parameters import declare


class PersonSettings(NamedTuple):
    """What the driver's core is told of persons: see `DriverCore`."""

    deadman_timeout_s: float
    start: StartPose | None

    @classmethod
    def declared(cls, node: Node, contract: Contract, clock: str) -> PersonSettings:
        """Declare and read the node's parameters.

        Raises:
            ContractError: `auto_reset` has no pose to go to, or a clock that stands.
        """
        timeout_s = declare(
            node, "deadman_timeout_s", 0.3, "a person who drives and is silent for so long [s] is "
            "lost: the robot holds", range=(0.05, 10.0),
        )  # fmt: skip
        auto_reset = declare(
            node, "auto_reset", False, "real time: go to the task's start pose between episodes"
        )
        if not auto_reset:
            return cls(timeout_s, None)
        start = load_start(node.get_parameter("task_file").value, contract)
        if start is None or clock == "lockstep":
            raise ContractError(
                "auto_reset needs clock:=realtime and <task>.start.yaml beside the task's YAML"
            )
        return cls(timeout_s, start)


class PersonTopics:
    """Hands `teleop_command`, `teleop_deadman` and `episode_state` to the driver's core.

    What becomes of them decides `Arbiter`.
    """

    def __init__(
        self,
        node: Node,
        core: DriverCore,
        carry_out: Callable[[Answer | None], None],
        say_state: Callable[[], None],
    ) -> None:
        """Open the topics.

        Args:
            node: Owns the subscriptions; a word that comes while it is not `active` is dropped.
            core: Decides.
            carry_out: Called with the answer to a tick that waited for the person.
            say_state: Called where the run's state changed.
        """
        self._node, self._core = node, core
        self._carry_out, self._say_state = carry_out, say_state
        self._subscriptions = [
            node.create_subscription(
                JointTrajectory, "teleop_command", self._on_command, qos.reliable(10)
            ),
            node.create_subscription(Bool, "teleop_deadman", self._on_deadman, qos.reliable(10)),
            node.create_subscription(
                EpisodeState, "episode_state", self._on_episode, qos.LATCHED_IN
            ),
        ]

    def close(self) -> None:
        """Close the topics."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_command(self, msg: JointTrajectory) -> None:
        if not self._node.active:
            return
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        # Not one point is not one target: the core refuses its length.
        target: Any = msg.points[0].positions if len(msg.points) == 1 else ()
        self._carry_out(
            self._core.teleop(
                stamp_ns, msg.joint_names, np.array(target, np.float64), time.monotonic_ns()
            )
        )

    def _on_deadman(self, msg: Bool) -> None:
        if self._node.active:
            self._carry_out(self._core.deadman(msg.data, time.monotonic_ns()))

    def _on_episode(self, msg: EpisodeState) -> None:
        self._core.arbiter.episode(conversions.episode_state_from_msg(msg))
        self._say_state()
