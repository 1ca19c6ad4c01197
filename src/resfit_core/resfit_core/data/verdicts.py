"""Verdicts corrected after an episode was closed: `verdicts.jsonl` beside `episodes/`.

Bags never change. A correction is one fsynced line here; whoever reads a bag applies the line of
the highest revision.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from resfit_core.control.records import EndedBy
from resfit_core.data.bag_types import BagError
from resfit_core.files import sync_folder

FILE = "verdicts.jsonl"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How an episode ended.

    Attributes:
        run_id: name of the run.
        episode: number, from 1.
        revision: 0 the first; a higher one replaces a lower.
        ended_by: number of `EpisodeState.ended_by`.
        credited_step: index of the last step that counts, from 0; -1: none.
        reason: why, in words.
    """

    run_id: str
    episode: int
    revision: int
    ended_by: int
    credited_step: int
    reason: str = ""

    def check(self) -> None:
        """Refuse values that no message could carry.

        Raises:
            TypeError: One is of another type.
            ValueError: One is out of its range.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not {"str": str, "int": int}[str(field.type)]:
                raise TypeError(f"{field.name} is {value!r:.100}")
        EndedBy(self.ended_by)
        numbers = (self.episode, self.revision, self.credited_step + 1)
        if not all(0 <= number < 2**32 for number in numbers):
            raise ValueError(f"a number of it is out of its range: {self}")

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.ended_by == EndedBy.SUCCESS

    @property
    def reward(self) -> float:
        """Reward on the credited step, 0 or 1."""
        return 1.0 if self.success else 0.0

    @property
    def terminated(self) -> bool:
        """Whether bootstrapping stops (DESIGN section 6)."""
        return self.ended_by in (EndedBy.SUCCESS, EndedBy.FAILURE)

    @property
    def truncated(self) -> bool:
        """Whether the episode was cut without a verdict."""
        return self.ended_by in (EndedBy.TIMEOUT, EndedBy.ABORTED)


def append_verdict(run_dir: Path, verdict: Verdict) -> None:
    """Add one correction; it is on disk when this returns."""
    path = Path(run_dir) / FILE
    new = not path.exists()
    # A crash may have left half a line: the new one must not be glued to it.
    torn = not new and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(dataclasses.asdict(verdict)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def read_verdicts(run_dir: Path) -> dict[tuple[str, int], Verdict]:
    """Return the newest correction of each (run_id, episode); empty where there is no file.

    A last line that is cut short was never acknowledged and is left out.

    Raises:
        BagError: A line cannot be read; names file and line.
    """
    path = Path(run_dir) / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    names = [f.name for f in dataclasses.fields(Verdict)]
    newest: dict[tuple[str, int], Verdict] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            verdict = Verdict(**{name: data[name] for name in names})
            verdict.check()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and _was_torn(lines, number):
                continue
            raise BagError(
                f"{path}, line {number}: not a verdict ({error}); mend or remove the line"
            ) from error
        key = (verdict.run_id, verdict.episode)
        if key not in newest or verdict.revision >= newest[key].revision:
            newest[key] = verdict
    return newest


def _was_torn(lines: list[bytes], number: int) -> bool:
    """Whether a crash may have cut line `number`: it is the last, or one written after it."""
    return not lines[number - 1].rstrip().endswith(b"}") or number == len(lines)
