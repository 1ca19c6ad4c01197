"""Node tests: skipped with a reason where ROS is absent."""

import pytest


@pytest.fixture
def ros():
    """A DDS domain, context and executor of the test's own."""
    pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
    from resfit_ros.testing import graph

    with graph() as made:
        yield made
