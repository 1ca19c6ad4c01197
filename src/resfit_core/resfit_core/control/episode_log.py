"""`episodes.jsonl`: one fsynced line per ended episode, and the mark of the open one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path

from resfit_core.files import sync_folder
from resfit_core.run_log import EpisodeLine, read_episodes

LOG = "episodes.jsonl"
OPEN = "episode_open.json"


class EpisodeLog:
    """Appends to the log of a run directory and restores a run from it.

    A line is on disk before `append` returns. While an episode runs, `episode_open.json` holds
    what is known of it, so that whoever starts after a crash knows which number is taken.
    """

    def __init__(self, run_dir: str | Path) -> None:
        """Open or create the log in `run_dir`; half a line left by a crash is cut off.

        Raises:
            OSError: The folder cannot be written.
            RunLogError: A line is damaged; names file and line.
        """
        self._dir = Path(run_dir)
        self._dir.mkdir(parents=True, exist_ok=True)
        self._path = self._dir / LOG
        self._mark = self._dir / OPEN
        _cut_half_line(self._path)
        self.lines: list[EpisodeLine] = read_episodes(self._path)
        self.open_episode = self._read_mark()

    def begin(self, line: EpisodeLine) -> None:
        """Mark the episode as open: its number is taken from now on, whatever happens.

        Raises:
            OSError: The disk refuses; nothing has changed.
        """
        part = self._mark.with_suffix(".part")
        _write_synced(part, json.dumps(dataclasses.asdict(line)) + "\n", "w")
        part.replace(self._mark)
        sync_folder(self._dir)

    def append(self, line: EpisodeLine) -> None:
        """Write the line of an ended episode; the mark goes afterwards.

        Raises:
            OSError: The disk refuses; nothing has changed, it may be tried again.
        """
        known = self._path.exists()
        try:
            _write_synced(self._path, json.dumps(dataclasses.asdict(line)) + "\n", "a")
        except OSError:
            _cut_half_line(self._path)  # or the next line would be glued to it
            raise
        if not known:
            sync_folder(self._dir)
        with contextlib.suppress(FileNotFoundError):
            self._mark.unlink()

    def _read_mark(self) -> EpisodeLine | None:
        """Return the episode that a crash left open; None: there is none."""
        try:
            data = json.loads(self._mark.read_text())
        except FileNotFoundError:
            return None
        mark = EpisodeLine.from_mapping(data, str(self._mark))
        # Killed between the log line and the removal of the mark: the line counts.
        return None if any(x.episode == mark.episode for x in self.lines) else mark


def _cut_half_line(path: Path) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
            os.fsync(file.fileno())


def _write_synced(path: Path, text: str, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
