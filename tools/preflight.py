"""What a machine needs before set-up starts, checked first and told in one line each.

Standard library only; runs on Python 3.8, so that an old interpreter is told what to do instead of
showing a SyntaxError.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
DISK_NEEDED_GB = 4.0
SHM_NEEDED_MB = 512
# ROS 2 names its releases alphabetically; Jazzy is the oldest that the suite is built for.
OLDEST_ROS = "jazzy"
DOCKER_HINT = "or use the image: docker compose -f docker/compose.yaml run --rm train"


class SetupError(Exception):
    """A reason why set-up cannot go on, in one line that names the fix."""


@dataclass(frozen=True)
class Ros:
    """A ROS 2 install that was sourced in this shell."""

    distro: str
    prefix: Path
    python: str
    """The interpreter that its rclpy was built for, absolute path."""


def find_ros(root: Path) -> Ros | None:
    """Return the sourced ROS 2 install, or None if there is none.

    An environment that tools/env.sh made, here or in another clone, does not count.

    Raises:
        SetupError: ROS is sourced but too old, or its Python is missing.
    """
    distro = os.environ.get("ROS_DISTRO", "")
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    foreign = [
        p for p in prefixes if root not in (p, *p.parents) and not (p / "pyvenv.cfg").exists()
    ]
    marker = "share/ament_index/resource_index/packages/rclpy"
    prefix = next((p for p in foreign if (p / marker).exists()), None)
    if prefix is None:
        if distro and foreign:
            raise SetupError(
                f"ROS 2 {distro} is sourced but has no rclpy: install ros-{distro}-ros-base, or "
                "open a shell without ROS and run `make setup` again"
            )
        return None
    distro = distro or "rolling"
    if distro < OLDEST_ROS:
        raise SetupError(
            f"ROS 2 {distro} is sourced; {OLDEST_ROS} or newer is needed: source a newer one, or "
            "open a shell without ROS and run `make setup` again"
        )
    folders = sorted(prefix.glob("l*/python3.*/site-packages/rclpy"))
    version = folders[0].parts[-3] if folders else f"python3.{sys.version_info.minor}"
    # The system's own interpreter first: ROS was built for it, and another one of the same version
    # lacks the system's packages.
    python = next(
        (p for p in (f"/usr/bin/{version}", shutil.which(version) or "") if os.path.exists(p)),
        None,
    )
    if python is None:
        raise SetupError(
            f"ROS 2 {distro} at {prefix} needs {version}, not found: install {version}"
        )
    return Ros(distro, prefix, python)


def find_python() -> str:
    """Return the interpreter for .venv: this one if it will do, else the first that does."""
    here = sys.version_info[:2]
    if OLDEST_PYTHON <= here <= NEWEST_PYTHON:
        # Never the .venv's own python: it is about to be replaced.
        return (
            os.path.realpath(sys.executable) if sys.prefix != sys.base_prefix else sys.executable
        )
    for minor in range(12, 10, -1):
        found = shutil.which(f"python3.{minor}")
        if (
            found
            and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0
        ):
            return found
    raise SetupError(
        f"Python {here[0]}.{here[1]} is not supported: install Python 3.11 or 3.12 and run "
        "`make setup PYTHON=python3.12`"
    )


def check_platform() -> None:
    """Refuse a platform for which no ROS 2 packages exist on the package registry."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise SetupError(
            f"no ROS 2 packages for {system} {machine} on the package registry, only for x86-64 "
            f"Linux: install ROS 2 Jazzy and source it, {DOCKER_HINT}"
        )


def check_programs() -> None:
    """Refuse to start without the compiler and its tools."""
    for program, package in (("cmake", "cmake"), ("g++", "g++"), ("make", "make"), ("git", "git")):
        if shutil.which(program) is None:
            raise SetupError(
                f"{program} not found: sudo apt install {package} (or your system's equivalent)"
            )


def check_python_parts(python: str) -> None:
    """Refuse an interpreter without venv or without C headers: Debian packages both apart."""
    code = (
        "import sys, sysconfig, os.path as p\n"
        "try:\n import ensurepip, venv\nexcept ImportError:\n print('venv')\n"
        "p.exists(p.join(sysconfig.get_path('include'), 'Python.h')) or print('dev')\n"
        "print('python%d.%d' % sys.version_info[:2])"
    )
    result = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        raise SetupError(f"{python} does not start: {result.stderr.strip().splitlines()[-1:]}")
    *missing, version = result.stdout.split()
    if missing:
        packages = " ".join(f"{version}-{part}" for part in missing)
        raise SetupError(f"{python} lacks {' and '.join(missing)}: sudo apt install {packages}")


def check_disk(root: Path, fresh: bool) -> None:
    """Refuse to fill the disk; a renewal of an existing environment needs little."""
    needed = DISK_NEEDED_GB if fresh else 0.5
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        raise SetupError(f"{free:.1f} GB free at {root}, {needed:.1f} GB needed: free some space")


def warnings() -> list[str]:
    """Return what will be missing on this machine, none of it a reason to stop."""
    found = []
    if Path("/dev/shm").is_dir():
        free_mb = shutil.disk_usage("/dev/shm").free / 1e6
        if free_mb < SHM_NEEDED_MB:
            found.append(
                f"/dev/shm has {free_mb:.0f} MB free, images between nodes need up to "
                f"{SHM_NEEDED_MB} MB: in a container pass --shm-size=1g"
            )
    return found


def explain_pip(log: str, python: str) -> str:
    """Turn pip's output into one line with the fix."""
    if "No space left on device" in log:
        return (
            f"the disk filled up; {DISK_NEEDED_GB:.0f} GB are needed: free some space and run "
            "`make setup` again"
        )
    unreachable = (
        "NewConnectionError|Name or service not known|name resolution|NameResolutionError"
        "|Max retries|ConnectTimeout|ProxyError|Network is unreachable|Read timed out"
        "|Connection refused|SSLError|CERTIFICATE_VERIFY_FAILED"
    )
    # pip names the path that did not answer; PyTorch's list is not the registry.
    silent = re.findall(r"connection broken by .*: (/\S*)$", log, re.MULTILINE)
    only_pytorch = bool(silent) and all(path.startswith("/whl/cpu/") for path in silent)
    if re.search(unreachable, log) and not only_pytorch:
        return (
            "no package registry answered: check the network, the proxy and `pip config list`, "
            "then run `make setup` again"
        )
    match = re.search(r"No matching distribution found for (\S+)", log)
    if match and match[1].endswith("+cpu"):
        return (
            f"{match[1]} is neither at the package registry nor at PyTorch's list of CPU builds: "
            "check the network, or `RESFIT_TORCH=any make setup` takes the general build of "
            "several GB"
        )
    if match:
        return (
            f"{match[1]} is not offered for {python} on this platform: use Python 3.11 or 3.12 "
            "(`make setup PYTHON=python3.12`)"
        )
    return "pip could not install the packages"
