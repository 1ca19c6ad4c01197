"""Run the steps of set-up: a live line on a terminal, plain lines elsewhere, all in a log file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path


class StepFailed(Exception):
    """A command of a step did not exit with 0."""

    def __init__(self, output: str) -> None:
        super().__init__("command failed")
        self.output = output


class Steps:
    """Number the steps, show what the running one is doing, and time each."""

    def __init__(self, total: int, log: Path) -> None:
        """Start with a fresh log file at `log`."""
        self._total = total
        self._number = 0
        self._live = sys.stdout.isatty()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("w", encoding="utf-8")

    def run(self, title: str, command: Sequence[str], **options: object) -> str:
        """Run `command` as the next step.

        Args:
            title: What the step does, for a person.
            command: Program and arguments.
            options: Passed to subprocess.Popen (cwd, env).

        Returns:
            The command's output.

        Raises:
            StepFailed: The exit status was not 0.
        """
        self._number += 1
        return self.repeat(title, command, **options)

    def repeat(self, title: str, command: Sequence[str], **options: object) -> str:
        """Run another command under the number of the current step."""
        label = f"[{self._number}/{self._total}] {title}"
        start = time.monotonic()
        if not self._live:
            print(f"{label} ...", flush=True)
        self._log.write(f"\n$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        lines: deque[str] = deque(maxlen=400)
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(label, start, lines, stop), daemon=True)
        if self._live:
            ticker.start()
        try:
            for line in process.stdout or ():
                self._log.write(line)
                lines.append(line.rstrip())
            status = process.wait()
        finally:
            if process.poll() is None:  # interrupted
                process.kill()
                process.wait()
            stop.set()
            if self._live:
                ticker.join()
            self._log.flush()
        seconds = time.monotonic() - start
        verdict = "done" if status == 0 else "FAILED"
        print(
            f"\r\033[K{label}: {verdict}, {seconds:.0f} s"
            if self._live
            else f"    {verdict}, {seconds:.0f} s"
        )
        if status != 0:
            raise StepFailed("\n".join(lines))
        return "\n".join(lines)

    @staticmethod
    def _tick(label: str, start: float, lines: deque[str], stop: threading.Event) -> None:
        while not stop.wait(0.2):
            last = lines[-1].strip() if lines else ""
            text = f"{label}  {time.monotonic() - start:3.0f} s  {last}"
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K{text[:width]}")
            sys.stdout.flush()
