"""Make the virtual environment a prefix that colcon and CMake accept as ROS 2.

The ROS 2 wheels were built on another machine and packed for running, not for building on top of
them. What is missing is mended here, as often as wanted with the same result.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

# colcon asks an underlay for this file; it has to set what a message package needs to be found.
LOCAL_SETUP = """\
# Written by tools/underlay.py: this virtual environment is a ROS 2 prefix.
AMENT_PREFIX_PATH="{prefix}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}"
CMAKE_PREFIX_PATH="{prefix}${{CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}}"
LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export AMENT_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH
# The wheels restart Python once to set LD_LIBRARY_PATH; it is set now, so that can be saved.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
"""


def mend(venv: Path) -> None:
    """Apply all mends to `venv`, into which requirements/ros.txt was installed."""
    mend_include_paths(venv)
    write_local_setup(venv)


def mend_include_paths(venv: Path) -> None:
    """Replace the include paths of the machine that built the wheels by this interpreter's.

    Without it CMake stops at the first message package: "Imported target ... includes
    non-existent path".
    """
    code = (
        "import numpy, sysconfig\n"
        "print(sysconfig.get_path('include'), numpy.get_include(), sep=';')"
    )
    done = subprocess.run(
        [str(venv / "bin/python"), "-c", code], check=True, capture_output=True, text=True
    )
    includes = done.stdout.strip()
    for path in venv.glob("share/*/cmake/*__rosidl_generator_pyExport.cmake"):
        old = path.read_text(encoding="utf-8")
        new = re.sub(
            r'(INTERFACE_INCLUDE_DIRECTORIES )"[^"]*python[^"]*"',
            lambda match: f'{match[1]}"{includes}"',
            old,
        )
        if new != old:
            path.write_text(new, encoding="utf-8")


def write_local_setup(venv: Path) -> None:
    """Write the files by which colcon recognises a prefix and the packages in it."""
    libraries = [str(venv / "lib")]
    libraries += sorted(str(p) for p in venv.glob("lib/python3*/site-packages/ros_*.libs"))
    text = LOCAL_SETUP.format(prefix=venv, libraries=":".join(libraries))
    (venv / "local_setup.sh").write_text(text, encoding="utf-8")
    (venv / "local_setup.bash").write_text(f'. "{venv}/local_setup.sh"\n', encoding="utf-8")
    for package in (venv / "share/ament_index/resource_index/packages").iterdir():
        folder = venv / "share" / package.name
        folder.mkdir(exist_ok=True)
        (folder / "package.sh").touch()
