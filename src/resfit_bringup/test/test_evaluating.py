"""The report's in-process evaluation: what ran through the nodes counts, the rest runs once."""

import json
import shutil

import pytest

pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")
pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")

from rich.console import Console

from resfit_bringup import evaluating
from resfit_core.report_numbers import read_run, verdicts


@pytest.fixture
def folder(share, monkeypatch):
    """A finished run of which two of four evaluation seeds ran through the nodes."""
    monkeypatch.setattr(evaluating, "SIMULATOR", "toy_simulator:Env")
    run = share.parent / "runs" / "one"
    (run / "config").mkdir(parents=True)
    for source, name in (
        ("robot/vega_1", "robot"), ("task/woolly_ball_pnp", "task"), ("train/default", "train"),
    ):  # fmt: skip
        shutil.copyfile(share / "config" / f"{source}.yaml", run / "config" / f"{name}.yaml")
    arguments = {"observation": "state", "base": "toy_simulator:base", "evaluate_seeds": 4}
    (run / "run.json").write_text(json.dumps({"run_id": "one", "arguments": arguments}))
    # The base's verdict on seed 1000000 is unlike the toy's: it must stay as the nodes saw it.
    lines = [
        {
            "episode": n, "mode": "evaluate", "use_residual": False, "seed": 999_999 + n,
            "ended_by": "timeout", "success": False, "steps": 9, "start_s": 0.0, "end_s": 1.0,
        }
        for n in (1, 2)
    ]  # fmt: skip
    (run / "episodes.jsonl").write_text("".join(json.dumps(d) + "\n" for d in lines))
    return run


def test_only_seeds_without_a_verdict_are_run_and_only_once(folder):
    quiet = Console(quiet=True)
    missing = evaluating.evaluate_rest(folder, quiet)
    assert missing == ["evaluation of the residual: the learner published no weights"]
    seen = verdicts(read_run(folder))
    assert seen.base == {1_000_000: False, 1_000_001: False, 1_000_002: True, 1_000_003: False}
    written = (folder / "evaluation.jsonl").read_text()
    assert len(written.splitlines()) == 2
    evaluating.evaluate_rest(folder, quiet)
    assert (folder / "evaluation.jsonl").read_text() == written


def test_a_simulator_that_is_not_there_is_said_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(evaluating, "SIMULATOR", "no_such_module:Twin")
    missing = evaluating.evaluate_rest(folder, Console(quiet=True))
    assert any("no_such_module" in m for m in missing)


def test_a_video_needs_scenes_of_both(folder):
    assert evaluating.make_video(folder, Console(quiet=True)) == [
        "video: no scene was evaluated by both policies"
    ]
