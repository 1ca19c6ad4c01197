"""A living `vega_driver` process: on SIGTERM and Ctrl-C the hold is its last word to the robot."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import load_contract
from resfit_core.control.records import Source
from resfit_interfaces.msg import DriverState, ExecutedCommand
from resfit_ros import conversions, qos
from resfit_ros.priority import NOT_PERMITTED
from resfit_vega_driver.clients import make_client

ROOT = Path(__file__).parents[3]
FILES = {
    "robot_file": str(ROOT / "config/robot/vega_1.yaml"),
    "task_file": str(ROOT / "config/task/woolly_ball_pnp.yaml"),
}
HEAD, NOD_RAD = 26, 0.004
TELLING = """
    import json
    from resfit_vega_driver import clients, vega_driver_node

    class Telling(clients.FakeClient):
        def send(self, stamp_ns, target_rad):
            super().send(stamp_ns, target_rad)
            print("send", json.dumps(list(target_rad)), flush=True)

        def stop(self, target_rad):
            super().stop(target_rad)
            print("stop", json.dumps(list(target_rad)), flush=True)

        def close(self):
            print("close", flush=True)

    clients.FakeClient = Telling
    vega_driver_node.main()
"""
"""The node with the fake robot in it, which says what it gets in the order in which it comes."""


def once(process):
    """SIGTERM: `kill`, systemd, a container that is stopped."""
    process.send_signal(signal.SIGTERM)


def by_hand(process):
    """SIGINT to the process alone, as `resfit run` passes Ctrl-C on."""
    process.send_signal(signal.SIGINT)


def to_the_group(process):
    """Ctrl-C in a terminal, which goes to the whole group, and the front end's on top of it."""
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)


class Chain:
    """Robot and policy before a driver that is a process of its own; the head nods all the time.

    Stamps of joint states are even, those of commands odd.
    """

    def __init__(self, ros, *command, client):
        words = [f"{k}:={v}" for k, v in {**FILES, "clock": "realtime", "client": client}.items()]
        self.ros, self.contract = ros, load_contract(*FILES.values())
        self.process = subprocess.Popen(
            [*command, "--ros-args", *[w for word in words for w in ("-p", word)]],
            env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain_id)},
            start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.said = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stdout))
        self._reader.start()
        probe = ros.probe()
        self.answers, self.commands, self.states = [], [], []
        for kind, topic, into in (
            (ExecutedCommand, "executed_command", self.answers),
            (JointTrajectory, "joint_command", self.commands),
            (DriverState, "driver_state", self.states),
        ):
            probe.create_subscription(kind, topic, into.append, qos.reliable(400))
        self._policy = probe.create_publisher(JointTrajectory, "policy_command", qos.reliable(10))
        robot = make_client("fake", FILES["robot_file"], probe, self.contract, "realtime")
        self.target, self._ticks = robot.position.copy(), 0
        probe.create_timer(self.contract.period_s, self._order)
        if client != "fake":
            self._play(probe, robot)

    def _play(self, probe, robot):
        quality = qos.sensor("realtime")
        self._joints = probe.create_publisher(JointState, "joint_states", quality)
        self._wrists = [
            probe.create_publisher(WrenchStamped, f"{name}/wrench", quality)
            for name in self.contract.wrenches
        ]

        def measure():
            stamp = time.time_ns() & ~1
            robot.position += np.random.default_rng(stamp).normal(0, 1e-6, len(robot.position))
            for wrist in self._wrists:
                wrist.publish(conversions.wrench_to_msg(stamp, np.zeros(6)))
            self._joints.publish(
                conversions.joint_state_to_msg(
                    stamp, self.contract.joint_names, robot.position, 0 * robot.position
                )
            )

        probe.create_timer(0.01, measure)

    def _order(self):
        self._ticks += 1
        self.target[HEAD] += NOD_RAD if self._ticks % 40 < 20 else -NOD_RAD
        self._policy.publish(
            conversions.trajectory_to_msg(
                time.time_ns() | 1, self.contract.joint_names, self.target
            )
        )

    def carried_out(self):
        return [a for a in self.answers if a.source == Source.POLICY]

    def end(self, stop):
        """Let it drive, stop it, and go on commanding until it is gone; return code and errors."""
        try:
            assert self.ros.spin_until(lambda: len(self.carried_out()) > 10, 60), self.said
            stop(self.process)
            assert self.ros.spin_until(lambda: self.process.poll() is not None, 30)
            self.ros.spin_until(lambda: False, 0.2)  # what is still under way
            self._reader.join(10)
            return self.process.returncode, self.process.stderr.read()
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()


def installed():
    program = ROOT / "install/lib/resfit_vega_driver/vega_driver"
    if not program.exists():
        pytest.skip("the workspace is not built: run 'make setup'")
    return sys.executable, str(program)


@pytest.mark.parametrize("stop", [once, by_hand, to_the_group])
def test_the_last_joint_command_is_the_hold(ros, stop):
    """As the graph starts it; the robot behind `joint_command`."""
    chain = Chain(ros, *installed(), client="external")
    code, words = chain.end(stop)
    assert code == 0, words
    assert "Traceback" not in words
    last = chain.commands[-1]
    # Sent anew, on what was measured last: an answer to the policy would bear its odd stamp.
    assert conversions.stamp_from_msg(last.header.stamp) % 2 == 0
    assert last.points[0].positions == chain.commands[-2].points[0].positions
    assert last.points[0].positions == chain.carried_out()[-1].action_rad
    assert chain.states[-1].mode == DriverState.INACTIVE


@pytest.mark.parametrize("stop", [once, by_hand, to_the_group])
def test_the_client_is_told_to_hold_last_and_then_left(ros, stop):
    chain = Chain(ros, sys.executable, "-c", _program(), client="fake")
    code, words = chain.end(stop)
    assert code == 0, words
    told = [
        line.split(maxsplit=1) for line in chain.said if line.startswith(("send", "stop", "cl"))
    ]
    assert [word for word, *_ in told[-3:]] == ["send", "stop", "close"]
    assert [word for word, *_ in told].count("stop") == 1
    (_, sent), (_, held) = told[-3:-1]
    assert json.loads(held) == json.loads(sent)


def test_without_privileges_it_drives_and_says_what_it_lacks(ros):
    """A user without CAP_SYS_NICE and rtprio."""
    before = [sys.executable, "-c", _LIMITED]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv (util-linux) is not installed")
        before = ["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice", *before]
    chain = Chain(ros, *before, *installed(), client="external")
    code, words = chain.end(once)
    assert code == 0, words
    assert words.count(NOT_PERMITTED) == 1, words


_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
os.execv(sys.argv[1], sys.argv[1:])
"""


def _program():
    return "\n".join(line.removeprefix("    ") for line in TELLING.splitlines())
