"""The fault matrix (docs/faults.md): one try of each case on the living driver; no timing here."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from resfit_vega_driver.fault_rig import Rig, cases

ROOT = Path(__file__).parents[3]
NAMES = (
    "nan", "inf", "wrong_length", "wrong_order", "stale_command", "future_stamp", "silence",
    "stale_joint_state", "late_joint_state", "nan_joint_state", "frozen_joints", "force", "estop",
    "estop_released", "operator_estop", "client_refuses", "client_exception", "clock_ahead",
    "clock_back", "jump", "limit", "velocity", "self_collision", "obstacle",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig():
    from resfit_ros.testing import graph

    with graph() as made:
        yield Rig(made, ROOT / "config")


@pytest.mark.parametrize("name", NAMES)
def test_fault(rig, name):
    case = next(case for case in cases(rig.contract) if case.name == name)
    result = rig.attempt(case)
    assert result.named, f"no answer named {case.reason.name}"
    assert not result.moved_after_hold
    assert result.outside == 0
    assert result.recovered


def test_the_matrix_is_whole(rig):
    assert tuple(case.name for case in cases(rig.contract)) == NAMES


def test_the_robots_stop_is_told_to_the_episode_manager(rig):
    from resfit_core.control.press import Press
    from resfit_interfaces.msg import OperatorEvent
    from resfit_ros import qos

    heard = []
    probe = rig.graph.probe("manager")
    kept = probe.create_subscription(
        OperatorEvent, "operator_event", heard.append, qos.reliable(100)
    )
    assert rig.settle() is not None
    assert rig.graph.connected(probe, "operator_event")
    rig.robot.fault("estop", for_s=0.1)
    assert rig.graph.spin_until(lambda: any(e.kind == Press.ESTOP for e in heard))
    assert heard[0].source == "vega_driver"
    probe.destroy_subscription(kept)
    assert rig.settle() is not None
