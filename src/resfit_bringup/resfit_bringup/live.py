"""What a person sees while a run goes: nodes' lines, and one live line below them."""

from __future__ import annotations

import itertools
import re
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from resfit_bringup.progress import Progress, in_words

PLAIN_EVERY_S = 10.0
LIVE_EVERY_S = 0.5
# rclpy writes "[INFO] [1700000000.123456789] [node]: text"; name and time are said already.
ROS_LINE = re.compile(r"^\[(DEBUG|INFO|WARN|ERROR|FATAL)\] \[\d+\.\d+\] \[[^\]]*\]: ")
STYLE = {"DEBUG": "dim", "INFO": "", "WARN": "yellow", "ERROR": "red", "FATAL": "bold red"}
COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_green", "white")


class View:
    """Prints nodes' lines with a prefix and keeps one status line current.

    On a terminal the status line stays at the bottom; elsewhere (a file, a pipe) it is one plain
    line every ten seconds.
    """

    def __init__(
        self, names: list[str], progress: Progress, console: Console | None = None
    ) -> None:
        """Show nodes called `names` and the run behind `progress`."""
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._progress = progress
        self._width = max([len(n) for n in names] + [len("run")])
        self._colour = dict(zip(names, itertools.cycle(COLOURS), strict=False))
        self._troubles: dict[str, int] = {}
        self._next = 0.0
        self._live: Live | None = None

    def start(self) -> None:
        """Open the live line where there is a terminal."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def stop(self) -> None:
        """Leave the terminal clean, with the last status line printed."""
        if self._live:
            self._live.stop()
        self._console.print(self._status(), markup=False)

    def line(self, name: str, text: str) -> None:
        """Print one line of a node's output."""
        found = ROS_LINE.match(text)
        style = STYLE[found[1]] if found else ""
        if found:
            text = text[found.end() :]
            if found[1] in ("WARN", "ERROR", "FATAL"):
                text = f"{found[1]}: {text}"
        self._print(name, Text(text, style=style))

    def event(self, name: str, text: str) -> None:
        """Print what was done to a node; a restart stays visible in the status line."""
        if name != "run":
            self._troubles[name] = self._troubles.get(name, 0) + 1
        self._print(name, Text(text, style="bold" if name == "run" else "bold yellow"))

    def tick(self) -> None:
        """Bring the status line up to date when it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._live:
            self._next = now + LIVE_EVERY_S
            self._live.update(self._status(), refresh=True)
        else:
            if self._next:
                self._console.print(self._status(), markup=False)
            self._next = now + PLAIN_EVERY_S

    def _print(self, name: str, text: Text) -> None:
        prefix = Text(f"{name:<{self._width}} | ", style=self._colour.get(name, "bold"))
        self._console.print(prefix + text)

    def _status(self) -> Text:
        status = Text(in_words(self._progress.look()), style="bold")
        for name, count in self._troubles.items():
            status.append(f" · {name} restarted {count}x", style="bold yellow")
        return status
