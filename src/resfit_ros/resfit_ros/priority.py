"""Who gets a core first: the nodes that the robot waits for, and last the learner.

Linux only; every call asks and goes on without what is not permitted (docs/decisions/0016).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path

NOT_PERMITTED = (
    "not permitted to go before other processes: on a busy machine ticks may come late; give the "
    "user an rtprio limit of 3 or more (docs/decisions/0016-real-time.md)"
)
_URGENT_NICE = -10
_LAST_NICE = 10
_DDS_THREADS = "dds."
_PROC = Path("/proc/self")
_TRIES = 5  # without privileges the kernel takes one autogroup's change in a tenth of a second


def ask_early() -> None:
    """Ask for a higher priority; call it before any thread exists, which then inherits it."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _URGENT_NICE)
    weigh_session(_URGENT_NICE)


def go_first(rank: int) -> bool:
    """Put this process before every ordinary one, the higher rank before others.

    Call it when the node is up: loading libraries and weights is nothing the robot waits for.
    Threads that are started later inherit it from the one that starts them.

    Args:
        rank: SCHED_FIFO priority, 1 and more; kernel and drivers have 50 and more. 0: only the
            threads of DDS. Every node needs that: in glibc before 2.41 who notifies a condition
            variable between processes waits for those it woke the last time, so that a publisher
            stands still until its slowest subscriber on this machine was given a core.

    Returns:
        Whether it was permitted: CAP_SYS_NICE, or an `rtprio` limit of at least `rank`.
    """
    try:
        for task in (_PROC / "task").iterdir():
            # A thread may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if rank or (task / "comm").read_text().startswith(_DDS_THREADS):
                    wanted = os.sched_param(rank or 1)
                    os.sched_setscheduler(int(task.name), os.SCHED_FIFO, wanted)
    except PermissionError:
        return False
    return True


def go_ordinary() -> None:
    """Put the calling thread, and those it starts, back among the ordinary ones."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def go_last(nice: int = _LAST_NICE) -> None:
    """Let every other process go before the calling thread; needs no privilege."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    weigh_session(nice)


def weigh_session(nice: int) -> bool:
    """Give the kernel's group of this process's session a nice value, if it is alone in it.

    With `sched_autogroup_enabled` (most desktops) nice values count only within one session, and
    `resfit run` starts each node in its own: without this a nice value would count nothing.

    Returns:
        Whether the group has it now; False: no such groups, not permitted, or not ours alone.
    """
    group = _PROC / "autogroup"
    if os.getsid(0) != os.getpid() or not group.exists():
        return False
    for _ in range(_TRIES):
        try:
            group.write_text(str(nice))
        except PermissionError:
            return False
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            time.sleep(0.15)
        else:
            return True
    return False
