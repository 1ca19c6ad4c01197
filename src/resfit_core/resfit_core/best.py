"""Which of the published weights did best in evaluation; remembered over restarts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from resfit_core import tensorfile
from resfit_core.intervals import wilson

FILE = "best.json"


@dataclasses.dataclass(frozen=True)
class Score:
    """One evaluated episode with the residual.

    Attributes:
        episode: Its number; told twice it counts once.
        version: Weights that acted.
        success: Whether the task was done.
    """

    episode: int
    version: int
    success: bool


class BestKeeper:
    """Ranks by the lower end of the Wilson interval, so that few scenes do not beat many."""

    def __init__(self, folder: Path) -> None:
        """Go on with `best.json` in a folder of checkpoints, if there is one.

        Raises:
            ValueError: The file is damaged.
        """
        self._file = Path(folder) / FILE
        self._scores: dict[int, dict[int, bool]] = {}
        self.version, self._low = 0, -1.0
        if self._file.exists():
            try:
                data = json.loads(self._file.read_text())
                self.version, self._low = int(data["version"]), float(data["ci95"][0])
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise ValueError(
                    f"{self._file}: damaged ({error}); remove it, the next evaluation ranks anew"
                ) from error

    def add(self, score: Score) -> bool:
        """Count a score; return whether its weights are the best so far, or still are."""
        own = self._scores.setdefault(score.version, {})
        own[score.episode] = score.success
        low, _ = wilson(sum(own.values()), len(own))
        return score.version == self.version or low > self._low

    def keep(self, version: int, updates: int) -> None:
        """Note, on disk, that this version is the best."""
        own = self._scores[version]
        good, trials = sum(own.values()), len(own)
        ci95 = wilson(good, trials)
        self.version, self._low = version, ci95[0]
        told = {
            "version": version,
            "updates": updates,
            "success": good / trials,
            "scenes": trials,
            "ci95": ci95,
        }
        tensorfile.write_atomic(self._file, (json.dumps(told, indent=1) + "\n").encode())
