"""What resfit_core needs to be imported: no ROS anywhere, no torch where the driver reads.

import-linter reads the sources; this imports every module with the forbidden ones blocked, so that
an import by name at run time, or one that a dependency makes, is found as well.
"""

import json
import pkgutil
import subprocess
import sys

import pytest

import resfit_core

pytestmark = pytest.mark.core  # it names rclpy, to block it

ROS = (
    "ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch",
    "launch_ros", "lifecycle_msgs", "message_filters", "rclpy", "resfit_interfaces", "resfit_ros",
    "rosgraph_msgs", "rosidl_runtime_py", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
)  # fmt: skip
MODULES = sorted(m.name for m in pkgutil.walk_packages(resfit_core.__path__, "resfit_core."))
NUMPY_ONLY = [
    name for name in MODULES if name.startswith(("resfit_core.contract", "resfit_core.control"))
]


def import_all(names, blocked):
    """Import the modules in an interpreter where the blocked ones cannot be had."""
    code = (
        "import importlib, json, sys\n"
        "names, blocked = json.loads(sys.argv[1])\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "for name in names:\n    importlib.import_module(name)\n"
    )
    command = [sys.executable, "-c", code, json.dumps([names, blocked])]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_block_works():
    done = import_all(["rclpy"], ["rclpy"])
    assert done.returncode != 0
    assert "rclpy" in done.stderr


def test_everything_imports_without_ros():
    pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")
    assert len(MODULES) > 40
    done = import_all(MODULES, ROS)
    assert done.returncode == 0, done.stderr


def test_contract_and_control_import_without_torch():
    assert len(NUMPY_ONLY) > 10
    done = import_all(NUMPY_ONLY, ("torch", *ROS))
    assert done.returncode == 0, done.stderr
