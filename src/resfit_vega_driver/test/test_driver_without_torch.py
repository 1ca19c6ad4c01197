"""The driver's computer has no torch: what it runs must import without."""

import json
import pkgutil
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

import resfit_vega_driver


def test_the_driver_imports_without_torch_and_without_the_vendors_sdk():
    package = resfit_vega_driver
    modules = [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert f"{package.__name__}.vega_driver_node" in modules
    code = (
        "import importlib, json, sys\n"
        "sys.modules.update(torch=None, dexcontrol=None)\n"
        "for name in json.loads(sys.argv[1]):\n    importlib.import_module(name)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
