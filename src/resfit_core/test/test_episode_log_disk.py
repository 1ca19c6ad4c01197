"""The run's log on a disk that is full: no episode starts, no line is lost, none is torn."""

import contextlib
import resource

import pytest
from test_episode import FIRST, Rig, T

from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.press import Press
from resfit_core.control.records import Phase
from resfit_core.run_log import read_episodes


@contextlib.contextmanager
def files_up_to(size: int):
    """Let the kernel refuse every byte beyond this size of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_episode_starts_without_room_for_its_mark(tmp_path):
    """Bug: the manager died of it, again at each new start, and the run ended."""
    rig = Rig(tmp_path)
    with files_up_to(100):
        rig.scene()
        assert rig.last.phase == Phase.READY
        assert "waits for: room for the log of the run (File too large)" in rig.last.reason
        rig.wait(60)
        assert [phase for phase, _ in rig.phases].count(Phase.READY) == 2, "said once"
        assert not (tmp_path / "episode_open.json").exists()
    rig.wait(1)
    assert rig.last.phase == Phase.RUNNING


@pytest.mark.parametrize("room", [0, 100])
def test_a_line_that_the_disk_refuses_is_written_later_and_whole(tmp_path, room):
    rig = Rig(tmp_path)
    rig.scene()
    rig.steps(3)
    rig.press(Press.SUCCESS, FIRST + 3 * T, "oracle")
    with files_up_to(room):
        rig.close()
        rig.scene(2 * FIRST)
        assert rig.last.phase == Phase.READY and "room for the log" in rig.last.reason
        # Dead by now, the run would find the episode open, and the bag says how it ended.
        assert EpisodeLog(tmp_path).open_episode.episode == 1
    assert rig.lines() == []
    rig.wait(1)
    assert rig.last.phase == Phase.RUNNING
    rig.steps(3, 2 * FIRST)
    rig.press(Press.FAILURE, 2 * FIRST + 3 * T, "oracle")
    with files_up_to(room):
        rig.close()
        assert rig.last.phase == Phase.IDLE, "not finished before it is written down"
    rig.wait(1)
    assert rig.last.phase == Phase.FINISHED
    lines = read_episodes(tmp_path / "episodes.jsonl")
    assert [(line.episode, line.ended_by) for line in lines] == [(1, "success"), (2, "failure")]
