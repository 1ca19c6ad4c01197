"""The fault matrix, measured: what the driver does, which reason it shows, how long it takes.

    make bench-faults                                        # 100 tries a case, 20 with processes
    make bench-faults ARGS="--tries 5 --process-tries 0"     # a look
    make bench-faults ARGS="--cases nan,silence"

Message faults: the driver node on the fake robot in this process (`resfit_vega_driver.fault_rig`).
Camera faults: `zed_camera` and `base_policy` before it (`fault_cameras`).
Process faults: `base_policy` and `residual_policy` as processes of their own before a driver
process on the fake robot; each is killed and stopped (SIGKILL, SIGSTOP). Time to hold counts from
the last sound command to the first answer that says the hold; for faults of the robot's own from
their begin. `late`: above the case's configured limit and one control period. Results:
benchmarks/results/faults.json, and docs/faults.md with --write-docs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import fault_cameras
import fault_processes

from resfit_core.contract import load_contract
from resfit_core.control.safety import SafetyFilter
from resfit_core.data.bag_reader import read_episodes
from resfit_ros.testing import graph
from resfit_vega_driver.fault_rig import Case, Rig, Try, cases

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/faults.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
RESULTS = ROOT / "benchmarks/results/faults.json"


def main() -> int:
    """Run the matrix; return 1 where something was late, moved on stale or was not named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=100, help="of each message fault")
    parser.add_argument("--process-tries", type=int, default=20, help="of each process fault")
    parser.add_argument("--cases", default="", help="names, by comma; empty: all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true", help="put the table into the docs")
    given = parser.parse_args()
    wanted = set(filter(None, given.cases.split(",")))
    rows = message_faults(given.tries, wanted) if given.tries else []
    if given.tries:
        rows += fault_cameras.run(ROOT, given.tries, wanted)
    if given.process_tries:
        rows += fault_processes.run(ROOT, given.process_tries, wanted)
    if not rows:
        print(f"no case of {sorted(wanted)}; see docs/faults.md for the names", file=sys.stderr)
        return 2
    print_rows(rows)
    filter_ms = filter_time_ms()
    print(f"filter with collision check: median {filter_ms:.2f} ms of CPU time per command")
    message = [row["tries"] for row in rows if row["kind"] == "message"]
    process = [row["tries"] for row in rows if row["kind"] == "process"]
    total = {
        "cases": len(rows),
        "tries": min(message, default=0),
        "process_tries": min(process, default=0),
        "late": sum(row["late"] for row in rows),
        "moved_on_stale": sum(row["moved_on_stale"] for row in rows),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        **total,
        "filter_median_ms": round(filter_ms, 3),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "load_1min": os.getloadavg()[0],
        "rows": rows,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    if given.write_docs:
        write_docs(result)
    print("faults: " + " ".join(f"{key}={value}" for key, value in total.items()))
    bad = total["late"] + total["moved_on_stale"] + sum(row["unnamed"] for row in rows)
    return int(bad + sum(row["not_recovered"] + row["outside"] for row in rows) > 0)


def message_faults(tries: int, wanted: set[str]) -> list[dict[str, Any]]:
    """Return one row for each case in this process."""
    rows = []
    with graph() as made:
        rig = Rig(made, ROOT / "config")
        for case in cases(rig):
            if wanted and case.name not in wanted:
                continue
            began = time.monotonic()
            rows.append(row_of(case, [rig.attempt(case) for _ in range(tries)]))
            spent = time.monotonic() - began
            print(f"  {case.name}: {tries} tries in {spent:.0f} s", file=sys.stderr, flush=True)
    return rows


def row_of(case: Case, results: list[Try]) -> dict[str, Any]:
    """Return what the tries of a case showed, in plain numbers; times in milliseconds."""
    times = sorted(1e3 * r.to_hold_s for r in results if r.named)
    return {
        "case": case.name,
        "kind": "message",
        "what": case.what,
        "reason": case.reason.name,
        "robot": "holds" if case.holds else "goes on within limits",
        "limit_ms": round(1e3 * case.limit_s),
        "tries": len(results),
        "median_ms": round(statistics.median(times), 1) if times else None,
        "max_ms": round(times[-1], 1) if times else None,
        "late": sum(r.late for r in results),
        "moved_on_stale": sum(r.moved_on_stale or r.moved_after_hold for r in results),
        "unnamed": sum(not r.named for r in results),
        "outside": sum(r.outside for r in results),
        "not_recovered": sum(not r.recovered for r in results),
        "test": f"src/resfit_vega_driver/test/test_faults.py::test_fault[{case.name}]",
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print the matrix."""
    head = ("case", "reason", "limit_ms", "tries", "median_ms", "max_ms", "late", "moved_on_stale")
    print(" | ".join(head))
    for row in rows:
        print(" | ".join(str(row[key]) for key in head))


def write_docs(result: dict[str, Any]) -> None:
    """Put the matrix between the marks of docs/faults.md."""
    text = DOCS.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    lines = [
        f"{result['machine']['cpus']} cores, load {result['load_1min']:.0f} while it ran; filter "
        f"with collision check {result['filter_median_ms']:.2f} ms of CPU time (median).",
        "",
        "| case | what happens | reason shown | the robot | limit [ms] | tries | median [ms] | "
        "max [ms] | late | moved on stale | test |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    keys = (
        "case", "what", "reason", "robot", "limit_ms", "tries", "median_ms", "max_ms", "late",
        "moved_on_stale",
    )  # fmt: skip
    for row in result["rows"]:
        cells = [str(row[key]) for key in keys]
        lines.append("| " + " | ".join([*cells, f"`{row['test'].split('/')[-1]}`"]) + " |")
    DOCS.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail)


def filter_time_ms() -> float:
    """Return the median CPU time of the filter on a shipped demonstration [ms]."""
    config = ROOT / "config"
    contract = load_contract(config / "robot/vega_1.yaml", config / "task/woolly_ball_pnp.yaml")
    episode = read_episodes(config / "shipped/woolly_ball_pnp/demos")[0]
    safety, spent = SafetyFilter(contract), []
    safety.reset(episode.action_rad[0])
    for before, action in zip(episode.action_rad[:-1], episode.action_rad[1:], strict=True):
        start = time.process_time()
        safety.filter(action, before)
        spent.append(1e3 * (time.process_time() - start))
    return statistics.median(spent)


if __name__ == "__main__":
    sys.exit(main())
