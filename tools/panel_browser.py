#!/usr/bin/env python3
"""Run the panel's browser tests: install what they need where that can be done, say it elsewhere.

    tools/env.sh python tools/panel_browser.py [pytest arguments]

They need the Python package in requirements/panel-test.txt, installed into .venv here, and the
system's Chromium: Debian's is installed with apt-get where this runs as root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = "src/resfit_reward/test/test_panel_browser.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = (
    "the browser tests need Chromium: sudo apt-get install chromium (or set CHROMIUM to its path)"
)


def find_browser() -> str:
    """Return the path of a Chromium; empty where there is none."""
    named = os.environ.get("CHROMIUM", "")
    return named or next((p for p in map(shutil.which, BROWSERS) if p), "")


def get_browser() -> str:
    """Return the path of a Chromium, installed now if it must and can be."""
    found = find_browser()
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium with apt-get", flush=True)
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], check=False)
        found = find_browser()
    return found


def main() -> int:
    """Install, then run pytest with the browser named."""
    if importlib.util.find_spec("playwright") is None:
        print("Installing Playwright for Python", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        pip += ["--constraint", str(ROOT / ".venv/constraints.txt")]
        pip += ["--requirement", str(ROOT / "requirements/panel-test.txt")]
        if subprocess.run(pip, check=False).returncode:
            print("pip install -r requirements/panel-test.txt failed", file=sys.stderr)
            return 1
    browser = get_browser()
    if not browser:
        print(HOW, file=sys.stderr)
        return 1
    os.environ |= {"CHROMIUM": browser, "RESFIT_BROWSER_TESTS": "1",
                   "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # fmt: skip
    pytest = [sys.executable, "-m", "pytest", "-p", "timeout", "--timeout", "300", TESTS]
    return subprocess.run([*pytest, *sys.argv[1:]], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
