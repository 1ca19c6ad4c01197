"""DDS profiles of single nodes."""

from __future__ import annotations

import os
from pathlib import Path

_NAMES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def use_profile(kind: str) -> None:
    """Use `<profile>.<kind>.xml` beside the Fast DDS profile in use, where there is one.

    Call it before the first node exists. `safe`, for nodes that must never wait for another one:
    no shared memory. A process that is stopped or killed inside Fast DDS's shared memory takes a
    lock along, and everyone who sends to it there waits: a hung policy kept the driver from
    hearing an emergency stop.
    """
    for name in _NAMES:
        profile = os.environ.get(name, "")
        own = Path(profile).with_suffix(f".{kind}.xml") if profile else None
        if own is not None and own.is_file():
            os.environ[name] = str(own)
