"""Rounds of a blind evaluation: which are complete, who did what in them, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable

from resfit_core.blind.seal import Commitment, Opening
from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.run_log import EpisodeLine, newest

Place = tuple[int, str]  # round, label


def by_place(lines: Iterable[EpisodeLine]) -> dict[Place, EpisodeLine]:
    """Return the episode that counts for each round and label; aborted ones do not."""
    found = {}
    for line in newest(lines):
        if line.round and line.counts:
            found[line.round, line.label] = line
    return found


def complete(commitment: Commitment, lines: Iterable[EpisodeLine]) -> list[int]:
    """Return the rounds in which every label has a verdict, in order."""
    found = by_place(lines)
    rounds = range(1, len(commitment.scenes) + 1)
    return [n for n in rounds if all((n, label) in found for label in commitment.labels)]


def by_policy(opening: Opening, lines: Iterable[EpisodeLine]) -> list[list[EpisodeLine]]:
    """Return each policy's episodes in the complete rounds, in the order of the rounds."""
    lines = list(lines)
    commitment, found = opening.commitment, by_place(lines)
    episodes: list[list[EpisodeLine]] = [[] for _ in opening.policies]
    for number in complete(commitment, lines):
        for label in commitment.labels:
            episodes[opening.acts(number, label)].append(found[number, label])
    return episodes


class StopRule:
    """Says when enough rounds were run, and neither who is better nor who is who.

    Belongs to who holds the seal anyway: which verdict is whose must be known for it.
    """

    def __init__(self, opening: Opening, lines: Iterable[EpisodeLine] = ()) -> None:
        """Start from what an evaluation's log holds already."""
        self._opening, self._labels = opening, opening.commitment.labels
        self._success: dict[Place, bool] = {p: x.success for p, x in by_place(lines).items()}
        self._said = False

    @property
    def enough(self) -> int:
        """After how many complete rounds the evidence sufficed; 0: not yet."""
        from resfit_core.blind import statistics  # SciPy: only where it is needed

        verdicts: list[list[bool]] = [[] for _ in self._opening.policies]
        for number in range(1, len(self._opening.scenes) + 1):
            places = [(number, label) for label in self._labels]
            if all(place in self._success for place in places):
                for place in places:
                    verdicts[self._opening.acts(*place)].append(self._success[place])
        return statistics.enough(verdicts)

    def hear(self, state: EpisodeState) -> bool:
        """Take a state; return True once, when enough rounds were run."""
        if state.phase != Phase.ENDED or not state.round:
            return False
        place = (state.round, state.label)
        if state.ended_by == EndedBy.ABORTED:
            self._success.pop(place, None)
        else:
            self._success[place] = state.ended_by == EndedBy.SUCCESS
        # Between the episodes of a round nothing is said: it would tell about this very round.
        if state.label != self._labels[-1] or self._said:
            return False
        self._said = bool(self.enough)
        return self._said
