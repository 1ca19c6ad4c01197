"""`resfit run train` through all real nodes: what a finished run holds, and one that was stopped.

Everything is the shipped thing but for the learner's nets, which are tiny, and few demos.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "mujoco", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from resfit_bringup import doctor, paths
from resfit_bringup.graph import JOBS
from resfit_core import tensorfile
from resfit_core.contract import load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import EVALUATE, TRAIN, WARMUP
from resfit_core.evaluation import Job, load
from resfit_core.report_numbers import read_run
from resfit_core.seeds import episode_seed
from resfit_core.weights import weights_path

TINY = {
    "critic_view": "task_space",
    "heads": 2, "target_heads": 2, "critic_width": 16, "actor_width": 16, "batch_size": 16,
    "n_step": 3, "utd": 0.2, "critic_warmup_updates": 20, "actor_every": 2, "actor_lr": 1e-3,
    "residual_scale": {"right_arm": 0.1, "right_hand": 0.1, "default": 0.0},
}  # fmt: skip
WARMUP_EPISODES, EPISODES, SEEDS = 2, 4, 5
EVALUATION = [(policy, index) for index in range(SEEDS) for policy in ("base", "residual")]
REPORT_KEYS = (
    "task", "robot", "git", "contract_sha256", "seeds", "base", "residual", "paired", "episodes",
    "env_steps", "updates", "utd", "train_wall_s", "steps_per_s", "updates_per_s", "dip",
)  # fmt: skip


class Finished(NamedTuple):
    """A run that has ended, and what its front end said."""

    folder: Path
    code: int
    said: str


def start(run_dir, *words):
    """Start `resfit run train` as a person would: tiny nets, few demos, checkpoints often."""
    here = run_dir.parent
    (here / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    often = {"learner": {"ros__parameters": {"checkpoint_every": 1}}}
    (here / "often.yaml").write_text(yaml.safe_dump(often))
    demos = here / "demos"
    for shipped in list_episodes(paths.demos_shipped("woolly_ball_pnp"))[:3]:
        shutil.copytree(shipped, demos / shipped.name, dirs_exist_ok=True)
    command = [
        sys.executable, "-m", "resfit_bringup.main", "run", "train", f"run_dir:={run_dir}",
        f"train_config:={here / 'tiny.yaml'}", f"params_file:={here / 'often.yaml'}",
        f"demos:={demos}", "keyboard:=false", "video:=false", *words,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=here, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait(process, folder):
    """Wait for the end of a run; leave nothing running where it does not come."""
    try:
        said, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()
        said, _ = process.communicate(timeout=30)
        pytest.fail(f"the run does not end:\n{said}")
    return Finished(folder, process.returncode, said)


def left_running(folder):
    """Return the processes that still have to do with a run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in words and int(file.parent.name) != os.getpid():
                found.append(words)
    return found


def learner_state(folder):
    """Return the header of the learner's checkpoint; None: there is none yet."""
    file = folder / "checkpoints" / "learner.safetensors"
    return tensorfile.unpack(file.read_bytes())[1] if file.is_file() else None


def bags(folder, *modes):
    """Read the recorded episodes of some modes."""
    paths = [p for p in list_episodes(folder) if read_manifest(p).mode in modes]
    return [read_episode(path) for path in paths]


def contract_of(folder):
    return load_contract(folder / "config" / "robot.yaml", folder / "config" / "task.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short training run from its first node to its report."""
    folder = tmp_path_factory.mktemp("end_to_end") / "one"
    process = start(
        folder, f"episodes:={EPISODES}", f"warmup_episodes:={WARMUP_EPISODES}",
        f"evaluate_episodes:={SEEDS}", f"evaluate_seeds:={SEEDS}",
    )  # fmt: skip
    return wait(process, folder)


def test_it_finishes_and_leaves_nothing_running(run):
    assert run.code == 0, run.said
    assert left_running(run.folder) == []


def test_every_node_has_a_log_and_none_failed(run):
    for node in (n for n in JOBS["train"].nodes if not n.when):  # the panel only if asked for
        text = (run.folder / "logs" / f"{node.name}.log").read_text()
        for trouble in ("Traceback", "[ERROR]", "[FATAL]", "--- start 2"):
            assert trouble not in text, f"{node.name}: {text}"


def test_the_doctor_reads_the_whole_run(run):
    found = {f.check: f for f in doctor.examine({"run_dir": str(run.folder)})}
    assert {"queue_reset_in_run", "base_passed_on", "q_sensitivity", "rewards_seen"} <= set(found)
    for check in ("contract", "scale_zero", "queue_reset", "queue_reset_in_run", "base_passed_on"):
        assert found[check].state == "ok", found[check].line()


def test_the_report_has_its_keys(run):
    report = json.loads((run.folder / "report.json").read_text())
    assert set(REPORT_KEYS) <= set(report)
    assert report["missing"] == []
    assert (report["episodes"], report["base"]["n"], report["residual"]["n"]) == (4, 5, 5)
    assert sum(report["paired"][k] for k in ("both", "base_only", "residual_only", "neither")) == 5
    assert report["seeds"]["through_nodes"] == [episode_seed("evaluate", i) for i in range(SEEDS)]
    assert set(report["utd"]) == {"target", "achieved"}
    assert set(report["dip"]) == {"window", "worst", "base"}
    assert report["env_steps"] == sum(e.steps for e in bags(run.folder, WARMUP, TRAIN))
    for name in ("report.html", "learning_curve.png"):
        assert (run.folder / name).stat().st_size > 1000


def test_every_episode_has_a_bag_that_says_what_the_log_says(run):
    logged = read_run(run.folder).episodes
    recorded = [read_episode(path) for path in list_episodes(run.folder)]
    assert [e.episode for e in recorded] == list(range(1, EPISODES + 2 * SEEDS + 1))
    for line, bag in zip(logged, recorded, strict=True):
        assert (line.episode, line.seed, line.use_residual) == (
            bag.episode, bag.seed, bag.use_residual
        )  # fmt: skip
        assert (line.steps, line.success) == (bag.steps, bag.verdict.success)


def test_the_learner_holds_what_was_executed(run):
    """The buffer's actions are those of the bags, which are the targets that the driver sent."""
    contract = contract_of(run.folder)
    state = learner_state(run.folder)
    practice = bags(run.folder, WARMUP, TRAIN)
    assert [e.to_episode(contract).sha256 for e in practice] == state["replay"]["online"]
    space = load(job(run.folder, 0)).base.action_space
    for episode in practice:
        assert episode.explored.any()
        np.testing.assert_allclose(
            space.to_norm(episode.action_rad), episode.action_norm, atol=1e-6
        )


def test_updates_never_exceed_the_target(run):
    warm = sum(e.steps for e in bags(run.folder, WARMUP))
    lines = read_run(run.folder).learner
    for line in lines:
        earned = TINY["utd"] * max(0, line["env_steps"] - warm)
        assert line["updates"] <= TINY["critic_warmup_updates"] + earned + 1e-6, line
        assert line["utd_achieved"] <= line["utd_target"] + 1e-9
    assert lines[-1]["updates"] > TINY["critic_warmup_updates"]


def job(folder, version):
    """Return what plays in this process what the nodes played; version 0: the base alone."""
    config = folder / "config"
    arguments = json.loads((folder / "run.json").read_text())["arguments"]
    return Job(
        robot_file=str(config / "robot.yaml"),
        task_file=str(config / "task.yaml"),
        variant=arguments["observation"],
        base=arguments["base"],
        env="resfit_sim.factory:twin_for",
        weights=str(weights_path(folder, version)) if version else None,
        train_file=str(config / "train.yaml"),
    )


@pytest.mark.parametrize(("policy", "index"), EVALUATION, ids=lambda value: str(value))
def test_a_seed_gives_the_same_trajectory_through_the_nodes_and_in_process(run, policy, index):
    """Bit for bit: the report may take the other evaluation seeds from the process."""
    seed = episode_seed("evaluate", index)
    (bag,) = (
        e for e in bags(run.folder, EVALUATE)
        if e.seed == seed and e.use_residual == (policy == "residual")
    )  # fmt: skip
    versions = set(bag.weights_version.tolist())
    assert len(versions) == 1
    (version,) = versions
    assert (version > 0) == (policy == "residual")
    moved = np.abs(bag.proposed - np.clip(bag.base_action[:-1], -1, 1)).max()
    assert (moved > 0) == (policy == "residual"), "the weights were not applied"

    ticks = []
    result = load(job(run.folder, version)).play(seed, ticks.append)
    assert (result.steps, result.success) == (bag.steps, bag.verdict.success)
    for name, recorded in (
        ("observation", bag.observation[:-1]),
        ("base_action", bag.base_action[:-1]),
        ("chunk_phase", bag.chunk_phase[:-1]),
        ("action_norm", bag.proposed),
        ("action_rad", bag.action_rad),
        ("reasons", bag.reasons),
    ):
        here = np.array([getattr(tick, name) for tick in ticks]).astype(recorded.dtype)
        np.testing.assert_array_equal(here, recorded, err_msg=name)


def test_a_recorded_episode_replays_to_the_bit(run, tmp_path):
    """On any machine: what was recorded here a moment ago is replayed here."""
    (bag,) = (p for p in list_episodes(run.folder) if read_manifest(p).episode == EPISODES)
    folder = tmp_path / "replayed"
    done = subprocess.run(
        [sys.executable, "-m", "resfit_bringup.main", "run", "replay", f"bag:={bag}",
         f"run_dir:={folder}"],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=200,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "replay.json").read_text())
    assert (found["same"], found["tolerance"], found["notes"]) == (True, 0.0, [])
    assert found["steps"] == read_manifest(bag).steps
    for name in ("observation", "base", "residual", "proposed", "executed"):
        assert found["stages"][name]["max"] == 0.0, name


@pytest.mark.parametrize("word", ["seed:=7", "robot:=broken.yaml", "episodez:=9"])
def test_bad_input_changes_nothing_in_a_run(run, word):
    text = (run.folder / "config" / "robot.yaml").read_text()
    (run.folder.parent / "broken.yaml").write_text(text.replace("cameras:", "camera:"))
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    ended = wait(start(run.folder, word), run.folder)
    assert ended.code == 2, ended.said
    assert len(ended.said.splitlines()) == 1
    assert before == {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}


# --- stopped and continued -----------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "two"
    planned = 6
    process = start(folder, f"episodes:={planned}", "warmup_episodes:=1", "evaluate_episodes:=0",
                    "report:=false")  # fmt: skip
    until = time.monotonic() + 120
    while not ((learner_state(folder) or {}).get("critic_updates") or process.poll() is not None):
        if time.monotonic() > until:
            process.terminate()
            pytest.fail(f"no checkpoint with updates comes:\n{wait(process, folder).said}")
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stopped = wait(process, folder)
    assert stopped.code == 130, stopped.said
    assert "stopped by Ctrl-C" in stopped.said
    assert left_running(folder) == []
    before = read_run(folder)
    assert len(before.episodes) < planned
    state = learner_state(folder)

    ended = wait(start(folder, "report:=false"), folder)
    assert ended.code == 0, ended.said
    assert left_running(folder) == []
    after = read_run(folder)
    assert [e.seed for e in after.practice if e.counts] == [
        episode_seed("train", i) for i in range(planned)
    ]
    assert [e.episode for e in after.episodes] == list(range(1, len(after.episodes) + 1))
    first = after.learner[len(before.learner)]
    assert first["updates"] >= state["critic_updates"]
    assert first["env_steps"] >= state["counters"]["env_steps"]
    assert first["weights_version"] >= before.learner[-1]["weights_version"]
    last = after.learner[-1]
    complete = [p for p in list_episodes(folder) if read_manifest(p).complete]
    assert last["env_steps"] == sum(read_episode(p).steps for p in complete)
    assert last["updates"] > first["updates"]
    assert [c["job"] for c in after.described["continued"]] == ["train"]
