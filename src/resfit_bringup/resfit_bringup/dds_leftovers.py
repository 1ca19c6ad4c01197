"""What a node killed in the middle of its start leaves behind, and what would stop all others.

Fast DDS makes a shared-memory file per port and sets its size right after. Killed in between, a
process leaves a file of size 0; every later participant that comes to that port waits for its size
for ever, without a word, on the whole machine and in every domain.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_OLD_S = 1.0  # a sound one has its size within microseconds


def sweep(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove port files that never got a size; return their names.

    Files of other users stay. What has a size is never touched: somebody may use it.
    """
    removed = []
    for path in folder.glob("fastrtps_port*") if folder.is_dir() else ():
        # Locks (`_el`) are empty by nature.
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            facts = path.stat()
            is_port = path.name.removeprefix("fastrtps_port").isdigit()
            if is_port and facts.st_size == 0 and time.time() - facts.st_mtime > _OLD_S:
                path.unlink()
                removed.append(path.name)
    return removed
