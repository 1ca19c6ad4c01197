"""The supervisor with tiny fake nodes: restart, required death, clean stop, nothing left.

Times are limits, never measured to be short: every wait ends as soon as its event is there.
"""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("honcho", reason="honcho is not installed ('make setup' installs it)")

from resfit_bringup import shared_memory
from resfit_bringup import supervisor as supervisor_module
from resfit_bringup.node_log import NodeLog
from resfit_bringup.processes import Command
from resfit_bringup.rules import Limits, Outcome
from resfit_bringup.supervisor import Supervisor

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
) + SLEEP
WITH_CHILD = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {!r}])\n".format(
    "import time; time.sleep(600)"
)
QUICK = Limits(terminate_after_s=0.3, kill_after_s=0.6, backoff_s=0.05)


class Listener:
    """Remembers all and acts on a line or event."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.events: list[tuple[str, str]] = []
        self.on_line: dict[str, list] = {}

    def line(self, name: str, text: str) -> None:
        self.lines.append((name, text))
        for action in self.on_line.get(text, []):
            action()

    def event(self, name: str, text: str) -> None:
        self.events.append((name, text))

    def tick(self) -> None:
        """Nothing to do."""


def node(tmp_path: Path, name: str, code: str, required: bool = False) -> Command:
    """Write a fake node whose process can be found by its unique path."""
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    return Command(name, [sys.executable, "-u", str(path)], required)


def supervise(tmp_path, commands, listener=None, finisher="manager", limits=QUICK):
    supervisor = Supervisor(commands, tmp_path / "logs", listener or Listener(), finisher, limits)
    # A hung test would hang the whole suite: the watchdog ends the run instead.
    watchdog = threading.Timer(30, os.kill, (os.getpid(), signal.SIGTERM))
    watchdog.start()
    try:
        return supervisor.run()
    finally:
        watchdog.cancel()
        assert left(tmp_path) == []


def left(tmp_path: Path) -> list[str]:
    """Return command lines of processes of this test that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile
        if any(str(tmp_path) in w for w in words) and int(entry.parent.name) != os.getpid():
            found.append(" ".join(words))
    return found


def test_the_finisher_ends_the_run_and_all_others(tmp_path):
    commands = [node(tmp_path, "a", SLEEP), node(tmp_path, "manager", "print('done')\n")]
    outcome = supervise(tmp_path, commands)
    assert (outcome.code, outcome.reason) == (0, "finished")


def test_a_required_node_ends_the_run_with_its_last_line(tmp_path):
    dying = "import sys\nprint('starting')\nsys.exit('no answer to stamp 3.05')\n"
    commands = [node(tmp_path, "a", SLEEP), node(tmp_path, "twin", dying, required=True)]
    outcome = supervise(tmp_path, commands)
    assert outcome.code == 1
    assert outcome.reason == "twin ended with exit code 1: no answer to stamp 3.05"
    assert "no answer" in (tmp_path / "logs" / "twin.log").read_text()


def test_a_disk_that_takes_no_log_line_ends_no_run(tmp_path):
    """Bug: the supervisor itself died of a full disk, and every node with it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/manager.log").symlink_to("/dev/full")
    listener = Listener()
    outcome = supervise(tmp_path, [node(tmp_path, "manager", "print('done')\n")], listener)
    assert (outcome.code, listener.lines) == (0, [("manager", "done")])


def test_lines_that_the_disk_refused_are_counted(tmp_path):
    file = tmp_path / "a.log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with NodeLog(file) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            log.write("lost")
            log.write("lost as well")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.write("kept")
    assert file.read_text() == "--- 2 lines are missing here: the disk refused them ---\nkept\n"


def test_another_node_is_started_again_and_the_run_goes_on(tmp_path):
    mark = tmp_path / "mark"
    code = f"""
import pathlib, sys, time
mark = pathlib.Path({str(mark)!r})
if mark.exists():
    print('second life', flush=True)
    time.sleep(600)
mark.touch()
sys.exit(5)
"""
    manager = f"""
import pathlib, time
log = pathlib.Path({str(tmp_path / "logs" / "learner.log")!r})
while 'second life' not in log.read_text():
    time.sleep(0.02)
"""
    listener = Listener()
    commands = [node(tmp_path, "learner", code), node(tmp_path, "manager", manager)]
    outcome = supervise(tmp_path, commands, listener)
    assert outcome.code == 0
    assert [n for n, _ in listener.events if n == "learner"] == ["learner"]
    assert "exit code 5" in dict(listener.events)["learner"]
    assert "--- start 2 ---" in (tmp_path / "logs" / "learner.log").read_text()


def test_a_node_that_keeps_dying_ends_the_run(tmp_path):
    limits = Limits(0.3, 0.6, restarts=2, backoff_s=0.01)
    commands = [
        node(tmp_path, "learner", "raise SystemExit('bang')\n"),
        node(tmp_path, "b", SLEEP),
    ]
    outcome = supervise(tmp_path, commands, limits=limits)
    assert outcome.code == 1
    assert "bang" in outcome.reason
    assert "given up" in outcome.reason


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_all_even_the_stubborn_and_their_children(tmp_path, number, code):
    listener = Listener()
    listener.on_line["up"] = [lambda: os.kill(os.getpid(), number)]
    commands = [
        node(tmp_path, "a", WITH_CHILD + SLEEP),
        node(tmp_path, "twin", STUBBORN, required=True),
    ]
    # Only the first "up" asks to stop: a second signal would kill at once.
    listener.on_line["up"].append(listener.on_line.clear)
    outcome = supervise(tmp_path, commands, listener)
    assert outcome.code == code
    assert signal.getsignal(number) in (
        signal.SIG_DFL, signal.default_int_handler, signal.SIG_IGN,
    )  # fmt: skip


def test_a_doubled_ctrl_c_still_lets_the_nodes_save(tmp_path):
    """`timeout -s INT` signals the process and its group: that killed the learner unsaved."""
    code = (
        "import pathlib, time\n"
        "try:\n    print('up', flush=True)\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.5)\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
    )
    listener = Listener()
    listener.on_line["up"] = [lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]]
    patient = Limits(terminate_after_s=20.0, kill_after_s=25.0)
    assert supervise(tmp_path, [node(tmp_path, "a", code)], listener, limits=patient).code == 130
    assert (tmp_path / "saved").exists()


def test_what_a_dead_node_leaves_running_is_ended(tmp_path):
    """A grandchild that holds the output open must not hide the death of its parent."""
    child = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, {str(tmp_path / 'g.py')!r}])\n"
    )
    (tmp_path / "g.py").write_text(SLEEP)
    commands = [node(tmp_path, "twin", child + "sys.exit(4)\n", required=True)]
    outcome = supervise(tmp_path, commands)
    assert outcome.reason.startswith("twin ended with exit code 4")


def test_a_program_that_cannot_start_is_said(tmp_path):
    program = tmp_path / "missing"
    program.write_text("#!/nowhere/python\n")
    program.chmod(0o755)
    outcome = supervise(tmp_path, [Command("twin", [str(program)], required=True)])
    assert outcome.code == 1
    assert str(program) in outcome.reason


def test_kill_9_of_the_front_end_ends_the_nodes_too(tmp_path):
    """Where setpriv is there; elsewhere the nodes' own time-outs have to do."""
    from resfit_bringup import processes

    if processes._setpriv() is None:
        pytest.skip("setpriv (util-linux) is not installed")
    node(tmp_path, "twin", SLEEP)
    front = tmp_path / "front.py"
    front.write_text(
        "import pathlib, sys\n"
        "from resfit_bringup.processes import Command\n"
        "from resfit_bringup.supervisor import Supervisor\n"
        "class L:\n"
        "    def line(self, name, text): print(text, flush=True)\n"
        "    def event(self, name, text): pass\n"
        "    def tick(self): pass\n"
        f"c = Command('twin', [sys.executable, {str(tmp_path / 'twin.py')!r}], True)\n"
        f"Supervisor([c], pathlib.Path({str(tmp_path)!r}), L()).run()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(front)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == b"up\n"
        process.kill()
    deadline = time.monotonic() + 10
    while left(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(tmp_path) == []


def half_made(folder: Path, age_s: float = 60.0) -> Path:
    """A shared-memory port whose maker was killed before it wrote that it is ready."""
    port = folder / "fastrtps_port7411"
    port.write_bytes((1).to_bytes(4, sys.byteorder) + bytes(96))
    os.utime(port, (time.time() - age_s,) * 2)
    return port


def test_a_node_that_waits_for_a_killed_one_is_started_again(tmp_path, monkeypatch):
    """Bug: the node hung in its start for ever, deaf to signals, and the run with it."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(supervisor_module, "_LOOK_S", 0.05)
    code = (
        "import os, pathlib, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "port, been = here / 'fastrtps_port7411', here / 'been'\n"
        "if not been.exists():\n"
        "    been.touch()\n"
        "    file = open(port, 'wb')\n"
        "    print('waits', flush=True)\n"
        "    file.write((1).to_bytes(4, 'little') + bytes(96))\n"
        "    file.flush()\n"
        "    os.utime(port, (0, 0))\n"
        "    time.sleep(600)\n"
        "print('stuck' if port.exists() else 'free', flush=True)\n"
        "time.sleep(600)\n"
    )
    listener = Listener()
    made = Supervisor([node(tmp_path, "a", code)], tmp_path / "logs", listener, limits=QUICK)
    for word in ("free", "stuck"):
        listener.on_line[word] = [lambda: made.stop(Outcome(0, "done"))]
    made.run()
    assert [text for _, text in listener.lines][:2] == ["waits", "free"]
    assert ("a", "waits in vain for a killed node: killed") in listener.events


def test_what_killed_nodes_left_is_cleaned_and_the_living_keep_theirs(tmp_path):
    old, young = half_made(tmp_path), tmp_path / "fastrtps_port7413"
    young.write_bytes(old.read_bytes())
    ready = tmp_path / "fastrtps_port7415"
    ready.write_bytes((2).to_bytes(4, sys.byteorder))
    os.utime(ready, (0, 0))
    for name in ("dead", "living"):
        (tmp_path / f"fastrtps_{name}").write_bytes(b"32 MiB")
        (tmp_path / f"fastrtps_{name}_el").touch()
    with open(tmp_path / "fastrtps_living_el", "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert shared_memory.clean(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fastrtps_living", "fastrtps_living_el", "fastrtps_port7413", "fastrtps_port7415",
    ]  # fmt: skip
