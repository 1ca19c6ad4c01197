"""Node `player`: recorded sensors through the live nodes, and what came of it in a table."""

from __future__ import annotations

import array
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rclpy.clock import Clock, ClockType
from trajectory_msgs.msg import JointTrajectory

from resfit_core import tensorfile
from resfit_core.control.records import EpisodeState
from resfit_core.control.safety import Reason
from resfit_core.data.recording import read_recording
from resfit_core.data.sensor_log import CAMERAS, sensor_topics
from resfit_core.playing.bags import find_episodes
from resfit_core.playing.comparison import Comparison
from resfit_core.playing.player import Player, PlayError, Timing
from resfit_core.weights import weights_path
from resfit_interfaces import msg as ours
from resfit_residual.sensor_recording import MESSAGE_TYPES
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import Node, run_process
from resfit_ros.parameters import ParameterError, declare

DIFFERENT = 3
"""Exit code: everything was played, and something differs from what was recorded."""

REPORT = "replay.json"
_TICK_S = 0.1


class PlayerNode(Node):
    """Stands where twin, episode manager and learner stand in a run.

    What it says when decides `Player`.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Read the episodes; refuse in words what cannot be played."""
        super().__init__("player", **kwargs)
        contract = contract_from_parameters(self)
        bag = declare(self, "bag", "", "episode, run or folder of episodes; several by commas")
        self._weights = declare(
            self, "weights", "", "residual weights to play with; empty: those of the bag's run"
        )
        tolerance = declare(
            self, "tolerance", 0.0, "differences up to this do not count [rad or 1]; 0: none may",
            range=(0.0, None),
        )  # fmt: skip
        run_dir = declare(self, "run_dir", "", f"folder that {REPORT} is written to")
        for name, value in (("bag", bag), ("run_dir", run_dir)):
            if not value:
                raise ParameterError(f"parameter '{name}' is empty; give its path")
        if self._weights and not Path(self._weights).is_file():
            raise ParameterError(f"weights '{self._weights}' is no file; give a .safetensors")
        self._report = Path(run_dir) / REPORT
        cameras = [contract.camera(name).topic for name in contract.images]
        recordings = [read_recording(path, cameras) for path in find_episodes(bag)]
        for recording in recordings:
            contract.require(recording.manifest.contract_sha256, f"bag {recording.path}")
        period_ns = round(contract.period_s * 1e9)
        timing = Timing(
            period_ns,
            round(2e9 * max(contract.command_timeout_s, contract.period_s)),
            round(contract.reaction_time_s * 1e9),
        )
        self._comparison = Comparison(contract.joint_names, tolerance)
        self._player = Player(recordings, self._comparison, self, timing)
        self._shown = {
            topic: self.create_publisher(MESSAGE_TYPES[name], topic, qos.reliable(10))
            for topic, name in sensor_topics(contract, CAMERAS).items()
            if any(topic in recording.sensors for recording in recordings)
        }
        self._states_out = self.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self._weights_out = self.create_publisher(
            ours.PolicyWeights, "policy_weights", qos.LATCHED
        )
        for kind, topic, hear in (
            (ours.PolicyStep, "policy_step", self._on_policy_step),
            (ours.Step, "step", self._on_step),
            (JointTrajectory, "policy_command", self._on_command),
            (ours.ExecutedCommand, "executed_command", self._on_executed),
        ):
            self.create_subscription(kind, topic, hear, qos.reliable(400))
        self.create_timer(_TICK_S, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def start(self) -> None:
        """Begin to play."""
        self._player.start(time.monotonic_ns())

    # --- what the player says ------------------------------------------------------------------

    def state(self, state: EpisodeState) -> None:
        """Publish an episode state."""
        self._states_out.publish(conversions.episode_state_to_msg(state))

    def weights(self, version: int) -> bool:
        """Publish the weights of a version; False: there are none."""
        # <run>/episodes/episode_000001: the weights lie beside the episodes.
        run = self._player.recording.path.resolve().parents[1]
        path = Path(self._weights) if self._weights else weights_path(run, version)
        if not path.is_file():
            return False
        data = path.read_bytes()
        _, header = tensorfile.unpack(data, str(path))
        self._weights_out.publish(
            ours.PolicyWeights(
                header=conversions.header(self.get_clock().now().nanoseconds),
                version=version,
                data=array.array("B", data),
                sha256=tensorfile.sha256(data),
                updates=int(header["updates"]),
                contract_sha256=header["contract_sha256"],
                base_sha256=header["base_sha256"],
            )
        )
        return True

    def show(self, messages: Mapping[str, bytes]) -> None:
        """Publish sensor data as it was serialized when it was recorded."""
        for topic, data in messages.items():
            if topic in self._shown:
                self._shown[topic].publish(data)

    # --- what it hears -------------------------------------------------------------------------

    def _on_policy_step(self, msg: ours.PolicyStep) -> None:
        self._player.on_policy_step(msg, time.monotonic_ns())
        self._look()

    def _on_step(self, msg: ours.Step) -> None:
        self._player.on_step(msg, time.monotonic_ns())
        self._look()

    def _on_command(self, msg: JointTrajectory) -> None:
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        self._player.on_command(stamp_ns, time.monotonic_ns())

    def _on_executed(self, msg: ours.ExecutedCommand) -> None:
        if not msg.reasons & Reason.WATCHDOG:
            self._player.on_executed(msg, time.monotonic_ns())
            self._look()

    def _on_timer(self) -> None:
        try:
            self._player.tick(time.monotonic_ns())
        except PlayError as error:
            self.fail(error)

    def _look(self) -> None:
        if not self._player.finished or self._report is None:
            return
        report, self._report = self._report, None
        found = self._comparison.summary()
        tensorfile.write_atomic(report, (json.dumps(found, indent=1) + "\n").encode())
        for line in self._comparison.table():
            self.get_logger().info(line)
        words = "same" if found["same"] else "different"
        self.get_logger().info(
            f"replay: same={'yes' if found['same'] else 'no'} episodes={found['episodes']} "
            f"steps={found['steps']} ({words}; {report})"
        )
        self.finish(0 if found["same"] else DIFFERENT)


def main() -> NoReturn:
    """Run the node."""
    run_process(PlayerNode)


if __name__ == "__main__":
    main()
