"""The golden bag through the live nodes: same numbers as when it was recorded, or a table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.replay, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")


from resfit_bringup.run_dir import arithmetic

GOLDEN = Path(__file__).parent / "golden"
STEPS = 93
# Another processor or library adds up in another order; the same ones give the same bits. Where
# the bag was recorded is in its run.json. `test_end_to_end.py` records and replays on any machine.
RECORDED_ON = json.loads((GOLDEN / "run.json").read_text())["machine"]["arithmetic"]
TOLERANCE = 0.0 if arithmetic() == RECORDED_ON else 1e-5


def replay(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "resfit_bringup.main", "run", "replay", f"run_dir:={folder}",
         f"tolerance:={TOLERANCE}", *words],
        cwd=folder.parent, check=False, capture_output=True, text=True, timeout=200,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout + done.stderr
    report = folder / "replay.json"
    return done.returncode, json.loads(report.read_text()) if report.exists() else {}, said


def test_the_golden_bag_gives_the_same_numbers(tmp_path):
    code, found, said = replay(tmp_path / "same", f"bag:={GOLDEN}")
    assert code == 0, said
    assert found["same"] and (found["episodes"], found["steps"]) == (1, STEPS)
    assert found["stages"]["base"]["steps"] == STEPS + 1
    assert found["notes"] == []
    # It is asked for more than the exit code: on the processor of the bag nothing differs at all.
    assert all(stage["max"] <= TOLERANCE for stage in found["stages"].values())
    assert "replay: same=yes" in said
    # It is a residual that was replayed, not the base alone.
    assert "latency whole" in said and found["latency_ms"]["whole"]["median"] > 0


def test_without_its_weights_it_differs_and_the_exit_code_says_so(tmp_path):
    shutil.copytree(GOLDEN / "episodes", tmp_path / "bags")
    train = GOLDEN / "config" / "train.yaml"
    code, found, said = replay(
        tmp_path / "other", f"bag:={tmp_path / 'bags'}", f"train_config:={train}"
    )
    assert code == 3, said
    stages = found["stages"]
    assert stages["observation"]["differ"] == stages["base"]["differ"] == 0
    assert stages["residual"]["differ"] > STEPS / 2
    # Only the joints that the residual may move.
    moved = set(stages["residual"]["joints"])
    assert moved and all(name.startswith("R_") for name in moved)
    assert "are not there" in found["notes"][0] and "replay: same=no" in said
