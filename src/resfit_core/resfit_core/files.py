"""What every writer of files here needs. Standard library only: the driver's side uses it too."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Put a folder's entries on disk: a new or renamed file is there after a crash."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
