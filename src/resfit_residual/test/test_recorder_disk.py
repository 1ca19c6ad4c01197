"""The recorder's node on a disk that is really full, or slow: said, waited for, nothing torn."""

import contextlib
import os
import subprocess
import threading

import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from test_recorder_node import Graph

from resfit_core.data.bag_reader import read_episode

MB = 1 << 20


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A disk of 2 MB, of this test alone."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path):
    """Take all room that the disk has; return the file that holds it."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def patient(graph):
    """Let the recorder try again soon."""
    graph.node._disk._retry_s = 0.05
    return graph


def partial(graph):
    return [path.name for path in (graph.run_dir / "episodes").iterdir() if path.name[0] == "."]


def plays_on(graph, known):
    """Go on with an episode, and find every one that was closed whole on disk."""
    number = known + 1
    graph.play(number, 5)
    graph.end(number, 4)
    assert graph.ros.spin_until(
        lambda: graph.recorded[-1].episode == number and not graph.recorded[-1].pending
    )
    for episode in range(1, number + 1):
        assert read_episode(graph.run_dir / f"episodes/episode_{episode:06d}").steps == 5
    assert partial(graph) == []


def test_a_disk_without_room(ros, small_disk):
    graph = patient(Graph(ros, small_disk / "run", reserve_mb=0.0))
    graph.play(1, 5)
    graph.end(1, 4)
    graph.hear(1)
    ballast = fill(small_disk / "ballast")
    graph.play(2, 5)
    graph.end(2, 4)
    told = graph.hear(3)
    assert (told.episode, told.pending, told.complete, told.uri) == (2, True, False, "")
    assert "disk full" in told.reason and "make room" in told.reason
    assert partial(graph) == []
    # Deaf and dumb it is not meanwhile: what was closed before can be had by who asks for it.
    ballast.unlink()
    assert graph.ros.spin_until(lambda: not graph.recorded[-1].pending)
    assert (graph.recorded[-1].episode, graph.recorded[-1].steps) == (2, 5)
    assert graph.payload(2).steps == 5
    plays_on(graph, 2)


def test_a_disk_that_fills_up_within_a_bag(ros, small_disk, monkeypatch):
    """Somebody else takes the room between the look at it and the writing: the kernel refuses."""
    from resfit_core.data import closing

    graph = patient(Graph(ros, small_disk / "run", reserve_mb=0.0))
    ballast, look = [], closing.require_space

    def look_then_lose_it(*words):
        look(*words)
        if not ballast:
            ballast.append(fill(small_disk / "ballast"))

    monkeypatch.setattr(closing, "require_space", look_then_lose_it)
    graph.play(1, 5)
    graph.end(1, 4)
    told = graph.hear(1)
    assert (told.episode, told.pending, told.uri) == (1, True, "")
    assert "No space left" in told.reason or "disk full" in told.reason
    assert (graph.run_dir / "episodes/episode_000001").exists() is False
    assert graph.ros.spin_until(lambda: partial(graph) == [])
    ballast[0].unlink()
    assert graph.ros.spin_until(lambda: not graph.recorded[-1].pending)
    plays_on(graph, 1)


def test_a_disk_that_is_slow(ros, tmp_path, monkeypatch):
    """A sync hangs: it is said with the seconds, nothing is given up, and messages are heard."""
    graph = Graph(ros, tmp_path / "run")
    graph.node._disk._slow_s = 0.1
    graph.node._disk._say_every_s = 0.05
    go, sync = threading.Event(), os.fsync

    def hang(handle):
        go.wait(20)
        sync(handle)

    monkeypatch.setattr(os, "fsync", hang)
    graph.play(1, 5)
    graph.end(1, 4)
    told = graph.hear(2)
    assert (told.episode, told.pending, told.uri) == (1, True, "")
    assert "the disk is slow" in told.reason
    assert not (graph.run_dir / "episodes/episode_000001").exists(), "no name before it is safe"
    graph.play(2, 5)  # what comes meanwhile waits in memory, not in DDS
    assert graph.ros.spin_until(lambda: len(graph.node._assembler._steps.get(2, ())) == 6)
    go.set()
    assert graph.ros.spin_until(lambda: not graph.recorded[-1].pending)
    assert (graph.recorded[-1].episode, graph.recorded[-1].complete) == (1, True)
    graph.end(2, 4)
    assert graph.ros.spin_until(lambda: graph.recorded[-1].episode == 2)
    assert read_episode(graph.run_dir / "episodes/episode_000002").steps == 5
