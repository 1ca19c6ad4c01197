"""What a training leaves while it goes: `progress.jsonl`, TensorBoard, a line on stderr."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.run_log import read_objects
from resfit_core.train.events import EventWriter
from resfit_core.train.job import Record

PROGRESS_FILE = "progress.jsonl"
WINDOW = 20  # episodes of the running success rate
_NO_CURVES = {
    "kind",
    "episode",
    "mode",
    "seed",
    "env_steps",
    "weights_version",
    "time_s",
    "wall_s",
}


class Recorder:
    """Takes records of the kinds `episode`, `eval` and `final` (`docs/library.md`)."""

    def __init__(self, out: Path, show: Callable[[Record, list[Record]], None]) -> None:
        """Take up what an earlier start left; `keep` decides how much of it counts.

        Args:
            out: output folder, which is there.
            show: called with each new record and all of them.
        """
        self._path, self._events_at, self._show = out / PROGRESS_FILE, out / "tensorboard", show
        self.records: list[Record] = read_objects(self._path)
        self._events: EventWriter | None = None

    def keep(self, episode: int) -> None:
        """Forget what came after this episode; -1: everything. Final figures are always redone."""
        kept = [r for r in self.records if r["kind"] != "final" and r["episode"] <= episode]
        self.records[:] = kept
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        tensorfile.write_atomic(self._path, lines.encode())
        self.close()
        shutil.rmtree(self._events_at, ignore_errors=True)
        self._events = EventWriter(self._events_at)
        for number, record in enumerate(kept, 1):
            self._plot(record, self.records[:number])

    def __call__(self, record: Record) -> None:
        """Take a new record; `time_s`, Unix time, is added."""
        record = {**record, "time_s": round(time.time(), 3)}
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._plot(record, self.records)
        self._show(record, self.records)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._events is not None:
            self._events.close()

    def _plot(self, record: Record, before: list[Record]) -> None:
        if self._events is None:
            self._events = EventWriter(self._events_at)
        wall = record.get("time_s", 0.0)
        if record["kind"] == "eval" and record["success"] is not None:
            for key in ("success", "alone"):
                if key in record:
                    self._events.add(f"eval/{key}", record[key], record["env_step"], wall)
        elif record["kind"] == "episode":
            step = record["env_steps"]
            for name, value in record.items():
                if name not in _NO_CURVES and isinstance(value, int | float):
                    self._events.add(f"train/{name}", float(value), step, wall)
            self._events.add(f"train/success_of_{WINDOW}", recent_success(before), step, wall)
        self._events.flush()


def recent_success(records: list[Record], window: int = WINDOW) -> float:
    """Return the success over the last episodes of training."""
    seen: list[Any] = []
    for record in reversed(records):
        if record["kind"] == "episode":
            seen.append(record["success"])
            if len(seen) == window:
                break
    return sum(seen) / len(seen) if seen else 0.0
