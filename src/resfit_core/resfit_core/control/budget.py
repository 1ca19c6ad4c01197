"""When the next episode must wait for the learner (updates to data as a budget)."""

from __future__ import annotations

from dataclasses import dataclass

from resfit_core.control.episode_parts import EpisodeError
from resfit_core.control.records import Mode

STARTING, FAILED, SAVED = 0, 3, 4  # LearnerStatus.state


@dataclass(frozen=True, slots=True)
class LearnerNews:
    """What `LearnerStatus` says that matters here; names as in the message."""

    state: int
    updates_owed: int
    weights_version: int
    last_episode: int


class UpdateBudget:
    """Says what the next episode waits for.

    - *Usual*: while more than `max_owed` updates are owed by a learner that is alive. A dead one
      holds nobody up: the robot goes on with the last good weights.
    - *Settled* (always in a synchronous run): until the learner has taken in every closed episode
      and owes nothing, a dead one too: without it this would no longer be the same training.
    - *Saved* (before evaluation and before the end): until all that was learned from the practice
      episodes is published and in a checkpoint, so that what is evaluated is what is kept. A dead
      learner is waited for `return_ns`; then the run ends, and `run_dir:=` goes on with it.

    Training begins when the learner has loaded what it starts from; one that never
    comes up is waited for `start_ns` in all. Warm-up needs no learner.
    """

    def __init__(
        self,
        *,
        max_owed: int,
        wait: bool = True,
        synchronous: bool = False,
        alive_ns: int = 10_000_000_000,
        start_ns: int = 60_000_000_000,
        return_ns: int = 120_000_000_000,
    ) -> None:
        """Set the rules.

        Args:
            max_owed: Updates that may be owed when an episode starts.
            wait: False: never wait (unless synchronous).
            synchronous: The learner takes its turn between episodes.
            alive_ns: A learner silent for longer counts as dead [ns].
            start_ns: From the first question, so long a learner may take to come up [ns].
            return_ns: So long a silent learner may take to come back when the run cannot go on
                without it [ns].
        """
        self._return_ns, self._safe = return_ns, 0
        self._missed_ns: int | None = None
        self._max_owed, self._alive_ns, self._start_ns = max_owed, alive_ns, start_ns
        self._asked_ns: int | None = None
        self._came_up = False
        self._wait, self.synchronous = wait or synchronous, synchronous
        self._news: LearnerNews | None = None
        self._heard_ns = 0

    def hear(self, news: LearnerNews, now_ns: int) -> None:
        """Take the learner's word; `now_ns` on the steady clock."""
        self._news, self._heard_ns = news, now_ns
        self._came_up |= news.state != STARTING
        if news.state == SAVED:
            self._safe = max(self._safe, news.last_episode)

    def alive(self, now_ns: int) -> bool:
        """Return whether the learner spoke lately and has not failed."""
        news = self._news
        if news is None or news.state == FAILED:
            return False
        return now_ns - self._heard_ns <= self._alive_ns

    def waits_for(self, now_ns: int, mode: Mode, *, last_closed: int, last_practice: int) -> str:
        """Return what the next episode waits for, in words; empty: nothing.

        Args:
            now_ns: Steady clock [ns].
            mode: Of the next episode.
            last_closed: Newest episode that left a bag; 0: none.
            last_practice: Newest of them that can be learned from.

        Raises:
            EpisodeError: Evaluation: as `unsaved`.
        """
        if not self._wait:
            return ""
        if mode == Mode.EVALUATE and last_practice:
            return self.unsaved(now_ns, last_practice)
        if self._asked_ns is None:
            self._asked_ns = now_ns
        starts = not self._came_up and now_ns - self._asked_ns < self._start_ns
        if starts and mode != Mode.WARMUP and not self.synchronous:
            return "the learner starts"
        news = self._news
        if news is None or not self.alive(now_ns):
            return "the learner is silent, and the run is synchronous" if self.synchronous else ""
        if self.synchronous and news.state == STARTING:
            return "the learner starts"
        if self.synchronous and news.last_episode < last_closed:
            return f"the learner takes in episode {last_closed}"
        if news.updates_owed > (0 if self.synchronous else self._max_owed):
            return "the learner owes updates"
        return ""

    def unsaved(self, now_ns: int, last_practice: int) -> str:
        """Return what keeps the learner's work up to an episode from being safe; empty: nothing.

        Args:
            now_ns: Steady clock [ns].
            last_practice: Newest episode that left a bag and can be learned from; 0: none.

        Raises:
            EpisodeError: The learner was silent for too long.
        """
        if not self._wait or self._safe >= last_practice:
            self._missed_ns = None
            return ""
        news = self._news
        if self._missed_ns is None:
            self._missed_ns = now_ns
        if news is None or not self.alive(now_ns):
            limit_s, silent_ns = self._return_ns // 10**9, max(self._missed_ns, self._heard_ns)
            if now_ns - silent_ns >= self._return_ns:
                raise EpisodeError(
                    f"the learner has been silent for {limit_s} s and has not saved what it "
                    f"learned up to episode {last_practice}; the episodes are recorded: mend the "
                    "learner (logs/learner.log), then go on with run_dir:="
                )
            return f"the learner, which is silent, for at most {limit_s} s"
        if news.state == STARTING:
            return "the learner starts"
        if news.last_episode < last_practice:
            return f"the learner takes in episode {last_practice}"
        return "the learner owes updates" if news.updates_owed else "the learner saves"

    def required_version(self, now_ns: int, *, evaluates: bool) -> int:
        """Return the weights that the next episode must act with at least; 0: any."""
        if self._news is None or not (self.synchronous or (evaluates and self.alive(now_ns))):
            return 0
        return self._news.weights_version if self._wait else 0
