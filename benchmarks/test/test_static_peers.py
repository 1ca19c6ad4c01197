"""`ROS_STATIC_PEERS` between two machines that hear no multicast, as docs/network.md has it."""

import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from two_machines import Link, Phase, Side

pytestmark = pytest.mark.launch
ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "src/resfit_bringup/test/secured_peer.py"
ROBOT, WORKSTATION = "10.77.0.1", "10.77.0.2"


def side(address, peer, roles, log):
    """Start a node for each role on a machine of its own."""
    nodes = " & ".join(
        f"tail -f /dev/null | {sys.executable} {NODE} none {role} chatter | sed -u s/^/{role}:/"
        for role in roles
    )
    return Side(address, ["env", f"ROS_STATIC_PEERS={peer}", "bash", "-c", f"{nodes} & wait"], log)


@pytest.mark.parametrize("named", [True, False])
def test_who_is_named_is_heard(tmp_path, monkeypatch, named):
    from resfit_ros.testing import domain

    logs = tmp_path / "robot.log", tmp_path / "workstation.log"
    with domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        sides = []
        try:
            # More nodes than Fast DDS looks for at an address by itself: four.
            sides.append(side(ROBOT, WORKSTATION if named else "", ["sub"] * 6, logs[0]))
            sides.append(side(WORKSTATION, ROBOT if named else "", ["pub", "sub"], logs[1]))
            link = Link(*sides)
            far = near = 0
            for _ in range(60):
                link.carry(Phase("sound", 0), 1.0)
                far, near = (log.read_text().count("heard") for log in logs)
                if near > 100 and (not named or far > 6 * 100):
                    break
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        finally:
            for one in sides:
                os.killpg(one.pid, signal.SIGKILL)
                os.waitpid(one.pid, 0)
    assert logs[0].read_text().count("ready") == 6 and near > 100
    assert (far > 6 * 100) if named else far == 0
