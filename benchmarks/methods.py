"""All baselines, ablations and the dip, in one table that can be stopped and resumed anywhere.

    make bench-methods ARGS="--list"                               what there is and what it costs
    make bench-methods ARGS="--only basketball --max-minutes 60"   an hour of it
    make bench-methods ARGS="--processes 8"                        all of it, eight at a time
    make bench-methods ARGS="--table"                              only the tables
    make bench-methods ARGS="--smoke"                              minutes: does the runner work?

Each cell is one process with a folder under runs/methods/; ended by a signal it goes on from its
checkpoint next time. What is finished is kept in benchmarks/results/methods/<cell>.json and is run
again only if its entry in the table or its settings file changed. Missing cells are shown as
missing. The last line is `methods: key=value ...`; docs/benchmarks.md has the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import methods_figures as figures
from benchmarks.methods_table import ROOT, TASKS, Cell, estimate_s, groups, same, smoke_groups

from resfit_core import tensorfile

RESULTS = ROOT / "benchmarks" / "results"
Groups = Mapping[str, Sequence[Cell]]


@dataclasses.dataclass(frozen=True)
class Store:
    """Where results are kept and cells run.

    Attributes:
        kept: folder of finished cells' JSON.
        runs: folder of the cells' own folders.
    """

    kept: Path
    runs: Path

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return a finished cell's result; None: it never ran, or its entry has changed since."""
        try:
            found = json.loads((self.kept / f"{cell.key}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found if same(found["spec"], cell.spec()) else None

    def keep(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Write a result, whole or not at all."""
        self.kept.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"spec": cell.spec(), **result}) + "\n"
        tensorfile.write_atomic(self.kept / f"{cell.key}.json", text.encode())


def command(cell: Cell, phase: int, out: Path) -> list[str]:
    """Return the process of one phase of a cell."""
    task, part = TASKS[cell.task], cell.phases[phase]
    if task.name == "reach":
        made = ROOT / "runs" / "methods_smoke" / "reach"
        start = [sys.executable, "-m", "resfit_core.train", "--env", task.env]
    elif task.env:
        made = ROOT / "runs" / "metaworld" / task.name
        python = ROOT / ".venv-metaworld" / "bin" / "python"
        start = [str(python), "-m", "resfit_core.train", "--env", task.env]
    else:
        start = [sys.executable, "-m", "benchmarks.twin_train", "--task", task.name]
    if task.env:
        start += ["--base", str(made / "base.pt"), "--demos", str(made / "demos.npz")]
    config = cell.config_file()
    changes = cell.changes()
    last = phase == len(cell.phases) - 1
    return [
        *start,
        *("--algo", cell.algo, "--seed", str(cell.seed), "--out", str(out), "--resume"),
        *(("--config", str(config)) if config else ()),
        *(("--set", *changes) if changes else ()),
        *("--steps", str(part.steps), "--eval-every", str(part.every)),
        *("--eval-episodes", str(part.episodes), "--eval-once"),
        *("--final-episodes", str(cell.final if last else 0)),
    ]


class Running:
    """A cell at work: one phase after the other, each a process of its own."""

    def __init__(self, cell: Cell, store: Store, make: Callable[..., list[str]] = command) -> None:
        """Start or resume it."""
        self.cell, self._store, self._make = cell, store, make
        self.out = store.runs / cell.key
        self._stopping = False
        self._check_spec()
        self._state = self.out / "cell.json"
        self._phase = self._read().get("phase", 0)
        self._begin()

    def _check_spec(self) -> None:
        """Put aside the folder of a run whose entry in the table has changed."""
        spec, file = self.cell.spec(), self.out / "spec.json"
        if file.exists() and not same(json.loads(file.read_text()), spec):
            self.out.rename(self.out.with_name(f"{self.out.name}.{int(time.time())}.old"))
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(spec))

    def _read(self) -> dict[str, Any]:
        return json.loads(self._state.read_text()) if self._state.exists() else {}

    def _begin(self) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        paths = [str(ROOT), str(ROOT / "examples" / "reach"), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        with (self.out / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self._make(self.cell, self._phase, self.out),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches it through `stop`, once
            )

    def poll(self) -> int | None:
        """Return None while it works, else its exit status; then its result is kept if it is 0."""
        if self._process.returncode is not None:
            return self._process.returncode
        pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
        if not pid:
            return None
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        state = self._read()
        state["cpu_s"] = state.get("cpu_s", 0.0) + used.ru_utime + used.ru_stime
        more = code == 0 and self._phase + 1 < len(self.cell.phases)
        state["phase"] = self._phase = self._phase + more
        tensorfile.write_atomic(self._state, json.dumps(state).encode())
        if more and not self._stopping:
            self._begin()
            return None
        if code == 0 and not more:
            records = (self.out / "progress.jsonl").read_text(encoding="utf-8").splitlines()
            report = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
            result = figures.result_of(report, [json.loads(record) for record in records])
            facts = {"cpu_s": round(state["cpu_s"], 1), **machine(), "commit": commit()}
            self._store.keep(self.cell, {**result, **facts})
        return code

    def stop(self) -> None:
        """Ask it to end at the next chance; what its checkpoint holds is kept."""
        self._stopping = True
        self._process.terminate()

    def words(self) -> str:
        """Return the last lines that it said."""
        text = (self.out / "log.txt").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-5:])


def run(
    cells: Sequence[Cell],
    store: Store,
    processes: int,
    max_s: float,
    make: Callable[..., list[str]] = command,
) -> list[str]:
    """Run cells until all are done, time is up or Ctrl-C; return the keys of those that failed."""
    waiting, working, failed = list(cells), [], []
    begin = time.monotonic()
    stopped = False
    try:
        while waiting or working:
            if time.monotonic() - begin >= max_s:
                stopped = True
                break
            while waiting and len(working) < processes:
                working.append(Running(waiting.pop(0), store, make))
                print(f"started {working[-1].cell.key}", flush=True)
            for item in list(working):
                code = item.poll()
                if code is None:
                    continue
                working.remove(item)
                print(f"{'finished' if code == 0 else f'FAILED ({code})'} {item.cell.key}")
                if code:
                    failed.append(item.cell.key)
                    print(item.words(), flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        stopped = True
    if stopped:
        print("stopping; the same command goes on from here", flush=True)
        for item in working:
            item.stop()
        while any(item.poll() is None for item in working):
            time.sleep(0.1)
    return failed


def unique(table: Groups) -> list[Cell]:
    """Return each cell once, in the order of the table.

    Raises:
        ValueError: two different cells would share a result file.
    """
    found: dict[str, Cell] = {}
    for cells in table.values():
        for cell in cells:
            if found.setdefault(cell.key, cell) != cell:
                raise ValueError(f"two different cells are called '{cell.key}'; rename one")
    return list(found.values())


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Put first seeds first, so that a table cut short holds every row."""
    return sorted(cells, key=lambda cell: cell.seed)


def summarise(table: Groups, store: Store) -> dict[str, dict[figures.Row, dict[str, Any]]]:
    """Return the figures of every row of every group, from what is kept."""
    made: dict[str, dict[figures.Row, dict[str, Any]]] = {}
    for group, cells in table.items():
        rows: dict[figures.Row, list[Cell]] = {}
        for cell in cells:
            rows.setdefault(cell.row, []).append(cell)
        made[group] = {
            row: figures.row_figures([r for c in of if (r := store.result(c))], len(of))
            for row, of in rows.items()
        }
    return made


def costs(cells: Sequence[Cell], store: Store) -> dict[str, float]:
    """Return CPU seconds of each cell: measured on its row's finished seeds, else estimated."""
    measured: dict[figures.Row, list[float]] = {}
    for cell in cells:
        if result := store.result(cell):
            measured.setdefault(cell.row, []).append(result["cpu_s"])
    return {
        cell.key: sum(known) / len(known)
        if (known := measured.get(cell.row))
        else estimate_s(cell)
        for cell in cells
    }


def show_list(cells: Sequence[Cell], store: Store) -> None:
    """Print each cell, whether it is done and what it costs."""
    cost = costs(cells, store)
    left = 0.0
    for cell in cells:
        done = store.result(cell) is not None
        state = "done" if done else TASKS[cell.task].missing() or "missing"
        left += 0.0 if done else cost[cell.key]
        print(f"{cell.key:<55} {cost[cell.key] / 3600:6.2f} core h  {state}")
    total = sum(cost.values())
    print(f"{len(cells)} cells, {total / 3600:.1f} core hours; {left / 3600:.1f} to go")


def show_table(table: Groups, store: Store, folder: Path) -> None:
    """Print the tables and the last line; write JSON and curves."""
    made = summarise(table, store)
    for group, rows in made.items():
        if not rows:
            continue
        print(f"\n{group}\n{figures.HEADER}")
        for row, of in rows.items():
            print(figures.line(row, of))
    folder.mkdir(parents=True, exist_ok=True)
    for group, rows in made.items():
        figures.plot(group, rows, folder)
    cells = unique(table)
    done = sum(store.result(cell) is not None for cell in cells)
    plain = {g: {" | ".join(row): of for row, of in rows.items()} for g, rows in made.items()}
    text = json.dumps({"cells": len(cells), "done": done, **plain}, indent=1) + "\n"
    tensorfile.write_atomic(folder / "methods.json", text.encode())
    print("\n" + figures.last_line(made, done, len(cells)))


def prepare_smoke() -> None:
    """Make base and demonstrations of examples/reach."""
    out = ROOT / "runs" / "methods_smoke" / "reach"
    if not (out / "base.pt").exists():
        script = ROOT / "examples" / "reach" / "prepare.py"
        subprocess.run([sys.executable, str(script), "--out", str(out)], check=True)


def machine() -> dict[str, str]:
    """Return on what a result was made."""
    return {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def commit() -> str:
    """Return the commit at work; empty outside a clone."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def main() -> int:
    """Run what is missing and print the tables; 1 if a cell failed."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--only", default="", help="regular expression on group/cell")
    parse.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parse.add_argument("--max-minutes", type=float, default=float("inf"))
    parse.add_argument("--list", action="store_true", help="cells and costs; run nothing")
    parse.add_argument("--table", action="store_true", help="tables of what is there; run nothing")
    parse.add_argument("--smoke", action="store_true", help="a tiny table on examples/reach")
    args = parse.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    table: Groups = smoke_groups() if args.smoke else groups()
    name = "methods_smoke" if args.smoke else "methods"
    folder = ROOT / "runs" / name / "results" if args.smoke else RESULTS / name
    store = Store(folder, ROOT / "runs" / name)
    chosen = {
        group: [c for c in cells if re.search(args.only, f"{group}/{c.key}")]
        for group, cells in table.items()
    }
    cells = in_order(unique(chosen))
    if args.list:
        show_list(cells, store)
        return 0
    failed: list[str] = []
    if not args.table:
        if args.smoke:
            prepare_smoke()
        left = [c for c in cells if store.result(c) is None]
        ready = [c for c in left if not TASKS[c.task].missing()]
        for task in dict.fromkeys(c.task for c in left if c not in ready):
            print(f"{task}: left out, {TASKS[task].missing()}")
        cost = costs(cells, store)
        hours = sum(cost[c.key] for c in ready) / 3600
        print(f"{len(ready)} cells to run, about {hours:.1f} core hours")
        failed = run(ready, store, max(1, args.processes), args.max_minutes * 60)
    show_table(table, store, folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
