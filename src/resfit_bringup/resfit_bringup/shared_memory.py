"""What killed nodes leave in /dev/shm: memory nobody frees, ports that hang the next node.

Fast DDS opens its shared-memory ports with boost's `managed_open_or_create`: whoever comes second
waits until the first has written "initialised" into the first four bytes. A process that is killed
in between leaves the port at "initialising", and every later node that gets the same port waits in
its start for ever, deaf to signals (docs/decisions/0014).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/dev/shm")
_INITIALISING = 1
_OLD_S = 5.0  # initialising takes well under a millisecond of computing


def clean(folder: Path | None = None, old_s: float = _OLD_S) -> int:
    """Remove ports that were never made ready and segments whose owner is dead.

    Args:
        folder: Where shared memory lies; None: `FOLDER`.
        old_s: A port must have been unfinished for so long [s]; the process that works on it may
            have been interrupted.

    Returns:
        Number of files removed. Files of other users, or already gone, are passed over.
    """
    folder, removed = folder or FOLDER, 0
    for port in unfinished(folder, old_s):
        with contextlib.suppress(OSError):
            port.unlink()
            removed += 1
    for lock in folder.glob("fastrtps_*_el"):
        if lock.name.startswith("fastrtps_port"):
            continue
        with contextlib.suppress(OSError), open(lock, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held for the owner's life
            lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
            removed += 1
    return removed


def unfinished(folder: Path | None = None, old_s: float = _OLD_S) -> Iterator[Path]:
    """Yield the ports that somebody began to make so long ago and never finished."""
    for port in (folder or FOLDER).glob("fastrtps_port*"):
        if port.name.endswith(("_el", "_sl")):
            continue
        with contextlib.suppress(OSError):
            if time.time() - port.stat().st_mtime < old_s:
                continue
            with open(port, "rb") as file:
                head = file.read(4)
            if len(head) < 4 or struct.unpack("=I", head)[0] == _INITIALISING:
                yield port


def waits_for_ever(pid: int, ports: list[Path]) -> bool:
    """Whether a process has one of these ports open: it waits for somebody who is dead."""
    names = {str(port) for port in ports}
    with contextlib.suppress(OSError):
        maps = Path(f"/proc/{pid}/maps").read_text()
        if any(name in maps for name in names):
            return True
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(handle) in names:
                    return True
    return False
