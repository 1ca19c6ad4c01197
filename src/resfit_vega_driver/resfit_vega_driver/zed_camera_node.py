"""Node `zed_camera`: a ZED's two images under the names of zed-ros2-wrapper (docs/camera.md)."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, Image

from resfit_core.contract import Camera
from resfit_core.control.records import EpisodeState, Phase
from resfit_core.strict_yaml import ContractError
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.lifecycle import LifecycleNode
from resfit_ros.node import run_process
from resfit_ros.parameters import declare
from resfit_vega_driver.camera.framing import Framing
from resfit_vega_driver.camera.messages import camera_info, diagnostics, info_topics
from resfit_vega_driver.camera.pump import Pump
from resfit_vega_driver.camera.settings import SOURCES, load_settings, make_source
from resfit_vega_driver.camera.source import EYES, Calibration

_LOOK_PERIOD_S = 0.1
_HEALTH_PERIOD_S = 1.0
_DEPTH = 10  # reliable, as zed-ros2-wrapper


class ZedCameraNode(LifecycleNode):
    """Publishes what a source sees; stops the episode when it cannot be believed.

    The pump grabs and publishes on a thread of its own; all else runs on the executor's.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Declare the parameters; refuse in words what does not fit."""
        super().__init__("zed_camera", **kwargs)
        self._contract = contract_from_parameters(self)
        source = declare(
            self, "source", "", "sdk: Stereolabs' SDK; uvc: USB ZED as a webcam; file; empty: as "
            "<robot>.camera.yaml says", choices=("", *SOURCES),
        )  # fmt: skip
        file = declare(
            self, "file", "", "source file: video or folder of pictures; empty: as the YAML says"
        )
        self._settings = load_settings(self.get_parameter("robot_file").value)
        self._source = make_source(self._settings, source, file)
        self._cameras = self._eyes()
        self._pump: Pump | None = None
        self._mine: list[tuple[Any, Any]] = []  # what to destroy, and how
        self._state: EpisodeState | None = None
        self._said = ""
        self._stuck = False

    def _eyes(self) -> tuple[Camera, Camera]:
        cameras = {camera.name: camera for camera in self._contract.cameras}
        if set(cameras) != set(EYES):
            raise ContractError(
                f"robot '{self._contract.robot}' has cameras {sorted(cameras)}; zed_camera serves "
                "one stereo pair named 'left' and 'right': use another camera node"
            )
        left, right = (cameras[eye] for eye in EYES)
        if (left.width, left.height) != (right.width, right.height):
            raise ContractError("cameras 'left' and 'right' of the robot YAML differ in size")
        return left, right

    def _setup(self) -> None:
        left = self._cameras[0]
        framing = Framing(self._settings.window, left.width, left.height)
        quality = qos.reliable(_DEPTH)
        self._images = [self._publisher(Image, c.topic, quality) for c in self._cameras]
        self._infos = [
            [self._publisher(CameraInfo, topic, quality) for topic in info_topics(c.topic)]
            for c in self._cameras
        ]
        self._health = self._publisher(DiagnosticArray, "/diagnostics", qos.reliable(10))
        self._events = self._publisher(ours.OperatorEvent, "operator_event", qos.reliable(100))
        states = self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        self._mine.append((states, self.destroy_subscription))
        calibration = self._source.open()
        self._calibrate(framing, calibration)
        self._pump = Pump(
            self._source, framing, self._settings.limits, self._settings.late_s, self._publish,
            say=self._camera_says, died=self._pump_died,
        )  # fmt: skip
        self.get_logger().info(f"{self._source.name}, {self._source.rate_hz:g} frames/s")
        # Neither a stopped simulation nor a stepped wall clock may hide a silent camera.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, callback in (
            (_LOOK_PERIOD_S, self._look),
            (_HEALTH_PERIOD_S, self._say_health),
        ):
            timer = self.create_timer(period_s, callback, clock=steady)
            self._mine.append((timer, self.destroy_timer))

    def _publisher(self, kind: Any, topic: str, quality: Any) -> Any:
        made = self.create_publisher(kind, topic, quality)
        self._mine.append((made, self.destroy_publisher))
        return made

    def _calibrate(self, framing: Framing, known: Calibration | None) -> None:
        if known is None:
            self.get_logger().warning(
                "nobody knows the calibration: images are not rectified and camera_info is empty"
            )
        self._info = []
        for index, camera in enumerate(self._cameras):
            eye = known and framing.pinhole(known.eyes[index], known.width, known.height)
            baseline_m = known.baseline_m if known and index else 0.0
            self._info.append(
                camera_info(camera.frame, camera.width, camera.height, eye, baseline_m)
            )

    def _activate(self) -> None:
        self._pump.start()

    def _deactivate(self) -> None:
        if not self._pump.stop():
            self.get_logger().error(f"{self._source.name} does not let go of its last frame")
            self._stuck = True
        self._say_health()

    def _teardown(self) -> None:
        self._pump = None
        if not self._stuck:  # to close it would pull it away from under the thread
            self._source.close()
        for entity, destroy in reversed(self._mine):
            destroy(entity)
        self._mine = []

    # --- on the pump's thread ------------------------------------------------------------------

    def _publish(self, stamp_ns: int, left: np.ndarray, right: np.ndarray) -> None:
        stamp = conversions.stamp_to_msg(stamp_ns)
        for index, picture in enumerate((left, right)):
            frame = self._cameras[index].frame
            self._images[index].publish(
                conversions.image_to_msg(stamp_ns, picture, frame, "bgra8")
            )
            self._info[index].header.stamp = stamp
            for publisher in self._infos[index]:
                publisher.publish(self._info[index])

    def _camera_says(self, words: str) -> None:
        self.get_logger().warning(words)

    def _pump_died(self, error: Exception) -> None:
        self.call_soon(lambda: self.fail(error))

    # --- on the executor's thread --------------------------------------------------------------

    def _on_state(self, msg: ours.EpisodeState) -> None:
        state = conversions.episode_state_from_msg(msg)
        if not state.corrects_older_than(self._state):
            self._state = state

    def _look(self) -> None:
        fault = self._pump.fault() if self.active and self._pump else ""
        if fault and not self._said:
            self.get_logger().error(fault)
            self._say_health()
        self._said = fault
        state = self._state
        if fault and state is not None and state.phase == Phase.RUNNING:
            # Said until it is heard: the manager may not be connected yet.
            self._events.publish(conversions.abort(self.get_name(), state.episode, fault))

    def _say_health(self) -> None:
        if self._pump is None:
            return
        now_ns = self.get_clock().now().nanoseconds
        self._health.publish(
            diagnostics(
                now_ns, self.get_name(), self._source.name, self._pump.counts(),
                self._source.rate_hz, self._pump.fault() if self.active else "",
            )
        )  # fmt: skip


def main() -> NoReturn:
    """Run the node."""
    run_process(ZedCameraNode, urgent=True)


if __name__ == "__main__":
    main()
