"""Camera faults (docs/faults.md): one try of each on living nodes; no timing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
pytest.importorskip("cv2", reason="OpenCV is not installed ('make setup' installs it)")
pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")

ROOT = Path(__file__).parents[3]
NAMES = ("stale_camera", "frozen_camera", "frozen_unnoticed", "broken_camera", "dead_camera_node")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Run the benchmark, in processes of its own: its nodes compute on one thread each."""
    folder = tmp_path_factory.mktemp("faults")
    out = folder / "faults.json"
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), "--cases", ",".join(NAMES)]
    command += ["--tries", "1", "--folder", str(folder), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert out.is_file(), done.stderr
    return {row["case"]: row for row in json.loads(out.read_text())["rows"]}


@pytest.mark.parametrize("name", NAMES)
def test_fault(rows, name):
    row = rows[name]
    assert row["tries"] == 1, "no sound command before the fault"
    assert not row["unnamed"], row["robot"]
    assert not row["moved_on_stale"]


def test_the_matrix_is_whole(rows):
    assert tuple(rows) == NAMES


def test_a_try_that_did_not_settle_is_made_again_and_told(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import fault_book
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    sound = {
        "settled": True, "named": True, "to_hold_ms": 270.0, "late": False, "moved": False,
        "outside": 0, "recovered": True, "words": "", "begun_again": 1,
    }  # fmt: skip
    unsettled = {"settled": False, "recovered": False, "begun_again": 6}
    lines = [json.dumps(one) + "\n" for one in (unsettled, sound)]
    fault_book.file_of(tmp_path, "case").write_text("".join(lines))
    assert fault_book.missing(tmp_path, "case", 2) == 1
    tries = fault_book.first(fault_book.read(tmp_path, "case"), 2)
    row = fault_book.row_of("case", {"robot": "holds"}, tries)
    assert (row["tries"], row["not_recovered"], row["begun_again"]) == (1, 1, 7)
