"""From a stream of steps and answers to one episode, cut where the verdict says.

Steps hold what was proposed, executed commands what was done; both meet by stamp. Numbers of steps
with a gap can be asked for again; what cannot be had is left out with the rest of the tail, and
said, never invented. Payloads are opaque here: the recorder keeps serialized messages. No ROS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.control.safety import Reason

_MOST_STEPS = 100_000
_Payload = TypeVar("_Payload")

STEP, EXECUTED = "step", "executed_command"
"""Topics of the messages of an assembled episode."""


class Move(Enum):
    """What the recorder does next."""

    WAIT = auto()
    ASK = auto()  # ask the residual for `missing()`, once
    CLOSE = auto()


@dataclass(frozen=True)
class Assembled(Generic[_Payload]):
    """What of an episode can be kept.

    Attributes:
        state: The ENDED state that closed it.
        steps: Complete steps kept, from 0 on.
        dropped: Steps left out: after the credited one, or incomplete.
        verdict_lost: The credited step is not among those kept, so the verdict credits nothing.
        reason: What was left out and why, in words; empty: nothing that should be there.
        messages: (topic, stamp [ns], payload) of the steps kept and of the last observation.
    """

    state: EpisodeState
    steps: int
    dropped: int
    verdict_lost: bool
    reason: str
    messages: tuple[tuple[str, int, _Payload], ...]

    @property
    def stamps_ns(self) -> list[int]:
        """Stamps of the observations kept, the last one included [ns]."""
        return [stamp for topic, stamp, _ in self.messages if topic == STEP]


@dataclass(frozen=True, slots=True)
class _Kept(Generic[_Payload]):
    stamp_ns: int
    is_last: bool
    payload: _Payload


class EpisodeAssembler(Generic[_Payload]):
    """Collects what belongs to the open episode. Not thread-safe.

    Feed it with `on_state`, `add_step` and `add_executed` in whatever order messages arrive, and
    do what `move` says: wait, ask the residual for `missing` steps (then `answered`), or `close`.
    """

    def __init__(self, patience_s: float = 0.5) -> None:
        """Start empty.

        Args:
            patience_s: Wait so long for messages under way, and again for the residual's answer.
        """
        self._patience_s = patience_s
        self._until_s: float | None = None  # end of the present wait, steady clock
        self._asked = False
        self._steps: dict[int, dict[int, _Kept[_Payload]]] = {}
        self._executed: dict[int, _Kept[_Payload]] = {}
        self._closed = 0  # newest episode that was closed
        self._seen: EpisodeState | None = None
        self._unseen = 0  # episode that ran already when the first state was heard
        self.ended: EpisodeState | None = None

    @property
    def abort_reason(self) -> str:
        """Why the running episode must be aborted, in words; empty: it need not."""
        state = self._seen
        if state is None or state.phase != Phase.RUNNING or state.episode != self._unseen:
            return ""
        steps = self._steps.get(state.episode, {})
        if not steps or 0 in steps:
            # Nothing was missed, as far as can be told yet.
            return ""
        return f"recorder came up while episode {state.episode} was running already"

    @property
    def episode(self) -> int:
        """Number of the open episode; 0: none."""
        return 0 if self._seen is None else self._seen.episode

    def on_state(self, state: EpisodeState) -> None:
        """Take a new episode state."""
        if self._seen is None and state.phase == Phase.RUNNING:
            self._unseen = state.episode
        self._seen = state
        if state.phase == Phase.ENDED and state.episode > self._closed:
            self.ended = state

    def add_step(
        self, stamp_ns: int, episode: int, step: int, is_last: bool, payload: _Payload
    ) -> None:
        """Take a step; one that came already, or of a closed episode, changes nothing."""
        if episode > self._closed:
            steps = self._steps.setdefault(episode, {})
            steps.setdefault(step, _Kept(stamp_ns, is_last, payload))

    def add_executed(self, stamp_ns: int, reasons: int, payload: _Payload) -> None:
        """Take the driver's answer; of several for one stamp the first counts."""
        if not reasons & Reason.WATCHDOG:
            self._executed.setdefault(stamp_ns, _Kept(stamp_ns, False, payload))

    @property
    def ready(self) -> bool:
        """Whether the ended episode is whole: every step up to the credited one, and the last."""
        if self.ended is None:
            return False
        return self.ended.credited_step >= 0 and self._complete() > self.ended.credited_step

    def move(self, now_s: float) -> Move:
        """Return what to do next; `now_s` on the steady clock."""
        if self.ended is None:
            return Move.WAIT
        if self.ready:
            return Move.CLOSE
        if self._until_s is None:
            self._until_s = now_s + self._patience_s
        if now_s < self._until_s:
            return Move.WAIT
        if not self._asked and self.missing():
            self._asked, self._until_s = True, now_s + self._patience_s
            return Move.ASK
        return Move.CLOSE

    def answered(self) -> None:
        """Note that the residual gave what it had: there is nothing more to wait for."""
        if self._asked:  # else the answer came too late, and the wait is another episode's
            self._until_s = 0.0

    def missing(self) -> list[int]:
        """Return the numbers of steps of the ended episode that the residual may still have."""
        if self.ended is None:
            return []
        steps = self._steps.get(self.ended.episode, {})
        until = self.ended.credited_step + 1
        if self.ended.credited_step < 0:
            # Aborted without a count: only gaps can be told.
            until = max(steps, default=-1)
        # A nonsensical number must not stop the node.
        until = min(until, _MOST_STEPS)
        return [number for number in range(until + 1) if number not in steps]

    def close(self) -> Assembled[_Payload]:
        """Cut the ended episode and forget everything up to its end.

        Raises:
            RuntimeError: No episode has ended.
        """
        state = self.ended
        if state is None:
            raise RuntimeError("close() needs an ended episode; look at `ended` first")
        steps = self._steps.get(state.episode, {})
        count, wanted = self._complete(), state.credited_step + 1
        if wanted > 0:
            count = min(count, wanted)
        reason = self._what_is_lost(steps, count, wanted)
        # Without a complete step there may be no observation either.
        seen_until = count + 1 if count else 0
        messages = [(STEP, steps[n].stamp_ns, steps[n].payload) for n in range(seen_until)]
        messages += [
            (EXECUTED, steps[n].stamp_ns, self._executed[steps[n].stamp_ns].payload)
            for n in range(count)
        ]
        seen = sum(not kept.is_last for kept in steps.values())
        self._forget(state.episode)
        return Assembled(
            state=state,
            steps=count,
            dropped=max(seen - count, wanted - count, 0),
            verdict_lost=state.ended_by in (EndedBy.SUCCESS, EndedBy.FAILURE) and count < wanted,
            reason=reason,
            messages=tuple(messages),
        )

    def _complete(self) -> int:
        """Number of steps from 0 on that have their answer and a next observation."""
        steps = self._steps.get(self.ended.episode, {})
        count = 0
        while True:
            now, after = steps.get(count), steps.get(count + 1)
            if now is None or after is None or now.is_last:
                return count
            if now.stamp_ns not in self._executed:
                return count
            count += 1

    def _what_is_lost(self, steps: dict[int, _Kept[_Payload]], count: int, wanted: int) -> str:
        if count >= wanted:
            return "" if count else "no complete step"
        kept = steps.get(count)
        if kept is None:
            what = f"step {count} never arrived"
        elif kept.is_last or kept.stamp_ns in self._executed:
            what = f"the observation after step {count} never arrived"
        else:
            what = f"the driver's answer to step {count} never arrived"
        return f"{what}; {wanted - count} of {wanted} steps are left out"

    def _forget(self, episode: int) -> None:
        self.ended, self._closed = None, episode
        self._until_s, self._asked = None, False
        for number in [n for n in self._steps if n <= episode]:
            newest = max((k.stamp_ns for k in self._steps[number].values()), default=0)
            for stamp in [s for s in self._executed if s <= newest]:
                del self._executed[stamp]
            del self._steps[number]
