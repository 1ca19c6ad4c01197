"""A second of `make fuzz` for each node that needs no long start; the same messages each time."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["base_policy", "residual_policy", "episode_manager", "recorder"])
def test_random_messages_crash_nobody(name, tmp_path, monkeypatch):
    """An image cut short ended the residual policy."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import fuzz_nodes

    found = fuzz_nodes.fuzz(ROOT, name, 1.0, 3, tmp_path)
    assert found["messages"] > 0
    assert found["crashes"] == 0
