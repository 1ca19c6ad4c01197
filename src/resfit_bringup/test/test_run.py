"""`resfit run` from its arguments to its exit code, with tiny fake nodes in a fake workspace."""

import io
import json
import os
import sys

import pytest

pytest.importorskip("honcho", reason="honcho is not installed ('make setup' installs it)")

from rich.console import Console

from resfit_bringup import live, run
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import JOBS, resolve
from resfit_bringup.progress import Progress, in_words
from resfit_bringup.rules import Limits

IDLE = "import time\ntime.sleep(600)\n"
LINE = {
    "episode": 1, "mode": "warmup", "use_residual": False, "seed": 1, "ended_by": "success",
    "success": True, "steps": 90, "start_s": 0.0, "end_s": 1.0,
}  # fmt: skip
MANAGER = f"""
import json, sys, yaml
file = sys.argv[sys.argv.index("--params-file") + 1]
parameters = yaml.safe_load(open(file))["episode_manager"]["ros__parameters"]
assert "-r" in sys.argv and "__node:=episode_manager" in sys.argv
with open(parameters["run_dir"] + "/episodes.jsonl", "w") as log:
    log.write(json.dumps({LINE!r}) + "\\n")
print("[INFO] [1700000000.000000001] [episode_manager]: done", flush=True)
"""
QUICK = Limits(terminate_after_s=0.3, kill_after_s=0.6, backoff_s=0.05)


@pytest.fixture
def workspace(share, monkeypatch):
    """An install prefix where every node of `train` is a script; returns its folder."""
    prefix = share.parent / "prefix"
    for node in JOBS["train"].nodes:
        install(prefix, node.package, node.name, IDLE)
    install(prefix, "resfit_reward", "episode_manager", MANAGER)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    return prefix


def install(prefix, package, name, code):
    path = prefix / "lib" / package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)


def test_a_run_finishes_and_leaves_its_folder(workspace, capfd):
    outcome = run.run(resolve("train", {"run_dir": "runs/a", "seed": "2"}), QUICK)
    assert outcome.code == 0
    folder = workspace.parent / "runs" / "a"
    assert json.loads((folder / "run.json").read_text())["arguments"]["seed"] == 2
    for node in (n for n in JOBS["train"].nodes if not n.when):  # the panel only if asked for
        assert (folder / "logs" / f"{node.name}.log").exists()
    said = capfd.readouterr().out
    assert "episode_manager | done" in said
    assert "episode 1/320" in said


def test_a_dead_driver_ends_the_run_with_its_words(workspace):
    install(workspace, "resfit_vega_driver", "vega_driver", "raise SystemExit('hand unplugged')\n")
    install(workspace, "resfit_reward", "episode_manager", IDLE)
    outcome = run.run(resolve("train", {"run_dir": "runs/a"}), QUICK)
    assert outcome.code == 1
    assert "hand unplugged" in outcome.reason
    said = run.what_next(outcome, workspace.parent / "runs" / "a")
    assert "resfit report" in said


def test_a_missing_node_is_said_before_anything_starts(workspace):
    (workspace / "lib" / "resfit_sim" / "twin").unlink()
    with pytest.raises(UsageError, match="'twin'"):
        run.run(resolve("train", {"run_dir": "runs/a"}), QUICK)
    assert not (workspace.parent / "runs").exists()


def test_wrong_learning_settings_are_said_before_anything_starts(workspace, share):
    (share / "config" / "train" / "default.yaml").write_text("batch_sise: 4\n")
    with pytest.raises(UsageError, match="batch_sise"):
        run.run(resolve("train", {"run_dir": "runs/a"}), QUICK)
    assert not (workspace.parent / "runs").exists()


def test_the_environment_is_the_users_where_he_set_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    monkeypatch.delenv("ROS_LOG_DIR", raising=False)
    env = run.environment(tmp_path)
    assert (env["OMP_NUM_THREADS"], env["ROS_DOMAIN_ID"]) == ("3", "17")
    assert env["ROS_LOG_DIR"] == f"{tmp_path}/logs/ros"


# --- the live view -------------------------------------------------------------------------------


def log(folder, lines):
    (folder / "episodes.jsonl").write_text("".join(json.dumps(d) + "\n" for d in lines))


def test_progress_by_hand(tmp_path):
    lines = [
        {**LINE, "episode": n, "mode": "train", "success": n % 2 == 0, "start_s": 10.0 * n,
         "end_s": 10.0 * n + 2, "ended_by": "success" if n % 2 == 0 else "timeout"}
        for n in range(1, 5)
    ]  # fmt: skip
    log(tmp_path, lines)
    learner = {"updates_per_s": 70.2, "utd_achieved": 0.981, "utd_target": 1.0}
    (tmp_path / "learner.jsonl").write_text(json.dumps(learner) + "\n")
    seen = Progress(tmp_path, planned=10).look()
    # 4 episodes of 90 steps in 2 s each; one per 10 s, six to go
    assert (seen.episode, seen.success, seen.window) == (4, 0.5, 4)
    assert seen.steps_per_s == pytest.approx(45.0)
    assert seen.left_s == pytest.approx(60.0)
    assert in_words(seen) == (
        "episode 4/10 · train · success 50% of last 4 · 45 steps/s · 70 updates/s · "
        "UTD 0.98/1.00 · 1:00 left"
    )


def test_progress_shows_what_it_has(tmp_path):
    progress = Progress(tmp_path, planned=10)
    assert in_words(progress.look()) == "episode 0/10 · starting"
    log(tmp_path, [{**LINE, "mode": "evaluate", "use_residual": True}])
    assert in_words(progress.look()) == "episode 1/10 · evaluate residual · 90 steps/s"
    log(tmp_path, [{**LINE, "mode": "evaluate", "use_residual": True, "round": 3, "label": "B"}])
    blind = Progress(tmp_path, planned=10).look()
    assert in_words(blind) == "episode 1/10 · round 3, B · 90 steps/s"


def test_restarts_stay_in_the_view(tmp_path):
    out = io.StringIO()
    view = live.View(["learner"], Progress(tmp_path, 3), Console(file=out, width=200))
    view.start()
    view.event("learner", "learner ended with exit code 5; starting it again in 0.5 s")
    view.line("learner", "[WARN] [1700000000.000000001] [learner]: [brackets] stay")
    view.stop()
    assert "learner | WARN: [brackets] stay" in out.getvalue()
    assert "learner restarted 1x" in out.getvalue()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_killed_console_node_leaves_the_terminal_as_it_was(workspace, monkeypatch):
    import termios

    main, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    install(
        workspace,
        "resfit_reward",
        "reward_button",
        "import sys, time, tty\ntty.setcbreak(0)\nprint('keys', flush=True)\ntime.sleep(600)\n",
    )
    waiting = (
        "import time, pathlib, sys, yaml\n"
        "file = sys.argv[sys.argv.index('--params-file') + 1]\n"
        "run = yaml.safe_load(open(file))['episode_manager']['ros__parameters']['run_dir']\n"
        "log = pathlib.Path(run, 'logs', 'reward_button.log')\n"
        "while 'keys' not in log.read_text():\n    time.sleep(0.02)\n"
    )
    install(workspace, "resfit_reward", "episode_manager", waiting)
    saved = os.dup(0)
    try:
        os.dup2(terminal, 0)
        with open(0, closefd=False) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            # No controlling terminal here: pretend to be its foreground group.
            monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
            outcome = run.run(resolve("train", {"run_dir": "runs/a"}), QUICK)
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert outcome.code == 0
    assert termios.tcgetattr(terminal) == before
    os.close(main)
    os.close(terminal)
