"""What the episode manager is made of: settings, clocks, outlet, and the table of endings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from resfit_core.control.plan import Slot
from resfit_core.control.press import EpisodeSteps, Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_core.run_log import EpisodeLine

VERDICTS = {
    Press.SUCCESS: EndedBy.SUCCESS,
    Press.FAILURE: EndedBy.FAILURE,
    Press.TIMEOUT: EndedBy.TIMEOUT,
}
"""Presses that end an episode with a verdict, and what they end it by."""


class EpisodeError(RuntimeError):
    """The run cannot go on; the text says why and what to do."""


class Outlet(Protocol):
    """Where the manager's decisions go."""

    def publish(self, state: EpisodeState) -> None:
        """Tell everybody the new state."""

    def reset_scene(self, episode: int, seed: int) -> None:
        """Ask for the scene; the answer comes back through `EpisodeManager.scene`."""

    def absent(self) -> str:
        """Return the nodes that an episode needs and that are not there, in words; empty: none."""

    def warn(self, text: str) -> None:
        """Say something that a person should read."""


@dataclasses.dataclass(frozen=True)
class Clocks:
    """Time, injected: steady [ns] for waiting, wall [s] for the log, graph [ns] for stamps."""

    steady_ns: Callable[[], int]
    wall_s: Callable[[], float]
    graph_ns: Callable[[], int]


@dataclasses.dataclass(frozen=True)
class EpisodeSettings:
    """How episodes run.

    Attributes:
        run_id: Name of the run.
        seal: Blind evaluation: its commitment; empty: it is none.
        lockstep: The twin waits for every answer and presses TIMEOUT itself. Otherwise real time:
            executed steps are counted here.
        period_ns: Control period [ns].
        horizon_steps: Executed steps until an episode times out (real time).
        reaction_ns: Taken off a person's press [ns].
        auto_start: Start the run and each episode without a person's word.
        close_timeout_ns: Say an episode's end again when the recorder has not closed it after so
            long [ns].
        close_tries: A recorder that is there and says nothing for so many times has lost it.
        reset_timeout_ns: Ask for the scene again after so long [ns].
        grace_ns: Real time: a step may be heard of so long after a press it was before [ns].
        failures_allowed: So many episodes aborted in a row (not by a person), or resets of one
            scene that failed, end the run.
    """

    run_id: str
    lockstep: bool
    period_ns: int
    horizon_steps: int
    reaction_ns: int = 0
    auto_start: bool = True
    close_timeout_ns: int = 10_000_000_000
    close_tries: int = 6
    reset_timeout_ns: int = 10_000_000_000
    grace_ns: int = 100_000_000
    failures_allowed: int = 5
    seal: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """The recorder's word on an episode.

    Attributes:
        episode: Its number.
        steps: Complete steps kept.
        weights_version: Residual weights that acted; 0: none.
        has_bag: It left a bag.
        lost: What its record lacks, in words; empty: it is complete.
        ended_by: How it ended, as the bag has it.
        revision: Of that verdict.
        pending: It is not closed yet, the disk refuses; `lost` says why.
    """

    episode: int
    steps: int
    weights_version: int
    has_bag: bool
    lost: str = ""
    ended_by: int = EndedBy.NONE
    revision: int = 0
    pending: bool = False

    @property
    def verdict(self) -> bool:
        """Whether a whole episode with an ending that counts is on disk."""
        ends = (EndedBy.SUCCESS, EndedBy.FAILURE, EndedBy.TIMEOUT)
        return self.has_bag and not self.lost and self.ended_by in ends


@dataclasses.dataclass
class Ended:
    """The last episode that ran, as its newest verdict has it."""

    state: EpisodeState
    slot: Slot
    line: EpisodeLine
    steps: EpisodeSteps | None  # None: the episode is lost
    by_person: bool

    def credit(self, press_ns: int) -> tuple[int, str]:
        """Return the step that a verdict given only now credits, or -1 and why there is none.

        A time-out gives way to a press from within its episode: the hand was slower than the
        clock. After UNDO the step stays that of the word taken back.
        """
        state = self.state
        if self.steps is None:
            return -1, f"episode {state.episode} is lost"
        if state.ended_by == EndedBy.TIMEOUT:
            step = self.steps.credit(press_ns)
            if press_ns > state.end_ns or step < 0:
                return -1, f"episode {state.episode} was over before the press"
            return step, ""
        if state.ended_by == EndedBy.ABORTED and state.revision and state.credited_step >= 0:
            return state.credited_step, ""
        return -1, f"episode {state.episode} ended by {word(state.ended_by)} already"

    def revise(self, ended_by: EndedBy, step: int, reason: str, now_ns: int) -> None:
        """Put another ending in place of the present one, under the next revision."""
        self.state = dataclasses.replace(
            self.state,
            revision=self.state.revision + 1,
            stamp_ns=now_ns,
            reason=reason,
            **ending(ended_by, step, self.steps.end_of(step) if self.steps else 0),
        )
        self.line = dataclasses.replace(self.line, steps=step + 1)

    def take(self, record: Record, now_ns: int) -> bool:
        """Note what was recorded; return whether the ending is another one by that.

        So it is after a restart of the manager: an episode that was closed before stands as the
        bag has it.
        """
        other = self.steps is None and record.verdict
        if other:
            self.revise(record.ended_by, record.steps - 1, "closed before the restart", now_ns)
            self.state = dataclasses.replace(self.state, revision=record.revision)
        aborted = self.state.ended_by == EndedBy.ABORTED
        steps = record.steps if aborted else self.line.steps
        self.line = dataclasses.replace(
            self.line, steps=steps, weights_version=record.weights_version
        )
        return other


@dataclasses.dataclass(frozen=True)
class Pending:
    """A verdict that waits for steps still in flight (real time)."""

    ended_by: EndedBy
    press_ns: int
    reason: str
    until_ns: int


def ending(ended_by: EndedBy, step: int, end_ns: int) -> dict[str, Any]:
    """Return the table of endings (DESIGN section 6) as fields of an EpisodeState."""
    terminated = ended_by in (EndedBy.SUCCESS, EndedBy.FAILURE)
    return {
        "ended_by": ended_by,
        "credited_step": step,
        "end_ns": end_ns,
        "reward": float(ended_by == EndedBy.SUCCESS),
        "terminated": terminated,
        "truncated": not terminated,
    }


def finished_line(ended: Ended) -> EpisodeLine:
    """Return the log line of an ended episode under its newest verdict."""
    state = ended.state
    return dataclasses.replace(
        ended.line,
        ended_by=word(state.ended_by),
        success=state.ended_by == EndedBy.SUCCESS,
        revision=state.revision,
    )


def new_line(episode: int, slot: Slot, wall_s: float, waited_ns: int) -> EpisodeLine:
    """Return the log line of an episode that begins now; until it ends it counts as aborted."""
    return EpisodeLine(
        episode=episode,
        mode=Mode(slot.mode).name.lower(),
        use_residual=slot.use_residual,
        seed=slot.seed,
        round=slot.round,
        label=slot.label,
        ended_by=word(EndedBy.ABORTED),
        success=False,
        steps=0,
        start_s=wall_s,
        end_s=wall_s,
        wait_s=round(waited_ns / 1e9, 6),
    )


def word(ended_by: int) -> str:
    """Return an `EndedBy` as the log writes it."""
    return EndedBy(ended_by).name.lower()


def slot_of(line: EpisodeLine) -> Slot:
    """Return the slot that an episode of the log filled."""
    return Slot(Mode[line.mode.upper()], line.use_residual, line.seed, line.round, line.label)


def new_state(phase: Phase, settings: EpisodeSettings, slot: Slot, **fields: Any) -> EpisodeState:
    """Return a state of the run that says whose turn it is."""
    of_slot = {f.name: getattr(slot, f.name) for f in dataclasses.fields(slot)}
    return EpisodeState(phase, run_id=settings.run_id, seal=settings.seal, **of_slot, **fields)
