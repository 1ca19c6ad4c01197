"""Camera faults (docs/faults.md): one try of each on living nodes; no timing here."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
pytest.importorskip("cv2", reason="OpenCV is not installed ('make setup' installs it)")
pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")

ROOT = Path(__file__).parents[3]
NAMES = ("stale_camera", "frozen_camera", "frozen_unnoticed", "broken_camera", "dead_camera_node")


@pytest.fixture(scope="module")
def rows():
    """Play the benchmark once, as the matrix does a hundred times."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import fault_cameras

        return {one["case"]: one for one in fault_cameras.play(ROOT, NAMES, 1)}
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("name", NAMES)
def test_fault(rows, name):
    row = rows[name]
    assert row["settled"], "no sound command before the fault"
    assert row["named"], row["words"]
    assert not row["moved"]


def test_the_matrix_is_whole(rows):
    assert tuple(rows) == NAMES
