"""Nodes that stop the robot share no memory with others, who might be stopped holding a lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

ROOT = Path(__file__).resolve().parents[3]
FILES = [
    f"robot_file:={ROOT / 'config/robot/vega_1.yaml'}",
    f"task_file:={ROOT / 'config/task/woolly_ball_pnp.yaml'}",
]
PROFILE = str(ROOT / "config/dds/fastdds.xml")
SHIPPED = {  # as tools/env.sh has it
    "FASTRTPS_DEFAULT_PROFILES_FILE": PROFILE,
    "FASTDDS_DEFAULT_PROFILES_FILE": PROFILE,
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
}
SAFE = {
    ("resfit_vega_driver", "vega_driver"): FILES,
    ("resfit_reward", "reward_button"): ["keyboard:=false"],
    ("resfit_reward", "teleop"): [
        *FILES, "keyboard:=false", f"teleop_mapping:={ROOT / 'config/operator/teleop.yaml'}",
    ],
}  # fmt: skip
ORDINARY = ("resfit_base", "base_policy")


@pytest.fixture
def ros():
    from resfit_ros.testing import graph

    with graph() as made:
        yield made


def shared(ros, package, name, words):
    """Start a node as the graph does; return the files of Fast DDS's that it shares memory by."""
    program = ROOT / "install/lib" / package / name
    if not program.exists():
        pytest.skip("the workspace is not built: run 'make setup'")
    probe = ros.probe()
    process = subprocess.Popen(
        [sys.executable, str(program), "--ros-args", *[w for p in words for w in ("-p", p)]],
        env={**os.environ, **SHIPPED, "ROS_DOMAIN_ID": str(ros.domain_id)}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        here = lambda: name in probe.get_node_names() or process.poll() is not None  # noqa: E731
        assert ros.spin_until(here, 60)
        if process.poll() is not None:
            pytest.fail(process.stderr.read())
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    return {line.split("/dev/shm/")[1] for line in maps.splitlines() if "/dev/shm/fast" in line}


@pytest.mark.parametrize(("package", "name"), SAFE)
def test_a_node_that_stops_the_robot_shares_no_memory(ros, package, name):
    assert shared(ros, package, name, SAFE[package, name]) == set()


def test_others_do(ros):
    """What the look above would find."""
    base = f"base:={ROOT / 'config/shipped/woolly_ball_pnp/base_state.safetensors'}"
    assert shared(ros, *ORDINARY, [*FILES, base])
