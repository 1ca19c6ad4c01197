"""Who goes first: each call on a process of its own, and what is not permitted changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PERMITTED = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
# For root: what an ordinary user has not.
_ORDINARY = ("setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice")


def _says(code: str, *before: str) -> list[str]:
    """Return the lines of a process that leads a session of its own."""
    done = subprocess.run(
        [*before, sys.executable, "-c", "import os, threading\nfrom pathlib import Path\n"
         "from resfit_ros import priority\n" + code],
        capture_output=True, text=True, timeout=60, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _may() -> bool:
    return not subprocess.run([sys.executable, "-c", _PERMITTED], check=False).returncode


def test_without_privileges_nothing_changes() -> None:
    """A user without CAP_SYS_NICE and rtprio goes on, in words of the return value."""
    code = "os.setresuid(65534, 65534, 65534)\n" if os.geteuid() == 0 else ""
    code = "import resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n" + code
    code += "priority.ask_early(); print(priority.go_first(1), os.sched_getscheduler(0))"
    assert _says(code) == ["False", str(os.SCHED_OTHER)]


def test_all_threads_go_first_and_later_ones_inherit() -> None:
    """The ranks of the control nodes, and the way back for what only draws."""
    if not _may():
        pytest.skip("SCHED_FIFO is not permitted here")
    code = """
ended = threading.Event()
threading.Thread(target=ended.wait).start()
priority.go_first(2)
print(*sorted({os.sched_getparam(int(t)).sched_priority for t in os.listdir("/proc/self/task")}))
back = []
def ordinary():
    back.append(os.sched_getscheduler(0)); priority.go_ordinary()
    back.append(os.sched_getscheduler(0))
later = threading.Thread(target=ordinary); later.start(); later.join()
print(*back, os.sched_getscheduler(0)); ended.set()
"""
    fifo, other = str(os.SCHED_FIFO), str(os.SCHED_OTHER)
    assert _says(code) == ["2", fifo, other, fifo]


def test_rank_nought_takes_the_threads_of_dds_only() -> None:
    """A recorder's own thread stays ordinary; the one that a publisher waits for does not."""
    if not _may():
        pytest.skip("SCHED_FIFO is not permitted here")
    code = """
ended, named = threading.Event(), threading.Event()
def listen():
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("dds.shm.7411")
    named.set(); ended.wait()
thread = threading.Thread(target=listen); thread.start(); named.wait()
priority.go_first(0)
print(os.sched_getscheduler(thread.native_id), os.sched_getscheduler(0)); ended.set()
"""
    assert _says(code) == [str(os.SCHED_FIFO), str(os.SCHED_OTHER)]


_LAST = """
priority.go_last()
print(os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup").read_text().split()[-1])
"""


@pytest.mark.parametrize("ordinary", [False, True])
def test_the_learner_weighs_less_as_a_session_too(ordinary) -> None:
    """Nice values count within a session only; regressions pinned: the learner's did nothing.

    It needs no privilege: what remains where the robot's nodes may not go first.
    """
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel knows no autogroups")
    before = _ORDINARY if ordinary and os.geteuid() == 0 else ()
    if before and not shutil.which(before[0]):
        pytest.skip("setpriv (util-linux) is not installed")
    refused = "priority.go_first(1) and os._exit(3)\n" if ordinary else ""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
    assert _says((limit if ordinary else "") + refused + _LAST, *before) == ["10", "10"]
