"""Node `expert_teleop`: the scripted expert takes over in the twin, as a person would."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from geometry_msgs.msg import PoseArray
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from resfit_core.control.observe import JointOrder, ObservationError, SensorJoiner
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import declare
from resfit_sim.expert import make_expert
from resfit_sim.expert_hands import ExpertHands
from resfit_sim.joints import JOINT_NAMES
from resfit_sim.model import load_model
from resfit_sim.tasks import make_task

_TOPICS = ("joint_states", "object_poses")
_HOLD_S = 0.05  # a held switch says so this often


class ExpertTeleopNode(Node):
    """Publishes `teleop_deadman` and `teleop_command`; when and what decides `ExpertHands`."""

    def __init__(self, **kwargs: Any) -> None:
        """Prepare the expert."""
        super().__init__("expert_teleop", **kwargs)
        contract = contract_from_parameters(self)
        clock = declare(
            self, "clock", "lockstep", "lockstep: the twin waits for every answer; realtime: not",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        share = declare(self, "takeover_share", 0.5, "of the practice episodes", range=(0.0, 1.0))
        steps = declare(
            self, "takeover_steps", 0, "steps that it drives; 0: to the end", range=(0, None)
        )
        latest = declare(
            self, "takeover_latest", 40, "it takes over before this step", range=(2, None)
        )
        expert = make_expert(contract.task, load_model(make_task(contract.task)))
        self._hands = ExpertHands(
            expert, share=share, steps=steps, latest=latest,
            period_ns=round(contract.period_s * 1e9),
        )  # fmt: skip
        self._objects = [contract.objects.index(name) for name in expert.objects]
        self._order = JointOrder(JOINT_NAMES)
        self._held = False
        # The twin's sensors of one moment carry one stamp, in both clocks.
        self._joiner: SensorJoiner[Any] = SensorJoiner(_TOPICS, exact=True, slack_ns=0)
        self._hand = self.create_publisher(Bool, "teleop_deadman", qos.reliable(10))
        self._commands = self.create_publisher(JointTrajectory, "teleop_command", qos.reliable(10))
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        for kind, topic in ((JointState, _TOPICS[0]), (PoseArray, _TOPICS[1])):
            self.create_subscription(
                kind, topic,
                self.pass_over(topic, lambda msg, topic=topic: self._take(topic, msg)),
                qos.sensor(clock),
            )  # fmt: skip
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_HOLD_S, self._hold_on, clock=steady)

    def _on_state(self, msg: ours.EpisodeState) -> None:
        self._hands.state(conversions.episode_state_from_msg(msg))

    def _take(self, topic: str, msg: Any) -> None:
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        joined = self._joiner.add(topic, stamp_ns, msg)
        if joined is None:
            return
        if self._hands.wants(joined.stamp_ns) and not self._held:
            # First the hand, then the plan: planning takes as long as many steps of the twin.
            self._held = True
            self._hand.publish(Bool(data=True))
        _, names, position, _ = conversions.joint_state_from_msg(joined.items[_TOPICS[0]])
        _, poses = conversions.poses_from_msg(joined.items[_TOPICS[1]])
        if len(poses) <= max(self._objects):
            raise ObservationError(
                f"{_TOPICS[1]} has {len(poses)} poses; the task's objects are "
                f"{max(self._objects) + 1} or more"
            )
        target = self._hands.act(
            joined.stamp_ns, self._order.sort(names, position), poses[self._objects]
        )
        if target is None:
            self._let_go()
            return
        self._commands.publish(
            conversions.trajectory_to_msg(joined.stamp_ns, JOINT_NAMES, np.asarray(target))
        )

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._hand.publish(Bool(data=False))
        if self._hands.why_not:
            self.get_logger().warning(
                f"does not take over: {self._hands.why_not}", throttle_duration_sec=5.0
            )

    def _hold_on(self) -> None:
        if self._held:
            self._hand.publish(Bool(data=True))


def main() -> NoReturn:
    """Run the node."""
    run_process(ExpertTeleopNode)


if __name__ == "__main__":
    main()
