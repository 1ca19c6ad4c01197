"""The example of the library: its files can be made, trained on and evaluated, as it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/reach"


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="installed without the examples")
def test_prepare_and_train(tmp_path):
    def call(*command):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *command], cwd=EXAMPLE, env=environment, capture_output=True,
            text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    call("prepare.py", "--out", str(tmp_path), "--demos", "20", "--epochs", "60")
    said = call(
        *("-m", "resfit_core.train", "--env", "reach:make", "--base", str(tmp_path / "base.pt")),
        *("--demos", str(tmp_path / "demos.npz"), "--out", str(tmp_path / "run")),
        *("--config", "train.yaml", "--set", "critic_warmup_updates=20", "warmup_episodes=2"),
        *(
            "--steps",
            "80",
            "--eval-every",
            "40",
            "--eval-episodes",
            "10",
            "--final-episodes",
            "30",
        ),
    )
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["finished"]
    # A base with something to learn: neither hopeless nor perfect.
    assert 0.3 < report["base"]["success"] < 0.9
    assert len(report["evals"]) == 3
    assert "final base" in said
    assert "report.json" in said
