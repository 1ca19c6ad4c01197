"""A run whose disk fills up to the last byte: it waits, says why, and loses nothing."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

pytestmark = [pytest.mark.launch, pytest.mark.usefixtures("domain_id")]

for module in ("rclpy", "torch", "mujoco", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from onlooker import read_lines, wait_for

from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes
from resfit_core.run_log import read_episodes

EPISODES = 6


@pytest.fixture(name="disk")
def _disk(tmp_path):
    """A disk of 64 MB, of this test alone."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def started(run, params):
    process = subprocess.Popen(
        [sys.executable, "-m", "resfit_bringup.main", "run", "record", f"run_dir:={run}",
         f"episodes:={EPISODES}", f"params_file:={params}", "keyboard:=false"],
        cwd=params.parent, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    process.said = []
    reader = threading.Thread(target=read_lines, args=(process, process.said))
    reader.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        reader.join()
        process.stdout.close()


def test_a_run_outlives_a_full_disk(disk, tmp_path):
    """Bug: episode manager and supervisor died of it; only the recorder knew how to wait."""
    run, params = disk / "run", tmp_path / "params.yaml"
    # Nothing is kept free: this disk is full to the last byte, for the logs as well.
    params.write_text("recorder: {ros__parameters: {reserve_mb: 0.0}}\n")
    with started(run, params) as process:

        def words():
            return "\n".join(line for _, line in process.said)

        assert wait_for(lambda: len(list_episodes(run)) >= 2), words()
        with (disk / "ballast").open("wb", buffering=0) as file:
            stop = time.monotonic() + 60
            while not re.search(r"waits for: (recorder: |room for the log)", words()):
                with contextlib.suppress(OSError):
                    file.write(bytes(1 << 16))
                    continue
                with contextlib.suppress(OSError):
                    file.write(bytes(512))  # the last bytes too, and what others leave
                assert process.poll() is None and time.monotonic() < stop, words()
                time.sleep(0.05)
        known = len(list_episodes(run))
        time.sleep(5)  # long enough for a node that dies of it to die again and again
        assert process.poll() is None, words()
        assert len(list_episodes(run)) == known, "no episode while the disk is full"
        (disk / "ballast").unlink()
        assert process.wait(timeout=200) == 0, words()
        assert "exit code" not in words(), "nobody died of it"
    lines = read_episodes(run / "episodes.jsonl")
    assert [(line.episode, line.ended_by) for line in lines] == [
        (number, "success") for number in range(1, EPISODES + 1)
    ]
    kept = {path.name: read_episode(path) for path in list_episodes(run)}
    assert len(kept) == EPISODES and all(episode.verdict.success for episode in kept.values())
    assert not list((run / "episodes").glob(".*")), "nothing half written is left"
    assert json.loads((run / "run.json").read_text())["job"] == "record"
