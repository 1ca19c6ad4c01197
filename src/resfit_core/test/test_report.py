"""The report's numbers, from a run made by hand, each worked out in a comment."""

import json

import pytest

pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")

from resfit_core.report_numbers import dip, numbers, paired, rate, read_run, verdicts, windowed
from resfit_core.run_log import EpisodeLine, RunLogError

ISSUE_KEYS = {
    "task": None,
    "robot": None,
    "git": None,
    "contract_sha256": None,
    "seeds": None,
    "base": {"success", "n", "ci95"},
    "residual": {"success", "n", "ci95"},
    "paired": {"both", "base_only", "residual_only", "neither", "p"},
    "episodes": None,
    "env_steps": None,
    "updates": None,
    "utd": {"target", "achieved"},
    "train_wall_s": None,
    "steps_per_s": None,
    "updates_per_s": None,
    "dip": {"window", "worst", "base"},
}
DESCRIBED = {
    "run_id": "hand",
    "task": "woolly_ball_pnp",
    "robot": "vega_1",
    "git": {"commit": "abc", "dirty": False},
    "contract_sha256": "c" * 64,
    "base_sha256": "b" * 64,
    "started": "2026-01-01T00:00:00+00:00",
    "continued": [],
    "arguments": {"seed": 3, "episodes": 4, "evaluate_seeds": 4, "demos": "d"},
    "machine": {"cpus": 2},
}
T0 = 1767225600.0  # 2026-01-01T00:00:00Z


def line(number, mode="train", success=True, start=0.0, end=1.0, **more):
    ended_by = more.pop("ended_by", "success" if success else "timeout")
    steps = more.pop("steps", 100)
    return {
        "episode": number,
        "mode": mode,
        "use_residual": mode == "train",
        "seed": 10_000_000 + number,
        "ended_by": ended_by,
        "success": success,
        "steps": steps,
        "start_s": T0 + start,
        "end_s": T0 + end,
        "wait_s": 0.0,
        "weights_version": 0,
        **more,
    }


def evaluated(number, residual, seed, success, version=7):
    return line(
        number, "evaluate", success, 90, 91, use_residual=residual, seed=seed,
        weights_version=version if residual else 0,
    )  # fmt: skip


EPISODES = [
    line(1, "warmup", False, 0, 2, use_residual=False, wait_s=0.5),
    line(2, "train", True, 3, 5, weights_version=5),
    line(3, "train", False, 5, 7, ended_by="aborted", steps=40),
    line(4, "train", True, 10, 12, weights_version=7),
    evaluated(5, False, 1_000_000, False),
    evaluated(6, True, 1_000_000, True),
    evaluated(7, False, 1_000_001, True),
    evaluated(8, True, 1_000_001, True),
    # Of an earlier stretch of the run, with older weights: does not count.
    evaluated(9, True, 1_000_002, True, version=4),
]
LEARNER = [
    {"time_s": T0 + 0, "updates": 0, "utd_target": 2.0, "utd_achieved": 0.0},
    {"time_s": T0 + 2, "updates": 100, "utd_target": 2.0, "utd_achieved": 1.0},
    {"time_s": T0 + 4, "updates": 100, "utd_target": 2.0, "utd_achieved": 1.5},
    {"time_s": T0 + 6, "updates": 300, "utd_target": 2.0, "utd_achieved": 1.9},
]
IN_PROCESS = [
    {"policy": "base", "seed": 1_000_002, "success": False, "weights_version": 0},
    {"policy": "residual", "seed": 1_000_002, "success": False, "weights_version": 7},
    {"policy": "base", "seed": 1_000_003, "success": False, "weights_version": 0},
    {"policy": "residual", "seed": 1_000_003, "success": True, "weights_version": 7},
    {"policy": "residual", "seed": 1_000_004, "success": True, "weights_version": 3},
]


def write_lines(path, objects):
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(DESCRIBED))
    write_lines(tmp_path / "episodes.jsonl", EPISODES)
    write_lines(tmp_path / "learner.jsonl", LEARNER)
    write_lines(tmp_path / "evaluation.jsonl", IN_PROCESS)
    return tmp_path


def test_every_key_of_the_report_is_there(folder):
    report = numbers(read_run(folder))
    for key, inner in ISSUE_KEYS.items():
        assert key in report
        if inner:
            assert set(report[key]) == inner, key


def test_numbers_of_practice(folder):
    report = numbers(read_run(folder))
    assert report["episodes"] == 4  # from the first step, aborted ones included
    assert report["episodes_aborted"] == 1
    assert report["env_steps"] == 100 + 100 + 40 + 100
    assert report["updates"] == 300
    assert report["utd"] == {"target": 2.0, "achieved": 1.9}
    assert report["train_wall_s"] == pytest.approx(12.0)  # 0 s to 12 s, waiting included
    # training episodes only: (100 + 40 + 100) steps in (2 + 2 + 2) s of RUNNING
    assert report["steps_per_s"] == pytest.approx(40.0)
    # 100 updates in the first 2 s, none in the next, 200 in the last 2 s
    assert report["updates_per_s"] == pytest.approx(300 / 4)


def test_numbers_of_evaluation(folder):
    report = numbers(read_run(folder))
    # seeds .0 F/T, .1 T/T through the nodes; .2 F/F, .3 F/T in-process
    assert (report["base"]["success"], report["base"]["n"]) == (0.25, 4)
    assert (report["residual"]["success"], report["residual"]["n"]) == (0.75, 4)
    assert report["paired"] == {
        "both": 1, "base_only": 0, "residual_only": 2, "neither": 1,
        "p": pytest.approx(0.5),  # two that differ, both one way: 2 * 0.5**2
    }  # fmt: skip
    assert report["seeds"]["through_nodes"] == [1_000_000, 1_000_001]
    assert report["seeds"]["evaluate"] == [1_000_000 + i for i in range(4)]
    assert report["weights_version"] == 7
    assert report["dip"]["base"] == 0.25


def test_wilson_interval_is_the_published_one():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    got = rate([True] * 81 + [False] * 182)
    assert got["ci95"] == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert rate([]) == {"success": None, "n": 0, "ci95": None}


def test_paired_test_is_exact_and_knows_its_limits():
    base = dict.fromkeys(range(10), False)
    assert paired(base, dict.fromkeys(range(10), True))["p"] == pytest.approx(2 * 0.5**10)
    assert paired(base, base)["p"] == 1.0
    assert paired(base, {})["p"] is None


def lines_of(pattern, mode="train"):
    return [EpisodeLine.from_mapping(line(i + 1, mode, c == "1")) for i, c in enumerate(pattern)]


def test_dip_is_the_worst_window_of_training_after_warm_up():
    episodes = lines_of("0" * 20, "warmup") + lines_of("1" * 15 + "0" * 10 + "1" * 15)
    assert dip(episodes, 0.4) == {"window": 20, "worst": 0.5, "base": 0.4}


def test_dip_needs_a_whole_window_and_passes_over_aborted_episodes():
    assert dip(lines_of("1" * 19), 0.4)["worst"] is None
    aborted = EpisodeLine.from_mapping(line(99, success=False, ended_by="aborted"))
    assert dip([*lines_of("1" * 10), aborted, *lines_of("1" * 10)], 0.4)["worst"] == 1.0


def test_windows_by_hand():
    assert windowed([True, False, True, True], 2) == [0.5, 0.5, 1.0]
    assert windowed([True], 2) == []


def test_time_between_two_stretches_of_a_run_does_not_count(folder):
    described = {**DESCRIBED, "continued": [{"started": "2026-01-01T00:01:00+00:00"}]}
    (folder / "run.json").write_text(json.dumps(described))
    # A stretch of 0 s to 2 s; lies still until 60 s; first start at 61 s, end at 63 s.
    write_lines(folder / "episodes.jsonl", [line(1, start=0, end=2), line(2, start=61, end=63)])
    assert numbers(read_run(folder))["train_wall_s"] == pytest.approx(2 + 3)


def test_a_corrected_verdict_replaces_the_first(folder):
    write_lines(folder / "episodes.jsonl", [line(1), line(1, success=False, revision=1), line(2)])
    run = read_run(folder)
    assert [(e.episode, e.success) for e in run.episodes] == [(1, False), (2, True)]


def test_half_a_line_is_left_for_later_but_a_damaged_one_is_said(folder):
    whole = json.dumps(line(1))
    (folder / "episodes.jsonl").write_text(whole + "\n" + whole[:30])
    assert len(read_run(folder).episodes) == 1
    (folder / "episodes.jsonl").write_text(whole + "\n" + whole[:30] + "\n")
    with pytest.raises(RunLogError, match="line 2"):
        read_run(folder)


def test_a_folder_without_run_json_is_no_run(tmp_path):
    with pytest.raises(RunLogError, match="is not a run"):
        read_run(tmp_path)


def test_the_report_is_written_whole_and_says_what_is_missing(folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from resfit_core.report import write_report

    report = write_report(folder, ["video: no OpenGL"])
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["missing"] == ["video: no OpenGL"]
    page = (folder / "report.html").read_text()
    assert "25.0 %" in page
    assert "75.0 %" in page
    assert "video: no OpenGL" in page
    assert "http://" not in page
    assert "https://" not in page
    assert (folder / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert list((folder / "tensorboard" / "success").glob("events*"))


def test_a_run_stopped_before_its_first_episode_still_has_a_report(folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from resfit_core.report import write_report

    for name in ("episodes", "learner", "evaluation"):
        (folder / f"{name}.jsonl").unlink()
    report = write_report(folder)
    assert report["base"] == {"success": None, "n": 0, "ci95": None}
    assert report["dip"]["worst"] is None
    words = " ".join(report["missing"])
    for part in ("0 of 4 episodes", "0 of 4 scenes with the base", "learner.jsonl"):
        assert part in words
    assert "nothing was evaluated" in (folder / "report.html").read_text()


def test_verdicts_of_a_run_without_a_residual(folder):
    (folder / "evaluation.jsonl").unlink()
    write_lines(folder / "episodes.jsonl", [evaluated(1, False, 1_000_000, True)])
    assert verdicts(read_run(folder)).residual == {}


def test_a_residual_without_weights_is_not_a_residual(folder):
    """Before the learner published anything, the base alone acts in the residual's place."""
    (folder / "evaluation.jsonl").unlink()
    lines = [
        evaluated(1, False, 1_000_000, True), evaluated(2, True, 1_000_000, True, version=0),
    ]  # fmt: skip
    write_lines(folder / "episodes.jsonl", lines)
    report = numbers(read_run(folder))
    assert (report["base"]["n"], report["residual"]["n"]) == (1, 0)
