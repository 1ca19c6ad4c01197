"""Upstream nodes killed and stopped: the driver holds in silence. One try each; no timing here."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rows():
    """Play the benchmark once, as the matrix does a hundred times."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import fault_processes
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    if not (ROOT / "install/lib/resfit_base/base_policy").exists():
        pytest.skip("the workspace is not built: run 'make setup'")
    return {
        one["case"]: one for one in fault_processes.play(ROOT, fault_processes.described(ROOT), 1)
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "node", ["base_policy", "residual_policy", "zed_camera", "episode_manager"]
)
@pytest.mark.parametrize("word", ["sigkill", "sigstop"])
def test_process_fault(rows, node, word):
    row = rows[f"{node}_{word}"]
    assert row["settled"], "no sound command before the fault: see log/faults"
    assert row["named"]
    assert not row["moved"]
