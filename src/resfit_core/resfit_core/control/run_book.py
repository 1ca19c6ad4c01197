"""What of a run is done and what is left: the plan's queue, the log, the episodes lost."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.episode_parts import (
    Ended,
    EpisodeError,
    finished_line,
    slot_of,
)
from resfit_core.control.guard import Guard, Standing, Verdict
from resfit_core.control.plan import Slot, remaining
from resfit_core.control.records import EndedBy, Mode
from resfit_core.run_log import EpisodeLine


class RunBook:
    """Keeps plan and log together, so that a slot is done if and only if the log says so.

    Attributes:
        planned: Slots of the whole run.
        number: Newest episode number given out.
        last_bag: Newest episode that left a bag; 0: none.
        last_practice: Newest of them that can be learned from.
        left_open: Episode that a crash left open; None: there is none.
        standing: What the guard said before the training episode taken last; empty otherwise.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        log: EpisodeLog,
        aborts_allowed: int,
        guard: Guard | None = None,
    ) -> None:
        """Take off the plan what the log holds already."""
        self._log, self._aborts_allowed, self._guard = log, aborts_allowed, guard or Guard()
        self._aborted_in_a_row = 0
        self._owed: deque[EpisodeLine] = deque()  # lines that the disk refused
        self._verdicts: dict[int, Verdict] = {}
        self.standing = Standing()
        for line in log.lines:
            self._note(line)
        self._queue = deque(
            remaining(slots, [_planned(slot_of(x)) for x in log.lines if x.counts])
        )
        self.planned = len(slots)
        self.number = max((x.episode for x in log.lines), default=0)
        bags = [x for x in log.lines if x.steps]
        self.last_bag = max((x.episode for x in bags), default=0)
        self.last_practice = max((x.episode for x in bags if x.practice), default=0)
        self.left_open = log.open_episode
        if self.left_open is not None:
            self.number = max(self.number, self.left_open.episode)
            self._take_out(slot_of(self.left_open))

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self._queue

    def take(self) -> Slot:
        """Return the next slot under a new number; the guard may take the residual out of it."""
        self.number += 1
        slot = self._queue.popleft()
        self.standing = Standing()
        if slot.mode != Mode.TRAIN:
            return slot
        self.standing = self._guard.judge(v for _, v in sorted(self._verdicts.items()))
        return dataclasses.replace(slot, use_residual=not self.standing.stepped_back)

    def give_back(self, slot: Slot) -> None:
        """Take back a slot whose episode never ran: its number is free again."""
        self.number -= 1
        self._queue.appendleft(_planned(slot))

    def has_bag(self, episode: int, mode: Mode) -> None:
        """Note that an episode left a bag."""
        self.last_bag = max(self.last_bag, episode)
        if mode in (Mode.WARMUP, Mode.TRAIN):
            self.last_practice = max(self.last_practice, episode)

    def begin(self, line: EpisodeLine) -> str:
        """Note that the episode runs: from now on its number is taken.

        Returns:
            What that waits for, the episode may not run yet; empty: it may.
        """
        owed = self.owed()
        if owed:
            return owed
        try:
            self._log.begin(line)
        except OSError as error:
            return _refused(error)
        return ""

    def owed(self) -> str:
        """Write what the disk refused before; return why it still does, empty: nothing is owed.

        Until then a crash finds the episode as one that was open.
        """
        try:
            while self._owed:
                self._log.append(self._owed[0])
                self._owed.popleft()
        except OSError as error:
            return _refused(error)
        return ""

    def file(self, ended: Ended, *, lost: bool) -> None:
        """Write a closed episode down; an aborted one will be run again.

        Args:
            ended: The episode.
            lost: It was aborted, and not because a person wished so.

        Raises:
            EpisodeError: Too many were lost in a row.
        """
        self._append(ended)
        if ended.state.ended_by == EndedBy.ABORTED:
            self._queue.appendleft(_planned(ended.slot))
        self._aborted_in_a_row = self._aborted_in_a_row + 1 if lost else 0
        if self._aborted_in_a_row >= self._aborts_allowed:
            raise EpisodeError(
                f"{self._aborted_in_a_row} episodes in a row were aborted, the last one: "
                f"{ended.state.reason}; mend that, then go on with run_dir:="
            )

    def refile(self, ended: Ended, *, counted: bool) -> None:
        """Write a corrected verdict down.

        Args:
            ended: The episode as it counts now.
            counted: It counted before.
        """
        self._append(ended)
        counts = ended.state.ended_by != EndedBy.ABORTED
        if counted and not counts:
            self._queue.appendleft(_planned(ended.slot))
        elif counts and not counted:
            self._take_out(ended.slot)

    def _append(self, ended: Ended) -> None:
        line = finished_line(ended)
        self._owed.append(line)
        self.owed()
        self._note(line)

    def _note(self, line: EpisodeLine) -> None:
        """Keep the newest verdict on a practice episode for the guard."""
        if line.practice and line.rated:
            trained = line.mode == Mode.TRAIN.name.lower()
            acted = trained and line.use_residual and line.weights_version > 0
            self._verdicts[line.episode] = Verdict(acted, line.success)
        else:
            self._verdicts.pop(line.episode, None)

    def _take_out(self, slot: Slot) -> None:
        if _planned(slot) in self._queue:
            self._queue.remove(_planned(slot))


def _refused(error: OSError) -> str:
    """Return in words that the disk does not take the run's log."""
    return f"room for the log of the run ({error.strerror or error})"


def _planned(slot: Slot) -> Slot:
    """Return the slot as the plan has it, before the guard looked at it."""
    return dataclasses.replace(slot, use_residual=slot.use_residual or slot.mode == Mode.TRAIN)
