"""Nodes of a running training are killed one by one, then all at once; nothing is lost.

Who else notices, what is said and what goes on meanwhile is asserted, not how fast.
"""

import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "mujoco", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from onlooker import URL, Onlooker, wait_for
from rclpy.serialization import deserialize_message

from resfit_bringup import paths
from resfit_core import tensorfile
from resfit_core.data.bags import list_episodes
from resfit_core.run_log import read_episodes
from resfit_interfaces.msg import EpisodeState, LearnerStatus, Step

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    from kill import FRONT, Run
    from kill_check import Seen, check_run
finally:
    sys.path.remove(str(ROOT / "benchmarks"))

EPISODES = 400  # more than are played: the test says when it has seen enough


class Training:
    """A running training, what it says on its topics and what its front end says."""

    def __init__(self, folder, domain_id):
        often = {"learner": {"ros__parameters": {"checkpoint_every": 1}}}
        (folder / "often.yaml").write_text(yaml.safe_dump(often))
        for shipped in list_episodes(paths.demos_shipped("woolly_ball_pnp"))[:3]:
            shutil.copytree(shipped, folder / "demos" / shipped.name)
        self.folder = folder / "run"
        self.seen = Seen(folder / "seen.json")
        self._words = [
            "evaluate_episodes:=0", "report:=false", "video:=false", "keyboard:=false",
            f"train_config:={ROOT / 'benchmarks' / 'kill_train.yaml'}", "warmup_episodes:=2",
            f"params_file:={folder / 'often.yaml'}", f"demos:={folder / 'demos'}",
            "panel:=true", "panel_port:=0",
        ]  # fmt: skip
        self.run = self.front_end(EPISODES)
        self.onlooker = Onlooker(domain_id, self.folder)

    def front_end(self, episodes):
        """Return `resfit run train` with so many episodes planned, not started yet."""
        return Run(self.folder, [*self._words, f"episodes:={episodes}"], self.seen, 0)

    def heard(self, topic, kind, since=0):
        """Return the messages of a topic, from the `since`th of all that were heard."""
        return [
            deserialize_message(data, kind)
            for _, name, _, data in self.onlooker.heard[since:]
            if name == topic
        ]

    def states(self, since=0):
        return self.heard("/episode_state", EpisodeState, since)

    def wait(self, condition, what):
        """Wait for something while the run lives; say what did not come."""

        def holds():
            assert not self.run.ensure() and self.run.starts == 1, self.said()
            return condition()

        assert wait_for(holds, 90), f"{what} does not come\n{self.said()}"

    def until_running(self):
        """Wait until an episode in which the residual acts has begun; return its number."""
        here = len(self.onlooker.heard)

        def begun():
            steps = self.heard("/step", Step, here)
            return steps and steps[-1].weights_version and steps[-1].step < 30

        self.wait(begun, "an episode in which the residual acts")
        return self.heard("/step", Step, here)[-1].episode

    def kill(self, name):
        """SIGKILL one node; return how many messages were heard before."""
        self.seen.look(self.folder)
        here, pid = len(self.onlooker.heard), self.run.pids()[name]
        assert self.run.kill(name)
        self.wait(lambda: self.run.pids().get(name, pid) != pid, f"a new {name}")
        assert f"{name} was ended by SIGKILL" in self.said()
        return here

    def goes_on(self, after, since):
        """Wait for a later episode in which the residual acts; return the states until it ran."""

        def begun():
            steps = self.heard("/step", Step, since)
            return steps and steps[-1].weights_version and steps[-1].episode > after

        self.wait(begun, f"an episode after {after}")
        states = self.states(since)
        later = [s.phase == EpisodeState.RUNNING and s.episode > after for s in states]
        return states[: later.index(True)]

    def said(self):
        return (self.folder.parent / "run.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def training(tmp_path_factory, domain_id):
    here = Training(tmp_path_factory.mktemp("supervision"), domain_id)
    try:
        here.run.ensure()
        yield here
    finally:
        here.onlooker.close()
        here.run.stop()


def test_without_the_learner_the_residual_keeps_its_weights(training):
    training.until_running()
    before = training.heard("/learner_status", LearnerStatus)[-1]
    here = training.kill("learner")
    training.wait(
        lambda: any(
            s.updates > before.updates
            for s in training.heard("/learner_status", LearnerStatus, here)
        ),
        "an update of the new learner",
    )
    statuses = training.heard("/learner_status", LearnerStatus, here)
    # It did not begin anew: what it tells first is what its checkpoint held.
    told = [s for s in statuses if s.state != LearnerStatus.STARTING]
    assert min(s.updates for s in told) > 0
    assert min(s.env_steps for s in told) > 0
    steps = training.heard("/step", Step, here)
    acted = [s.weights_version for s in steps if not s.is_last]
    assert acted and min(acted) >= 1  # nobody fell back to the base alone
    assert acted == sorted(acted)  # nor to older weights


def test_without_the_recorder_no_new_episode_starts(training):
    episode = training.until_running()
    here = training.kill("recorder")
    until = training.goes_on(episode, here)
    # What the old one had heard is gone. The new one says so, and only then the run goes on, with
    # the same scene once more: `goes_on` ends before the next episode runs.
    last = [s for s in until if s.episode == episode and s.phase == EpisodeState.ENDED][-1]
    assert last.ended_by == EpisodeState.ABORTED
    assert "lost: " in last.reason or "recorder" in last.reason, last.reason


def test_without_the_base_policy_no_new_episode_starts(training):
    episode = training.until_running()
    here = training.kill("base_policy")
    until = training.goes_on(episode, here)
    words = " | ".join(s.reason for s in until)
    assert "base_policy" in words, words


def test_without_the_panel_all_goes_on_and_it_comes_back(training):
    episode = training.until_running()
    log = training.folder / "logs" / "panel.log"
    pages = len(URL.findall(log.read_text()))
    here = training.kill("panel")
    until = training.goes_on(episode, here)
    ended = [s.ended_by for s in until if s.episode == episode and s.phase == EpisodeState.ENDED]
    assert ended and EpisodeState.ABORTED not in ended
    training.wait(lambda: len(URL.findall(log.read_text())) > pages, "the panel's address")
    with urllib.request.urlopen(URL.findall(log.read_text())[-1], timeout=20) as page:
        assert page.status == 200


def test_after_the_death_of_all_the_run_goes_on_and_has_lost_nothing(training):
    training.until_running()
    training.seen.look(training.folder)
    for name in ("learner", "recorder", "panel", "base_policy"):
        log = (training.folder / "logs" / f"{name}.log").read_text()
        assert len(re.findall(r"^--- start \d+ ---", log, re.MULTILINE)) == 1, name
    pids = training.run.pids()
    assert training.run.kill(FRONT)
    assert wait_for(lambda: not any(_lives(pid) for pid in pids.values()))
    file = training.folder / "checkpoints" / "learner.safetensors"
    updates = tensorfile.unpack(file.read_bytes())[1]["critic_updates"]
    practised = sum(line.counts for line in read_episodes(training.folder / "episodes.jsonl"))

    training.run.stop()  # what is left of it: nothing but its exit code
    training.run = training.front_end(practised + 3)
    assert wait_for(training.run.ensure, 150), training.said()
    assert training.run.starts == 1, training.said()
    lines = read_episodes(training.folder / "episodes.jsonl")
    assert sum(line.counts for line in lines) == practised + 3
    assert tensorfile.unpack(file.read_bytes())[1]["critic_updates"] > updates
    found = check_run(training.folder, training.seen)
    assert found["problems"] == []
    assert found["closed"] >= practised + 3


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
