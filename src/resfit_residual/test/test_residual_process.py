"""A living `residual_policy` process leaves on SIGTERM and Ctrl-C while ticks still come."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from residual_common import CONTRACT, SITE, policy_step, state
from trajectory_msgs.msg import JointTrajectory

from resfit_core.control.records import Mode, Phase
from resfit_interfaces import msg as ours
from resfit_ros import qos

HERE = Path(__file__).parent
PROGRAM = HERE.parents[2] / "install/lib/resfit_residual/residual_policy"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_clean_on_a_signal(ros, number):
    """What the robot then does is the driver's: it holds by its watchdog (docs/faults.md)."""
    if not PROGRAM.exists():
        pytest.skip("the workspace is not built: run 'make setup'")
    probe, commands = ros.probe(), []
    states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
    ticks = probe.create_publisher(ours.PolicyStep, "policy_step", 10)
    probe.create_subscription(JointTrajectory, "policy_command", commands.append, 10)
    states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE))
    words = [
        w for k, v in {**SITE, "base": "fixed_base:make"}.items() for w in ("-p", f"{k}:={v}")
    ]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--ros-args", *words, "-p", "clock:=realtime"],
        env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain_id), "PYTHONPATH": path},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    sent = iter(range(10_000))
    timer = probe.create_timer(
        CONTRACT.period_s, lambda: ticks.publish(policy_step(1, next(sent)))
    )
    try:
        assert ros.spin_until(lambda: len(commands) > 5, 60), process.poll()
        process.send_signal(number)
        assert ros.spin_until(lambda: process.poll() is not None, 30)
        said = process.stdout.read()
        assert process.returncode == 0 and "Traceback" not in said, said
    finally:
        process.kill()
        process.wait()
        timer.cancel()
