"""A learner on another machine: the link is cut for a while, and no closed episode is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.launch
BENCH = Path(__file__).resolve().parents[1] / "two_machines.py"
NOT_PERMITTED, NOT_STARTED = 3, 4


def test_a_cut_link_loses_no_closed_episode(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    words = [sys.executable, str(BENCH), "--seconds", "4", "--cut", "6", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode == NOT_STARTED:
        # Seen once in five: the sides never met, which is not the question here. Said, not hidden.
        warnings.warn(f"once more, for the sides did not meet:\n{done.stderr}", stacklevel=1)
        done = subprocess.run(words, capture_output=True, text=True, timeout=140, check=False)
    if done.returncode == NOT_PERMITTED:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert (found["lost"], found["doubled"], found["problems"]) == (0, 0, [])
    rows = {row["phase"]: row for row in found["rows"]}
    # The robot goes on while it hears no learner, and the learner catches up afterwards.
    assert rows["cut"]["closed"] > 0
    assert rows["after"]["updates"] > 0
