"""Make `.venv-metaworld`, the environment of the Meta-World tasks, and the tasks' files.

    python3 benchmarks/metaworld/setup.py            environment, then runs/metaworld/<task>/
    python3 benchmarks/metaworld/setup.py --environment-only

Plain Python, nothing installed before. Meta-World 3.1.1 needs MuJoCo 3.3.0, the twin a newer one:
hence two environments. `resfit_core` is installed from this clone, editable. What exists is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-metaworld"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements" / "metaworld.txt"
STAMP = VENV / "requirements.txt"
TASKS = ("hand-insert-v3", "basketball-v3", "soccer-v3")
# As tools/setup.py: the general registry's torch brings several GB of CUDA along.
TORCH_CPU_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"


def make_environment() -> None:
    """Create the environment and install into it, unless that was done with the same pins."""
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--retries", "2", "--quiet", "--no-input"]
    torch = next(line for line in wanted.splitlines() if line.startswith("torch=="))
    subprocess.run([*pip, "--find-links", TORCH_CPU_WHEELS, f"{torch}+cpu"], check=True)
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
    subprocess.run([*pip, "--editable", str(ROOT / "src" / "resfit_core")], check=True)
    STAMP.write_text(wanted, encoding="utf-8")


def main() -> int:
    """Make what is missing; return the exit status."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--environment-only", action="store_true")
    args = parse.parse_args()
    make_environment()
    if args.environment_only:
        return 0
    for task in TASKS:
        if not (ROOT / "runs" / "metaworld" / task / "info.json").exists():
            command = [str(PYTHON), "-m", "benchmarks.metaworld.prepare", task]
            status = subprocess.run(command, check=False, cwd=ROOT).returncode
            if status:
                return status
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"benchmarks/metaworld/setup.py: {' '.join(error.cmd)} failed; see above")
