"""The fault matrix, measured: what the driver does, which reason it shows, how long it takes.

    make bench-faults                                        # 100 tries a case, 20 with processes
    make bench-faults ARGS="--tries 5 --process-tries 1"     # a look
    make bench-faults ARGS="--cases nan,silence --fresh"     # these anew

Several cases run side by side (`--processes`), each in a process and a DDS domain of its own
(`fault_case.py`). Each try is one line in runs/faults at once: what was stopped goes on with the
same command; after a change of the code begin `--fresh`.

Message faults: the driver node on the fake robot (`resfit_vega_driver.fault_rig`).
Camera faults: `zed_camera` and `base_policy` before it (`fault_cameras`).
Process faults: SIGKILL and SIGSTOP to the nodes before a driver process (`fault_processes`).
Time to hold counts from the last sound command to the first answer that says the hold; for faults
of the robot's own from their begin. `late`: above the case's configured limit and one control
period. Results: benchmarks/results/faults.json, and docs/faults.md with --write-docs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fault_book
import fault_cameras
import fault_case

from resfit_bringup.run import environment
from resfit_core.contract import load_contract
from resfit_core.control.safety import SafetyFilter
from resfit_core.data.bag_reader import read_episodes

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs/faults.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
RESULTS = ROOT / "benchmarks/results/faults.json"
_SAY_EVERY_S = 10.0
_IMAGE_CASES = 2  # side by side at most: each of them moves 60 images a second


def main() -> int:
    """Run the matrix; return 1 where something was late, moved on stale or was not named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=100, help="of each message fault")
    parser.add_argument("--process-tries", type=int, default=20, help="of each process fault")
    parser.add_argument("--cases", default="", help="names, by comma; empty: all")
    parser.add_argument("--processes", type=int, default=6, help="cases side by side")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/faults")
    parser.add_argument("--fresh", action="store_true", help="forget earlier tries of the cases")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true", help="put the table into the docs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    known = {k: v for part in fault_case.PARTS for k, v in part.described(ROOT).items()}
    tries = {"message": given.tries, "process": given.process_tries}
    names = list(filter(None, given.cases.split(","))) or list(known)
    wrong = sorted(set(names) - set(known))
    if wrong:
        print(f"no case {wrong}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    wanted = {name: tries[known[name]["kind"]] for name in names if tries[known[name]["kind"]]}
    if given.fresh:
        for name in wanted:
            fault_book.file_of(given.folder, name).unlink(missing_ok=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    # The long ones first, or the last one runs alone.
    length = {n: c * known[n]["limit_ms"] + 1e6 * (known[n]["kind"] != "message")
              for n, c in wanted.items()}  # fmt: skip
    failed = run(sorted(wanted, key=length.get, reverse=True), wanted, given)
    found = {n: fault_book.first(fault_book.read(given.folder, n), c) for n, c in wanted.items()}
    rows = [fault_book.row_of(name, known[name], found[name]) for name in known if name in wanted]
    print_rows(rows)
    filter_ms = filter_time_ms()
    print(f"filter with collision check: median {filter_ms:.2f} ms of CPU time per command")
    least = {k: [r["tries"] for r in rows if r["kind"] == k] for k in tries}
    total = {
        "cases": len(rows),
        "tries": min(least["message"], default=0),
        "process_tries": min(least["process"], default=0),
        "late": sum(row["late"] for row in rows),
        "moved_on_stale": sum(row["moved_on_stale"] for row in rows),
    }
    loads = [one["load"] for tried in found.values() for one in tried]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        **total,
        "filter_median_ms": round(filter_ms, 3),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "load_1min": statistics.median(loads) if loads else 0.0,
        "side_by_side": given.processes,
        "rows": rows,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    if given.write_docs:
        write_docs(result)
    print("faults: " + " ".join(f"{key}={value}" for key, value in total.items()))
    bad = total["late"] + total["moved_on_stale"] + sum(row["unnamed"] for row in rows)
    bad += sum(row["not_recovered"] + row["outside"] for row in rows) + len(failed)
    return int(bad > 0)


def run(names: list[str], wanted: dict[str, int], given: argparse.Namespace) -> list[str]:
    """Make the missing tries of all cases; return the cases whose process failed."""
    waiting, failed, said_s = list(names), [], 0.0
    images = {*fault_cameras.described(ROOT), "zed_camera_sigkill", "zed_camera_sigstop"}
    running: dict[str, subprocess.Popen] = {}
    try:
        while waiting or running:
            while len(running) < given.processes:
                busy = sum(name in images for name in running) >= _IMAGE_CASES
                name = next((n for n in waiting if not (busy and n in images)), None)
                if name is None:
                    break
                waiting.remove(name)
                if fault_book.missing(given.folder, name, wanted[name]):
                    running[name] = _start(name, wanted[name], given.folder)
            for name, process in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    if process.returncode:
                        failed.append(name)
                        print(f"  {name}: failed, see {given.folder}/{name}.log", file=sys.stderr)
            if time.monotonic() - said_s > _SAY_EVERY_S:
                said_s = time.monotonic()
                all_ = sum(wanted.values())
                done = all_ - sum(fault_book.missing(given.folder, n, wanted[n]) for n in names)
                now = ", ".join(running)
                print(f"  {done}/{all_} tries; {now}", file=sys.stderr, flush=True)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _start(name: str, tries: int, folder: Path) -> subprocess.Popen:
    command = [sys.executable, str(Path(__file__).parent / "fault_case.py"), name]
    command += ["--tries", str(tries), "--folder", str(folder)]
    # As both front ends do. With numpy's own threads a tick's two images wait for whoever has the
    # other core: up to a third of a second where it is busy (docs/decisions/0016).
    env = environment(folder)
    with (folder / f"{name}.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)


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
    again, lost = (sum(r[k] for r in result["rows"]) for k in ("begun_again", "not_recovered"))
    lines = [
        f"{result['machine']['cpus']} cores, {result['side_by_side']} cases side by side, of "
        f"those with images {_IMAGE_CASES} at most; load {result['load_1min']:.1f} while it ran "
        "(median); filter with collision check "
        f"{result['filter_median_ms']:.2f} ms of CPU time (median). "
        f"Camera cases: {again} episodes begun anew before a fault. All cases: {lost} tries that "
        "did not settle or recover.",
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
