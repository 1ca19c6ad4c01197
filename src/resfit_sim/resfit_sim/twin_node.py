"""Node `twin`: the MuJoCo twin behind the robot's own topics, in lock-step or in real time."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NoReturn

import numpy as np
from geometry_msgs.msg import PoseArray, WrenchStamped
from rclpy.clock import Clock, ClockType
from rosgraph_msgs.msg import Clock as ClockMsg
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.control.press import OperatorEvent
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import ResetScene
from resfit_ros import conversions, priority, qos
from resfit_ros.contract import contract_from_parameters
from resfit_ros.node import REFUSED, Node, run_process
from resfit_ros.parameters import declare
from resfit_sim.errors import InvalidTarget
from resfit_sim.factory import twin_for
from resfit_sim.freerun import FreeRun
from resfit_sim.lockstep import LockStep, Scene
from resfit_sim.photographer import Photographer


class TwinNode(Node):
    """Publishes what the twin's sensors say and moves it by `joint_command`.

    When it shows, moves and presses decide `LockStep` and `FreeRun`.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Build the twin; refuse in words what does not fit."""
        super().__init__("twin", **kwargs)
        self._contract = contract = contract_from_parameters(self)
        clock = declare(
            self, "clock", "lockstep", "lockstep: waits for every answer; realtime: runs free",
            choices=("lockstep", "realtime"),
        )  # fmt: skip
        timeout_s = declare(
            self, "lockstep_timeout_s", 2.0, "say it again after so long", range=(0.01, None)
        )
        retries = declare(self, "lockstep_retries", 15, "then give up", range=(0, None))
        rate_hz = declare(
            self,
            "sensor_rate_hz",
            100.0,
            "real time: sets of sensor data [1/s]",
            range=(1.0, 200.0),
        )
        camera = declare(self, "camera", "none", "who sends the images; none: the twin")
        reward = declare(
            self, "reward", "button", "button: the oracle presses success; classifier: not",
            choices=("button", "classifier"),
        )  # fmt: skip
        self._draws = contract.images if camera == "none" else ()
        self._lockstep = clock == "lockstep"
        self._joint_names = list(contract.joint_names)
        self._set: tuple[int, list[tuple[Any, Any]]] = (-1, [])
        self._next_image_ns = 0
        if self._lockstep:
            self._twin = twin_for(contract)
            self._machine = LockStep(
                self._twin,
                self,
                period_ns=round(contract.period_s * 1e9),
                horizon_steps=contract.horizon_steps,
                gap_ns=round(2e9 * max(contract.command_timeout_s, contract.period_s)),
                timeout_ns=round(timeout_s * 1e9),
                retries=retries,
                sees_success=reward == "button",
            )
        else:
            self._twin = twin_for(dataclasses.replace(contract, control_rate_hz=rate_hz))
            # The task counts calm steps; at a higher rate as many would be over much sooner.
            calm = round(2 * rate_hz / contract.control_rate_hz)
            self._machine = FreeRun(
                self._twin, self, period_ns=round(1e9 / rate_hz), success_steps=calm,
                sees_success=reward == "button",
            )  # fmt: skip
        self._open(clock, timeout_s / 4 if self._lockstep else 1 / rate_hz)

    def _open(self, clock: str, timer_s: float) -> None:
        profile = qos.sensor(clock)
        self._joints = self.create_publisher(JointState, "joint_states", profile)
        # In every variant: the driver's force limit needs them.
        self._wrenches = {
            name: self.create_publisher(WrenchStamped, f"{name}/wrench", profile)
            for name in self._contract.wrenches
        }
        # In every variant: where the policies see images, the scripted expert still looks here.
        self._poses = self.create_publisher(PoseArray, "object_poses", profile)
        self._images = {
            name: self.create_publisher(Image, self._contract.camera(name).topic, profile)
            for name in self._draws
        }
        self._photographer = None
        if self._images and not self._lockstep:
            cameras = {name: self._contract.camera(name) for name in self._images}
            sizes = {name: (camera.width, camera.height) for name, camera in cameras.items()}
            self._image_period_ns = round(1e9 / max(c.rate_hz for c in cameras.values()))
            self._photographer = Photographer(
                self._twin.model, sizes, self._deliver, self._not_drawn, priority.go_ordinary
            )
        self._clock_out = None
        if self._lockstep:
            self._clock_out = self.create_publisher(ClockMsg, "/clock", qos.reliable(10))
        self._oracle = self.create_publisher(ours.OperatorEvent, "oracle", qos.reliable(10))
        self.create_subscription(
            JointTrajectory, "joint_command", self._on_command, qos.reliable(10)
        )
        self.create_subscription(
            ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
        )
        self.create_service(ResetScene, "twin/reset_scene", self._on_reset)
        self.create_timer(timer_s, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Free the OpenGL context."""
        if self._photographer is not None:
            self._photographer.close()
        self._twin.close()

    # --- what the machine says -----------------------------------------------------------------

    def show(self, stamp_ns: int) -> None:
        """Publish one set of sensor data; the same bytes again for the same stamp."""
        if stamp_ns != self._set[0]:
            self._set = (stamp_ns, self._measure(stamp_ns))
        for publisher, message in self._set[1]:
            publisher.publish(message)

    def press(self, event: OperatorEvent) -> None:
        """Press the oracle's button."""
        self._oracle.publish(conversions.event_to_msg(event))

    def _measure(self, stamp_ns: int) -> list[tuple[Any, Any]]:
        sensors, out = self._twin.sensors(), []
        if self._clock_out is not None:
            out.append((self._clock_out, ClockMsg(clock=conversions.stamp_to_msg(stamp_ns))))
        joints = conversions.joint_state_to_msg(
            stamp_ns, self._joint_names, sensors.joint_position, sensors.joint_velocity
        )
        out.append((self._joints, joints))
        for wrench, (name, publisher) in zip(
            sensors.wrenches, self._wrenches.items(), strict=True
        ):
            out.append((publisher, conversions.wrench_to_msg(stamp_ns, wrench, name)))
        out.append((self._poses, conversions.poses_to_msg(stamp_ns, sensors.object_poses, "base")))
        if self._photographer is not None:
            self._shoot(stamp_ns)
        elif self._images:
            for name in self._images:
                camera = self._contract.camera(name)
                image = self._twin.render(name, camera.width, camera.height)
                out.append((self._images[name], self._image_msg(stamp_ns, name, image)))
        return out

    def _image_msg(self, stamp_ns: int, name: str, image: np.ndarray) -> Image:
        return conversions.image_to_msg(stamp_ns, image, self._contract.camera(name).frame)

    def _shoot(self, stamp_ns: int) -> None:
        if stamp_ns >= self._next_image_ns and self._photographer.shoot(stamp_ns, self._twin.data):
            self._next_image_ns = max(self._next_image_ns + self._image_period_ns, stamp_ns)

    def _deliver(self, stamp_ns: int, name: str, image: np.ndarray) -> None:
        self._images[name].publish(self._image_msg(stamp_ns, name, image))

    def _not_drawn(self, error: Exception) -> None:
        self.call_soon(lambda: self.fail(error))

    # --- what the machine hears ----------------------------------------------------------------

    def _on_command(self, msg: JointTrajectory) -> None:
        try:
            stamp_ns, names, target = conversions.trajectory_from_msg(msg)
            if list(names) != self._joint_names:
                raise InvalidTarget(
                    f"joint_command has joints {list(names)[:3]}… ({len(names)}), the contract "
                    f"{self._joint_names[:3]}… ({len(self._joint_names)}): start both with one "
                    "robot:="
                )
            if self._lockstep:
                self._machine.command(stamp_ns, target, time.monotonic_ns())
            else:
                self._machine.command(stamp_ns, target)
        except ValueError as error:
            self.fail(error, REFUSED)  # started again it would hear the same

    def _on_state(self, msg: ours.EpisodeState) -> None:
        state = conversions.episode_state_from_msg(msg)
        if self._lockstep:
            self._machine.state(state, time.monotonic_ns())
        else:
            self._machine.state(state)

    def _on_reset(
        self, request: ResetScene.Request, response: ResetScene.Response
    ) -> ResetScene.Response:
        scene: Scene
        if self._lockstep:
            scene = self._machine.reset(request.episode, request.seed)
        else:
            scene = self._machine.reset(request.episode, request.seed, self._now_ns())
        response.success, response.message = scene.success, scene.message
        response.first_stamp = conversions.stamp_to_msg(scene.first_stamp_ns)
        return response

    def _on_timer(self) -> None:
        if self._lockstep:
            self._machine.tick(time.monotonic_ns())
        else:
            self._machine.advance(time.monotonic_ns(), self._now_ns())

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main() -> NoReturn:
    """Run the node."""
    run_process(TwinNode, urgent=True, rank=1)


if __name__ == "__main__":
    main()
