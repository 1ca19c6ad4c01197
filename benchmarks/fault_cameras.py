"""Camera faults of the fault matrix: a camera goes silent, freezes, breaks; the robot holds.

`zed_camera` with a scripted ZED, `base_policy` with images and `vega_driver` on the fake robot, in
real time over DDS; the residual's part, one command per tick, is played here. Part of
`make bench-faults`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from resfit_base.base_policy_node import BasePolicyNode
from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase
from resfit_core.contract import Contract, load_contract
from resfit_core.control.image_watch import ImageLimits, load_image_limits
from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_core.control.safety import Reason
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.node import keep_what_is_loaded
from resfit_ros.testing import graph
from resfit_vega_driver.camera.source import CameraError, StereoFrame
from resfit_vega_driver.vega_driver_node import VegaDriverNode
from resfit_vega_driver.zed_camera_node import ZedCameraNode

_SOUND = 5  # commands carried out in a row before the fault
_START_S = 30.0
# Head and one arm move so much per tick, or still images would be right: within `frozen_s` each is
# `moved_rad` away from where it was, at a turn as well.
_NOD_RAD = 0.018
_NODDING = (27, 6)


def nodding_base(contract: Contract) -> ChunkedBase:
    """Return a base that nods about the middle of every joint; called by `load_base`."""
    chunk = np.zeros((4, contract.action_dim), np.float32)
    chunk[:, _NODDING[0]] = (0.0, 0.005, 0.01, 0.005)
    space = ActionSpace.from_limits(contract)
    return ChunkedBase(lambda _, images: chunk, 4, space, "0" * 64, contract.sha256)


class ScriptedZed:
    """A live camera until told otherwise: `still` repeats, `silent` waits, `broken` raises."""

    name, rate_hz = "scripted ZED", 30.0

    def __init__(self, width: int, height: int) -> None:
        """Draw the picture that changes by one pixel from frame to frame."""
        self.mode, self._frame = "live", 0
        self._picture = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)

    def open(self) -> None:
        """Nothing to connect."""

    def grab(self) -> StereoFrame:
        """Wait a period; give the next frame."""
        time.sleep(1 / self.rate_hz)
        while self.mode == "silent":
            time.sleep(1 / self.rate_hz)
        if self.mode == "broken":
            raise CameraError("the cable is out")
        picture = self._picture.copy()
        if self.mode == "live":
            self._frame += 1
        picture.reshape(-1)[: 4 * self._frame % picture.size] ^= 255
        return StereoFrame(time.time_ns(), (picture, picture))

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class Case:
    """One camera fault.

    Attributes:
        name: Key in the matrix.
        what: What happens, for people.
        reason: Words in the reason that ends the episode.
        limit_s: From the fault's begin to the hold [s].
        begin: Brings it about.
        trusting: The camera node believes frozen pictures: base_policy must not.
    """

    name: str
    what: str
    reason: str
    limit_s: float
    begin: Callable[[Rig], None]
    trusting: bool = False


class Rig:
    """Camera, base policy, driver and robot on one executor."""

    def __init__(self, made: Any, config: Path) -> None:
        """Bring everything up; `made` is a `resfit_ros.testing.Graph`."""
        files = {
            "robot_file": str(config / "robot/vega_1.yaml"),
            "task_file": str(config / "task/woolly_ball_pnp.yaml"),
            "observation": "pixels",
        }
        self.contract = load_contract(*files.values())
        self.limits = load_image_limits(files["robot_file"])
        left = self.contract.camera("left")
        self.zed, self._made, self._files = ScriptedZed(left.width, left.height), made, files
        base = {"base": "fault_cameras:nodding_base", "clock": "realtime"}
        self.driver = made.add(VegaDriverNode, {**files, "clock": "realtime", "client": "fake"})
        made.add(BasePolicyNode, {**files, **base}).get_logger().set_level(50)
        self.driver.get_logger().set_level(50)  # faults on purpose
        self.robot = self.driver._client
        self._home, self._tick, self._episode = self.robot.position.copy(), 0, 0
        self.begun_again = 0
        """Episodes of the newest try that were begun anew: no sound commands, or they stopped."""
        probe = made.probe("camera_rig")
        self._commands = probe.create_publisher(
            JointTrajectory, "policy_command", qos.reliable(10)
        )
        self._states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.answers: list[tuple[float, ours.ExecutedCommand]] = []
        self.aborts: list[ours.OperatorEvent] = []
        self._keep = [
            probe.create_subscription(*entry)
            for entry in (
                (ours.PolicyStep, "policy_step", self._on_step, qos.reliable(10)),
                (ours.ExecutedCommand, "executed_command", self._on_answer, qos.reliable(400)),
                (ours.OperatorEvent, "operator_event", self.aborts.append, qos.reliable(100)),
            )
        ]
        self.camera: ZedCameraNode | None = None
        self.start_camera(self.limits)
        if not made.connected(probe, "policy_step", "policy_command", "executed_command"):
            raise RuntimeError("the nodes do not see each other; is DDS set up?")

    def start_camera(self, limits: ImageLimits) -> None:
        """Start the camera node, anew if there is one."""
        if self.camera is not None:
            self._made.stop(self.camera)

        def make(**kwargs: Any) -> ZedCameraNode:
            node = ZedCameraNode(**kwargs)
            node._source, node._settings = self.zed, replace(node._settings, limits=limits)
            node.get_logger().set_level(50)
            return node

        self.camera = self._made.add(make, {**self._files, "source": "file", "file": "scripted"})

    def _on_step(self, msg: ours.PolicyStep) -> None:
        if msg.is_last:
            return
        self._tick += 1
        target = self._home.copy()
        target[list(_NODDING)] += _NOD_RAD * (abs(self._tick % 40 - 20) - 10)
        stamp_ns = conversions.stamp_from_msg(msg.header.stamp)
        self._commands.publish(
            conversions.trajectory_to_msg(stamp_ns, self.contract.joint_names, target)
        )

    def _on_answer(self, msg: ours.ExecutedCommand) -> None:
        self.answers.append((time.monotonic(), msg))

    def _say(self, phase: Phase) -> None:
        now_ns = time.time_ns()
        state = EpisodeState(
            phase=phase, episode=self._episode, mode=Mode.EVALUATE, run_id="faults",
            use_residual=False, start_ns=now_ns if phase == Phase.RUNNING else 0,
            reason="benchmark", stamp_ns=now_ns,
        )  # fmt: skip
        self._states.publish(conversions.episode_state_to_msg(state))

    def _sound(self) -> bool:
        last = self.answers[-_SOUND:]
        fresh = len(last) == _SOUND and time.monotonic() - last[-1][0] < 2 * self.contract.period_s
        return fresh and all(m.source == ours.ExecutedCommand.POLICY for _, m in last)

    def settle(self) -> bool:
        """Mend the camera and begin an episode; return whether commands are carried out.

        They are, up to this moment: a hold that came before the fault says nothing of it.
        """
        self.zed.mode, self.begun_again = "live", 0
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            self._say(Phase.ENDED)
            self._episode += 1
            self._say(Phase.RESETTING)
            self.answers.clear()
            self._say(Phase.RUNNING)
            if self._made.spin_until(self._sound, timeout_s=5.0):
                self._made.spin_until(lambda: False, timeout_s=0.2)
                if self._sound():
                    return True
            self.begun_again += 1
        return False

    def attempt(self, case: Case) -> dict[str, Any]:
        """Make one try of a case; return what it showed."""
        if case.trusting:
            self.start_camera(replace(self.limits, frozen_s=0.0))
        if not self.settle():
            return {"settled": False, "recovered": False, "begun_again": self.begun_again}
        self.answers.clear()
        self.aborts.clear()
        self.robot.sent.clear()
        case.begin(self)
        # Taking a node away lasts, and it may send until it is gone.
        began = time.monotonic()
        allowed_s = case.limit_s + self.contract.period_s
        end = began + allowed_s + 3 * self.contract.period_s
        self._made.spin_until(lambda: time.monotonic() > end, timeout_s=allowed_s + 5)
        self._made.spin_until(lambda: bool(self.aborts), timeout_s=self.limits.stale_s + 5)
        holds = [(at, m) for at, m in self.answers if m.source == m.HOLD]
        named = [(at, m) for at, m in holds if m.reasons & Reason.WATCHDOG]
        to_hold_s = named[0][0] - began if named else float("inf")
        late = [target for at, _, target in self.robot.sent if at / 1e9 > began + allowed_s]
        held = np.array(self.answers[-1][1].action_rad)
        words = self.aborts[0].reason if self.aborts else ""
        if self.camera is None or case.trusting:
            self.start_camera(self.limits)
        return {
            "settled": True,
            "recovered": True,  # the next try begins with it
            "begun_again": self.begun_again,
            "to_hold_ms": round(1e3 * to_hold_s, 2) if named else None,
            "late": to_hold_s > allowed_s,
            "moved": any(not np.array_equal(target, held) for target in late),
            "outside": 0,
            "words": words,
            "named": bool(named) and case.reason in words,
        }

    def kill_camera(self) -> None:
        """Take the camera node away."""
        self._made.stop(self.camera)
        self.camera = None


def _mode(mode: str) -> Callable[[Rig], None]:
    return lambda rig: setattr(rig.zed, "mode", mode)


def cases(contract: Contract, limits: ImageLimits) -> list[Case]:
    """Return the camera's faults, with the limits of the robot."""
    hold_s = contract.command_timeout_s
    # The last good image may be used until it is too old; then silence holds the robot.
    silent = contract.max_observation_age_s + hold_s
    frozen = limits.frozen_s
    return [
        Case("stale_camera", "the camera gives no frame any more", "is silent", silent,
             _mode("silent")),
        Case("frozen_camera", "the camera repeats its last frame", "is frozen", frozen + silent,
             _mode("still")),
        Case("frozen_unnoticed", "the same, and the camera node does not mind", "is frozen",
             frozen + hold_s + contract.period_s, _mode("still"), trusting=True),
        Case("broken_camera", "the camera gives an error", "the cable is out", silent,
             _mode("broken")),
        Case("dead_camera_node", "zed_camera goes away", "is silent", silent, Rig.kill_camera),
    ]  # fmt: skip


def _cases(root: Path) -> list[Case]:
    robot = root / "config/robot/vega_1.yaml"
    contract = load_contract(robot, root / "config/task/woolly_ball_pnp.yaml", "pixels")
    return cases(contract, load_image_limits(robot))


def described(root: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of each case before it is tried; see `fault_book`."""
    return {
        case.name: {
            "kind": "message",
            "what": case.what,
            "reason": "WATCHDOG",
            "robot": "holds; the episode ends",
            "limit_ms": round(1e3 * case.limit_s),
            "test": f"src/resfit_vega_driver/test/test_fault_cameras.py::test_fault[{case.name}]",
        }
        for case in _cases(root)
    }


def play(root: Path, names: Iterable[str], tries: int) -> Iterator[dict[str, Any]]:
    """Yield one entry for each try of these cases; see `fault_book`."""
    with graph() as made:
        rig = Rig(made, root / "config")
        keep_what_is_loaded()
        for case in _cases(root):
            if case.name in names:
                for _ in range(tries):
                    yield {"case": case.name, **rig.attempt(case)}
