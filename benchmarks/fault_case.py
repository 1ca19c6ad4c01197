"""Tries of one case of the fault matrix, in a process and a DDS domain of their own.

    tools/env.sh python benchmarks/fault_case.py force --tries 100 --folder runs/faults

Called by `faults.py`, which runs several of these side by side. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import fault_book
import fault_cameras
import fault_messages
import fault_processes

from resfit_ros.priority import ask_early

ROOT = Path(__file__).resolve().parents[1]
PARTS = (fault_processes, fault_cameras, fault_messages)


def main() -> int:
    """Make the tries that are still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case")
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    missing = fault_book.missing(given.folder, given.case, given.tries)
    if not missing:
        return 0
    # As every node has that the robot waits for.
    ask_early()
    part = next((p for p in PARTS if given.case in p.described(ROOT)), None)
    if part is None:
        print(f"no case '{given.case}'; docs/faults.md names them", file=sys.stderr)
        return 2
    given.folder.mkdir(parents=True, exist_ok=True)
    with fault_book.file_of(given.folder, given.case).open("a") as file:
        for one in part.play(ROOT, [given.case], missing):
            file.write(json.dumps({**one, "load": round(os.getloadavg()[0], 1)}) + "\n")
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
