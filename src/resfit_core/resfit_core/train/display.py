"""Progress on stderr: a live bar where rich and a terminal are there, else lines."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from resfit_core.train.job import Record
from resfit_core.train.recorder import WINDOW, recent_success

LINE_EVERY_S = 10.0


class Display(Protocol):
    """Shows records as they come."""

    def show(self, record: Record, records: list[Record]) -> None:
        """Show a new record; `records` are all so far."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Lines:
    """Plain lines: every evaluation, and an episode every ten seconds."""

    def __init__(self, steps: int) -> None:
        """Take the number of training steps."""
        self._steps, self._told_s = steps, float("-inf")

    def show(self, record: Record, records: list[Record]) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if record["kind"] == "episode" and now - self._told_s < LINE_EVERY_S:
            return
        if record["kind"] == "episode":
            self._told_s = now
        print(words(record, records, self._steps), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing."""


class Live:
    """A bar with the newest numbers; evaluations stay above it."""

    def __init__(self, steps: int) -> None:
        """Start the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._steps = steps
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("starting", total=steps)
        self._bar.start()

    def show(self, record: Record, records: list[Record]) -> None:
        """Move the bar, or print the evaluation above it."""
        text = words(record, records, self._steps)
        if record["kind"] == "episode":
            self._bar.update(self._task, completed=record["env_steps"], description=text)
        else:
            self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Stop the bar."""
        self._bar.stop()


def make_display(steps: int) -> Display:
    """Return the live bar if it can be had."""
    if sys.stderr.isatty():
        try:
            return Live(steps)
        except ImportError:  # rich is an extra
            pass
    return Lines(steps)


def words(record: Record, records: list[Record], steps: int) -> str:
    """Return a record in words."""
    if record["kind"] == "eval":
        said = f"step {record['env_step']}: evaluation {_share(record['success'], record['n'])}"
        if "alone" in record:
            said += f", the base's; the residual alone {record['alone']:.1%}: {record['on_trial']}"
        return said
    if record["kind"] == "final":
        verdicts = record["verdicts"]
        share = sum(verdicts) / len(verdicts) if verdicts else None
        return f"final {record['policy']}: {_share(share, len(verdicts))}"
    learn_s, done = record.get("learn_s", 0.0), record.get("updates", 0)
    window = min(WINDOW, record["episode"])
    rate = f", {done / learn_s:.0f} updates/s" if learn_s and done else ""
    return (
        f"step {record['env_steps']}/{steps}, episode {record['episode']}, success "
        f"{recent_success(records):.0%} of the last {window}, "
        f"{record['total_updates']} updates{rate}"
    )


def _share(success: Any, n: int) -> str:
    return f"{success:.1%} of {n} scenes" if n else "without scenes"
