"""DDS profiles of single nodes."""

from __future__ import annotations

import os
from pathlib import Path

_NAMES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
_LOCAL = "_localhost.xml"


def use_profile(kind: str) -> None:
    """Use `<profile>.<kind>.xml` beside the Fast DDS profile in use, where there is one.

    Call it before the first node exists. `safe`, for nodes that must never wait for another one:
    no shared memory. A process that is stopped or killed inside Fast DDS's shared memory takes a
    lock along, and everyone who sends to it there waits: a hung policy kept the driver from
    hearing an emergency stop.

    Where discovery stays on the machine, rmw_fastrtps adds shared memory to every profile. There
    `<profile>.<kind>_localhost.xml` is used, which keeps discovery on the machine by itself, and
    the range is SUBNET for this process.
    """
    local = os.environ.get(_RANGE) == "LOCALHOST"
    for name in _NAMES:
        profile = os.environ.get(name, "")
        if not profile:
            continue
        here = Path(profile).with_suffix(f".{kind}{_LOCAL}")
        own = Path(profile).with_suffix(f".{kind}.xml")
        if local and here.is_file():
            os.environ[name], os.environ[_RANGE] = str(here), "SUBNET"
        elif own.is_file():
            os.environ[name] = str(own)


def stay_here() -> None:
    """Let nobody outside this machine hear nodes made from now on, whatever the user has set."""
    if not any(os.environ.get(name, "").endswith(_LOCAL) for name in _NAMES):
        os.environ[_RANGE] = "LOCALHOST"
