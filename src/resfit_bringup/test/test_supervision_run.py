"""Learner, recorder, panel and base killed one by one in a running graph, then all at once.

The run says who died, the others wait or go on, and nothing that was closed is lost.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "mujoco", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from onlooker import URL, Onlooker, read_lines, wait_for
from rclpy.serialization import deserialize_message
from test_end_to_end import TINY, bags, contract_of, learner_state, left_running

from resfit_bringup import paths
from resfit_core.control.records import Phase
from resfit_core.data.bags import list_episodes, read_manifest
from resfit_core.data.episode import TRAIN, WARMUP
from resfit_core.report_numbers import read_run

EPISODES, WARMUP_EPISODES = 24, 1
BETWEEN = ("recorder", "base_policy")  # killed while an episode is being closed


class Run:
    """A training run of tiny nets with somebody who listens."""

    def __init__(self, folder, domain_id):
        self.folder, self.said = folder, []
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "resfit_bringup.main", "run", "train", f"run_dir:={folder}",
                *([] if folder.exists() else self._words(folder.parent)), "report:=false",
                "panel:=true", "panel_port:=0", "keyboard:=false", "video:=false",
            ],
            cwd=folder.parent, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=read_lines, args=(self.process, self.said))
        self._reader.start()
        self.onlooker = Onlooker(domain_id, folder)

    @staticmethod
    def _words(here):
        (here / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        often = {"learner": {"ros__parameters": {"checkpoint_every": 1}}}
        (here / "often.yaml").write_text(yaml.safe_dump(often))
        for shipped in list_episodes(paths.demos_shipped("woolly_ball_pnp"))[:3]:
            shutil.copytree(shipped, here / "demos" / shipped.name)
        return [
            f"train_config:={here / 'tiny.yaml'}", f"params_file:={here / 'often.yaml'}",
            f"demos:={here / 'demos'}", f"episodes:={EPISODES}",
            f"warmup_episodes:={WARMUP_EPISODES}", "evaluate_episodes:=0",
        ]  # fmt: skip

    def pids(self):
        """Return the nodes' processes by name."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    for word in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                        if word.startswith(b"__node:="):
                            found[word[8:].decode()] = int(child)
        return found

    def closed(self):
        return len(list_episodes(self.folder)) if self.folder.is_dir() else 0

    def ended(self, since):
        """Return whether an episode ended after a wall time and the next has not begun."""
        found = [state for at, topic, kind, data in list(self.onlooker.heard)
                 if topic == "/episode_state" and at >= since
                 for state in (deserialize_message(data, kind),)]  # fmt: skip
        return found and found[-1].phase == Phase.ENDED

    def end(self, timeout_s=200):
        """Wait for the end; leave nothing running where it does not come."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail("the run does not end:\n" + self.text())
        finally:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(30)
            self._reader.join()
            self.onlooker.close()

    def text(self):
        return "\n".join(line for _, line in self.said[-60:])


def kill(run, name):
    """SIGKILL a node; return when, and its next process as soon as there is one."""
    pid = run.pids()[name]
    at = time.time()
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: run.pids().get(name, pid) != pid, 30), f"{name} does not come back"
    return at


def test_each_node_alone_and_then_all_of_them(tmp_path, domain_id):
    folder = tmp_path / "run"
    run = Run(folder, domain_id)
    killed = {}
    try:
        assert wait_for(lambda: (learner_state(folder) or {}).get("critic_updates")), run.text()
        for name in ("learner", "panel", "recorder", "base_policy"):
            before, since = run.closed(), time.time()
            if name in BETWEEN:
                assert wait_for(lambda t=since: run.ended(t)), run.text()
            killed[name] = kill(run, name)
            assert wait_for(lambda n=before: run.closed() > n + 1), f"after {name}:\n{run.text()}"
            assert run.process.poll() is None, run.text()
        for name, at in killed.items():
            assert any(f"{name} was ended by SIGKILL" in line and "starting it again" in line
                       for when, line in run.said if when >= at - 1), run.text()  # fmt: skip
        log = (folder / "logs" / "panel.log").read_text()
        assert len(URL.findall(log)) == 2, log
        # And all at once, front end included.
        closed = {p.name: (p / "manifest.json").read_bytes() for p in list_episodes(folder)}
        assert len(closed) < EPISODES, "nothing is left to resume"
    finally:
        with contextlib.suppress(ProcessLookupError):
            for pid in (run.process.pid, *run.pids().values()):
                os.kill(pid, signal.SIGKILL)
        run.end(30)
    assert wait_for(lambda: not left_running(folder), 30)

    again = Run(folder, domain_id)
    assert again.end() == 0, again.text()
    for name, manifest in closed.items():
        assert (folder / "episodes" / name / "manifest.json").read_bytes() == manifest
    nothing_is_lost_or_doubled(folder)


def nothing_is_lost_or_doubled(folder):
    """Every scene counts once, has its bag, and is in the learner's buffer once.

    A death costs the open episode and no other: four nodes alone, then all.
    """
    seen = read_run(folder)
    counting = [e for e in seen.practice if e.counts]
    assert len(seen.practice) - len(counting) <= 5
    assert len({e.seed for e in counting}) == len(counting) == EPISODES
    numbers = [e.episode for e in seen.episodes]
    assert all(a < b for a, b in pairwise(numbers))
    manifests = [read_manifest(path) for path in list_episodes(folder)]
    complete = {m.episode for m in manifests if m.complete}
    assert {e.episode for e in counting} <= complete
    held = learner_state(folder)["replay"]["online"]
    contract = contract_of(folder)
    whole = [e for e in bags(folder, WARMUP, TRAIN) if e.episode in complete]
    assert sorted(held) == sorted(e.to_episode(contract).sha256 for e in whole)
    # Whoever died, the robot kept the weights it had.
    versions = [int(v) for e in bags(folder, TRAIN) for v in e.weights_version]
    assert versions[-1] > 0
    assert all(a <= b for a, b in pairwise(versions))
