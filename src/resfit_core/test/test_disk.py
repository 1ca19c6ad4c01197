"""A disk that is full, slow or gone: said, waited for, nothing half written."""

import os
import resource
import threading
import time

import pytest
from bag_maker import vega_contract

from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.data.assembler import Assembled
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.closing import close_episode, require_space
from resfit_core.data.disk import Disk


def wait_for(holds, seconds=10.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.005)


@pytest.fixture(name="assembled")
def _assembled():
    from bag_maker import messages_of_demo

    messages = tuple(messages_of_demo(vega_contract(), steps=8))
    state = EpisodeState(
        Phase.ENDED, 1, run_id="run", ended_by=EndedBy.SUCCESS, credited_step=7, reward=1.0,
        terminated=True,
    )  # fmt: skip
    return Assembled(state, 8, 0, False, "", messages)


def test_the_kernel_refuses_in_the_middle_of_a_bag(assembled, tmp_path):
    """A real refusal, in the middle of the file: the bag may be 4 kB long and no longer."""
    contract = vega_contract()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="large"):
            close_episode(tmp_path, assembled, contract)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "episodes").iterdir()) == []
    closed = close_episode(tmp_path, assembled, contract)
    assert (closed.manifest.steps, closed.manifest.complete) == (8, True)
    assert read_episode(tmp_path / "episodes" / "episode_000001").verdict.success


def test_a_refused_sync_of_the_folder_is_tried_again(assembled, tmp_path, monkeypatch):
    """The bag has its name already when the folder's fsync fails: the second try finds it."""
    real, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 5:  # bag, metadata, manifest, the bag's folder, then `episodes`
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        close_episode(tmp_path, assembled, vega_contract())
    assert (tmp_path / "episodes" / "episode_000001").is_dir()
    assert close_episode(tmp_path, assembled, vega_contract()).manifest.steps == 8
    assert len(calls) > 5, "what was not synced must be synced now"


def test_room_is_kept_for_the_others(tmp_path):
    require_space(tmp_path, 1, 0)
    with pytest.raises(OSError, match="make room"):
        require_space(tmp_path, 1, 10**18)


def test_what_is_refused_is_tried_again_until_it_works():
    disk, tries, done = Disk(retry_s=0.01, slow_s=5.0, say_every_s=0.0), [], []

    def work():
        tries.append(1)
        if len(tries) < 4:
            raise OSError(28, "No space left on device", "/somewhere")
        return "closed"

    held = threading.Event()
    disk.do(held.wait, lambda _: None)
    disk.close(3, now_s=100.0)
    disk.do(work, done.append)
    assert disk.owed(100.5) is None
    assert disk.owed(106.0) == (3, "the disk is slow: 6 s for one episode so far")
    held.set()
    wait_for(lambda: done)
    assert (done[0].result(), len(tries)) == ("closed", 4)
    assert disk.owed(101.0) is None
    disk.closed(3)
    assert disk.owed(200.0) is None
    assert disk.stop() == ""


def test_a_node_that_leaves_says_what_is_lost():
    disk, done = Disk(retry_s=60.0, say_every_s=0.0), []

    def work():
        raise OSError(28, "No space left on device", "/somewhere")

    disk.close(4, now_s=0.0)
    disk.do(work, done.append)
    wait_for(lambda: disk.owed(0.1))
    assert disk.owed(0.2) == (4, "No space left on device (/somewhere)")
    assert disk.stop() == "episode 4 is lost: No space left on device (/somewhere)"
    assert isinstance(done[0].exception(), OSError)
