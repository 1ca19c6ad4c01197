"""Message faults of the fault matrix: the driver node on the fake robot in this process.

Part of `make bench-faults`; cases and rig: `resfit_vega_driver.fault_rig`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from resfit_core.contract import load_contract
from resfit_ros.testing import graph
from resfit_vega_driver.fault_rig import Case, Rig, cases


def _cases(root: Path) -> list[Case]:
    config = root / "config"
    return cases(load_contract(config / "robot/vega_1.yaml", config / "task/woolly_ball_pnp.yaml"))


def described(root: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of each case before it is tried; see `fault_book`."""
    return {
        case.name: {
            "kind": "message",
            "what": case.what,
            "reason": case.reason.name,
            "robot": "holds" if case.holds else "goes on within limits",
            "limit_ms": round(1e3 * case.limit_s),
            "test": f"src/resfit_vega_driver/test/test_faults.py::test_fault[{case.name}]",
        }
        for case in _cases(root)
    }


def play(root: Path, names: Iterable[str], tries: int) -> Iterator[dict[str, Any]]:
    """Yield one entry for each try of these cases; see `fault_book`."""
    with graph() as made:
        rig = Rig(made, root / "config")
        for case in _cases(root):
            for _ in range(tries if case.name in names else 0):
                found = rig.attempt(case)
                yield {
                    "case": case.name,
                    "settled": True,
                    "named": found.named,
                    "to_hold_ms": round(1e3 * found.to_hold_s, 2) if found.named else None,
                    "late": found.late,
                    "moved": found.moved_on_stale or found.moved_after_hold,
                    "outside": found.outside,
                    "recovered": found.recovered,
                    "words": "",
                }
