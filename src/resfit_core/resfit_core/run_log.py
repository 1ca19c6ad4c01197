"""The lines a run writes while it goes (docs/architecture.md): read whole, typed, newest verdict.

Standard library only: the front end's live view reads them too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PRACTICE = ("warmup", "train")  # modes that the learner learns from
ABORTED = "aborted"


class RunLogError(ValueError):
    """A line of a run's log that cannot be understood."""


@dataclasses.dataclass(frozen=True)
class EpisodeLine:
    """One ended episode. Times are Unix wall time [s].

    Attributes:
        episode: number, from 1.
        mode: `warmup`, `train`, `evaluate` or `demo`.
        use_residual: false: the base acted alone.
        seed: of the scene.
        ended_by: `success`, `failure`, `timeout` or `aborted`.
        success: true for `success` only.
        steps: control steps that count.
        start_s: RUNNING began.
        end_s: ENDED began.
        wait_s: spent waiting for the learner's budget or the recorder before RUNNING [s].
        weights_version: residual weights that acted; 0: none.
        revision: of the verdict; the highest counts.
        round: of a blind evaluation, from 1; 0: it is none.
        label: of a blind evaluation; empty: it is none.
        interventions: control steps that a person drove.
    """

    episode: int
    mode: str
    use_residual: bool
    seed: int
    ended_by: str
    success: bool
    steps: int
    start_s: float
    end_s: float
    wait_s: float = 0.0
    weights_version: int = 0
    revision: int = 0
    round: int = 0
    label: str = ""
    interventions: int = 0

    @property
    def counts(self) -> bool:
        """Whether it was done: aborted episodes have no verdict and are run again."""
        return self.ended_by != ABORTED

    @property
    def rated(self) -> bool:
        """Whether it counts in success rates: it was done, and by the policies alone."""
        return self.counts and not self.interventions

    @property
    def practice(self) -> bool:
        """Whether the learner learns from it."""
        return self.mode in PRACTICE

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], where: str = "episode line") -> EpisodeLine:
        """Build from a parsed line; keys that later versions add are passed over.

        Raises:
            RunLogError: A key is missing.
        """
        fields = dataclasses.fields(cls)
        missing = [
            f.name for f in fields if f.default is dataclasses.MISSING and f.name not in data
        ]
        if missing:
            raise RunLogError(f"{where}: key '{missing[0]}' is missing; found {sorted(data)}")
        return cls(**{f.name: data[f.name] for f in fields if f.name in data})


class Tail:
    """Reads the lines added to a JSON-lines file since the last look; half a line waits."""

    def __init__(self, path: Path) -> None:
        """Follow `path`, which need not be there yet."""
        self._path = path
        self._offset = 0
        self._line = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the objects added since the last call, in order.

        Raises:
            RunLogError: A whole line is no JSON object; names file and line.
        """
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, mark, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(mark)
        objects = []
        for line in whole.splitlines():
            self._line += 1
            if not line.strip():
                continue
            try:
                loaded = json.loads(line)
            except json.JSONDecodeError as error:
                raise RunLogError(f"{self._path}, line {self._line}: no JSON ({error})") from error
            if not isinstance(loaded, dict):
                raise RunLogError(f"{self._path}, line {self._line}: an object is expected")
            objects.append(loaded)
        return objects


def append_line(path: Path, line: str) -> None:
    """Append one line; half a line that a crash or a full disk left before it is cut off.

    Raises:
        OSError: The disk refuses.
    """
    with open(path, "ab+") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode())


def newest(lines: Iterable[EpisodeLine]) -> list[EpisodeLine]:
    """Return one line per episode, its highest revision, in the order of the episodes."""
    best: dict[int, EpisodeLine] = {}
    for line in lines:
        if line.episode not in best or line.revision >= best[line.episode].revision:
            best[line.episode] = line
    return [best[number] for number in sorted(best)]


def read_episodes(path: Path) -> list[EpisodeLine]:
    """Read `episodes.jsonl`; an empty list where there is none.

    Raises:
        RunLogError: A line is damaged.
    """
    return newest(EpisodeLine.from_mapping(d, str(path)) for d in Tail(path).new())


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Read any JSON-lines file; an empty list where there is none.

    Raises:
        RunLogError: A line is damaged.
    """
    return Tail(path).new()
