"""The episode manager: what a press does, when an episode starts, how it ends."""

from __future__ import annotations

import dataclasses
from typing import Any

from resfit_core.control.budget import LearnerNews, UpdateBudget
from resfit_core.control.episode_parts import (
    VERDICTS,
    Clocks,
    Ended,
    EpisodeSettings,
    Outlet,
    Pending,
    Record,
    ending,
    new_line,
    new_state,
    slot_of,
    word,
)  # fmt: skip
from resfit_core.control.episode_time import EpisodeTime, SceneTries
from resfit_core.control.plan import Slot
from resfit_core.control.press import HUMAN, ORACLE, EpisodeSteps, OperatorEvent, Press
from resfit_core.control.records import EndedBy, EpisodeState, Mode, Phase
from resfit_core.control.run_book import RunBook
from resfit_core.control.safety import Reason
from resfit_core.run_log import EpisodeLine

_CORRECTING = (Press.SUCCESS, Press.FAILURE, Press.UNDO)
_PREPARING = (Phase.RESETTING, Phase.READY)
ALL_DONE = "all episodes are done"
"""How the reason of IDLE begins while the run waits for its learner to save; and of FINISHED."""


class EpisodeManager:
    """IDLE, then for each episode RESETTING, READY, RUNNING, ENDED; FINISHED after the last one.

    Before FINISHED, IDLE again until the learner has saved what it learned.

    Feed it with `event`, `scene`, `executed`, `recorded`, `learner` as they come, and with `tick`
    some times a second. Not thread-safe.

    ENDED lasts until the recorder has closed the episode, so that the scene is not reset before
    the last observation is safe. The verdict on the last episode can be corrected until the next
    one has ended: ENDED of the old episode with a higher revision, then the present state again.
    """

    def __init__(
        self,
        book: RunBook,
        settings: EpisodeSettings,
        budget: UpdateBudget,
        outlet: Outlet,
        clocks: Clocks,
    ) -> None:
        """Take the plan; `start` begins it, or goes on where its log ends."""
        self._book, self._settings, self._budget = book, settings, budget
        self._outlet, self._clocks = outlet, clocks
        self._slot = Slot(Mode.TRAIN, True, 0)
        self._state = EpisodeState(Phase.IDLE, run_id=settings.run_id)
        self._line: EpisodeLine | None = None
        self._steps: EpisodeSteps | None = None
        self._ended: Ended | None = None
        self._pending: Pending | None = None
        self._confirmed = self._pausing = self._stopping = self._finishing = False
        self._time = EpisodeTime(clocks, settings)
        self._scene = SceneTries(settings, outlet, self._time)
        self._first_ns, self._silent, self._waits_for = 0, 0, ""

    @property
    def state(self) -> EpisodeState:
        """What was published last."""
        return self._state

    def start(self) -> None:
        """Begin; after a crash, abort the episode that was open and go on after it."""
        left = self._book.left_open
        if left is not None:
            self._slot, self._line = slot_of(left), left
            self._end(EndedBy.ABORTED, -1, "lost: the episode manager was started again")
        elif self._settings.auto_start:
            self._next("the run goes on" if self._book.number else "the run starts")
        else:
            self._change(Phase.IDLE, "waits for START")

    # --- what comes in -------------------------------------------------------------------------

    def event(self, event: OperatorEvent) -> None:
        """Take one press. What cannot be done is said and changes nothing.

        Raises:
            ValueError: `kind` is not one of `Press`.
        """
        kind = Press(event.kind)
        if event.source == ORACLE:
            self._time.see(event.stamp_ns)
        number = self._book.number
        meant = (0, number)
        if kind in _CORRECTING and self._ended is not None:
            meant = (*meant, self._ended.state.episode)
        if event.episode not in meant:
            self._ignore(event, f"it is meant for episode {event.episode}, not {number}")
        elif kind in VERDICTS:
            self._on_verdict(event, VERDICTS[kind])
        elif kind != Press.REARM:  # that one is for the driver
            getattr(self, f"_on_{kind.name.lower()}")(event)

    def scene(self, episode: int, success: bool, message: str, first_stamp_ns: int) -> None:
        """Take the answer to `reset_scene`; `first_stamp_ns` 0: the next observation will do.

        Raises:
            EpisodeError: It failed too often.
        """
        if self._state.phase != Phase.RESETTING or episode != self._book.number:
            return
        if success:
            self._scene_is_ready(first_stamp_ns, message or "scene reset")
        else:
            self._scene.failed(message)

    def executed(self, stamp_ns: int, reasons: int, *, driven: bool = False) -> None:
        """Take the driver's answer to one tick: its stamp [ns], reasons, and if a person drove."""
        self._time.see(stamp_ns)
        # The watchdog's hold answers no step of the policy.
        if self._state.phase != Phase.RUNNING or reasons & Reason.WATCHDOG:
            return
        self._steps.add(stamp_ns, driven=driven)
        if driven and self._slot.mode == Mode.EVALUATE:
            why = "a person took over: an evaluation is the policies' own"
            self._end(EndedBy.ABORTED, self._steps.count - 1, why, by_person=True)
        if self._settings.lockstep or self._state.phase != Phase.RUNNING:
            return
        if self._pending is not None:
            self._resolve(final=self._steps.knows(self._pending.press_ns))
        elif self._steps.count >= self._settings.horizon_steps:
            self._end(EndedBy.TIMEOUT, self._steps.count - 1, f"{self._steps.count} steps done")

    def recorded(self, record: Record) -> None:
        """Take the recorder's word that an episode is closed, or why it is not yet."""
        if record.has_bag:
            self._book.has_bag(record.episode, self._slot.mode)
        if self._state.phase != Phase.ENDED or record.episode != self._book.number:
            return
        if record.pending:
            self._silent = 0
            self._wait_for_record(f"recorder: {record.lost}")
            return
        if self._ended.take(record, self._time.now_ns()):
            self._outlet.publish(self._ended.state)
        self._close("previous episode closed", record.lost)

    def learner(self, news: LearnerNews) -> None:
        """Take the learner's word."""
        self._budget.hear(news, self._clocks.steady_ns())
        if self._state.phase == Phase.READY:
            self._try_to_run()
        elif self._finishing and self._state.phase == Phase.IDLE:
            self._next("the run goes on")

    def tick(self) -> None:
        """Look at everything that waits."""
        now, phase = self._clocks.steady_ns(), self._state.phase
        if phase == Phase.RUNNING and self._pending is not None:
            self._resolve(final=now >= self._pending.until_ns)
        elif phase == Phase.READY:
            self._try_to_run()
        elif phase == Phase.IDLE and self._finishing:
            self._next("the run goes on")  # a verdict undone meanwhile: its scene is run again
        elif phase == Phase.RESETTING:
            self._scene.look()
        elif phase == Phase.ENDED and self._time.passed_ns() > self._settings.close_timeout_ns:
            self._wait_for_record()

    # --- presses that steer --------------------------------------------------------------------

    def _on_start(self, event: OperatorEvent) -> None:
        self._pausing = False
        if self._state.phase in (Phase.IDLE, Phase.PAUSED):
            self._next(f"started by {event.source}")

    _on_resume = _on_start

    def _on_reset_done(self, event: OperatorEvent) -> None:
        if self._state.phase not in _PREPARING:
            self._ignore(event, "no scene is being reset")
            return
        self._confirmed = True
        if self._state.phase == Phase.READY:
            self._try_to_run()
        elif not self._settings.lockstep:
            # A robot's scene is reset by the person who says so.
            self._scene_is_ready(0, f"scene reset by {event.source}")

    def _on_pause(self, event: OperatorEvent) -> None:
        phase = self._state.phase
        self._pausing = phase in (Phase.RUNNING, Phase.ENDED)
        if phase in _PREPARING:
            # It never ran: its number is free again, its scene is reset anew afterwards.
            self._book.give_back(self._slot)
            self._change(Phase.PAUSED, f"paused by {event.source}")

    def _on_stop(self, event: OperatorEvent) -> None:
        phase = self._state.phase
        self._stopping = True
        if phase == Phase.RUNNING:
            self._abort(event, f"stopped by {event.source}")
        elif phase not in (Phase.ENDED, Phase.FINISHED):
            self._change(Phase.FINISHED, f"stopped by {event.source}")

    def _on_estop(self, event: OperatorEvent) -> None:
        self._on_pause(event)  # nothing may move by itself once the driver is armed again
        if self._state.phase == Phase.RUNNING:
            self._abort(event, event.reason or f"e-stop by {event.source}")

    def _on_abort(self, event: OperatorEvent) -> None:
        if self._state.phase == Phase.RUNNING:
            self._abort(event, event.reason or f"aborted by {event.source}")
        else:
            self._ignore(event, "no episode is running")

    def _abort(self, event: OperatorEvent, reason: str) -> None:
        step = self._steps.count - 1
        self._end(EndedBy.ABORTED, step, reason, by_person=event.source in HUMAN)

    def _on_verdict(self, event: OperatorEvent, ended_by: EndedBy) -> None:
        if ended_by == EndedBy.TIMEOUT and event.source != ORACLE:
            self._ignore(event, "only the twin calls the time")
        elif self._state.phase != Phase.RUNNING or self._means_last(event):
            self._correct(event, ended_by)
        elif self._pending is not None:
            self._ignore(event, f"{self._pending.ended_by.name} was first; UNDO takes it back")
        else:
            reason = event.reason or f"{ended_by.name.lower()} by {event.source}"
            until = self._clocks.steady_ns() + self._settings.grace_ns
            self._pending = Pending(ended_by, self._time.pressed_ns(event), reason, until)
            # The twin's press is exact and may overtake the driver's answers: no need to count.
            exact = event.source == ORACLE and self._settings.lockstep
            self._resolve(final=self._steps.knows(self._pending.press_ns), exact=exact)

    def _resolve(self, *, final: bool, exact: bool = False) -> None:
        if not final:
            return
        pending, self._pending = self._pending, None
        step = self._steps.credit(pending.press_ns)
        step = step if exact else min(step, self._steps.count - 1)
        if step >= 0:
            self._end(pending.ended_by, step, pending.reason)
        else:
            self._outlet.warn(
                f"{pending.ended_by.name} ignored: pressed before the first step of episode "
                f"{self._book.number} was done; ABORT ends it without a verdict"
            )

    def _correct(self, event: OperatorEvent, ended_by: EndedBy) -> None:
        """Take a verdict after the end: a late press, or the second word after UNDO."""
        if self._ended is None or event.source == ORACLE:
            self._ignore(event, "no episode is running")
            return
        step, why_not = self._ended.credit(self._time.pressed_ns(event))
        if why_not:
            self._ignore(event, why_not)
        else:
            reason = event.reason or f"corrected to {word(ended_by)} by {event.source}"
            self._revise(ended_by, step, reason)

    def _on_undo(self, event: OperatorEvent) -> None:
        ended = self._ended
        if self._pending is not None and not self._means_last(event):
            self._pending = None
        elif ended is None:
            self._ignore(event, "there is no verdict that could still be taken back")
        elif not ended.state.terminated:
            self._ignore(event, f"episode {ended.state.episode} has no verdict")
        else:
            ended.by_person, why = True, f"verdict undone by {event.source}"
            self._revise(EndedBy.ABORTED, ended.state.credited_step, why)

    def _means_last(self, event: OperatorEvent) -> bool:
        """Return whether a press names the episode that ended last, though another one is open."""
        last = self._ended.state.episode if self._ended is not None else 0
        return 0 < event.episode == last != self._book.number

    def _revise(self, ended_by: EndedBy, step: int, reason: str) -> None:
        ended, present = self._ended, self._state
        counted = ended.state.ended_by != EndedBy.ABORTED
        ended.revise(ended_by, step, reason, self._time.now_ns())
        self._outlet.publish(ended.state)
        if present.phase == Phase.ENDED:
            self._state = ended.state
            return
        self._book.refile(ended, counted=counted)
        self._outlet.publish(present)

    def _next(self, reason: str) -> None:
        self._finishing = False
        if self._stopping:
            self._change(Phase.FINISHED, "stopped by the operator")
        elif self._book.done:
            self._finish()
        elif self._pausing:
            self._pausing = False
            self._change(Phase.PAUSED, "paused by the operator")
        else:
            self._slot = self._book.take()
            self._confirmed = self._settings.auto_start
            self._change(Phase.RESETTING, reason)
            self._scene.ask(self._book.number, self._slot.seed)

    def _finish(self) -> None:
        now = self._clocks.steady_ns()
        waits_for = self._book.owed() or self._budget.unsaved(now, self._book.last_practice)
        self._finishing = bool(waits_for)
        if not waits_for:
            self._change(Phase.FINISHED, ALL_DONE)
        elif self._state.phase != Phase.IDLE or waits_for != self._waits_for:
            self._change(Phase.IDLE, f"{ALL_DONE}; waits for: {waits_for}")
        self._waits_for = waits_for

    def _scene_is_ready(self, first_ns: int, reason: str) -> None:
        self._first_ns, self._waits_for = first_ns, ""
        self._time.see(first_ns)
        self._time.restart()
        self._change(Phase.READY, reason)
        self._try_to_run()

    def _try_to_run(self) -> None:
        now, evaluates = self._clocks.steady_ns(), self._slot.mode == Mode.EVALUATE
        waits_for = "" if self._confirmed else "RESET_DONE"
        waits_for = waits_for or self._outlet.absent()
        waits_for = waits_for or self._budget.waits_for(
            now, self._slot.mode, last_closed=self._book.last_bag,
            last_practice=self._book.last_practice,
        )  # fmt: skip
        if not waits_for:
            wall_s, waited_ns = self._clocks.wall_s(), self._time.note_wait()
            self._line = new_line(self._book.number, self._slot, wall_s, waited_ns)
            waits_for = self._book.begin(self._line)
        if waits_for:
            if waits_for != self._waits_for:
                self._change(Phase.READY, f"waits for: {waits_for}")
            self._waits_for = waits_for
            return
        self._time.forget_wait()
        start = self._first_ns or self._clocks.graph_ns()
        self._steps = EpisodeSteps(start, self._settings.period_ns, even=self._settings.lockstep)
        version = self._budget.required_version(now, evaluates=evaluates)
        why = self._book.standing.on_trial or "running"
        self._change(Phase.RUNNING, why, start_ns=start, required_weights_version=version)

    def _end(self, ended_by: EndedBy, step: int, reason: str, *, by_person: bool = False) -> None:
        self._pending, self._silent = None, 0
        self._time.restart()
        end_ns = self._steps.end_of(step) if self._steps is not None else 0
        self._time.see(end_ns)
        driven = self._steps.driven_until(step) if self._steps is not None else 0
        line = dataclasses.replace(
            self._line, end_s=self._clocks.wall_s(), steps=step + 1, interventions=driven
        )
        self._change(Phase.ENDED, reason, **ending(ended_by, step, end_ns))
        self._ended = Ended(self._state, self._slot, line, self._steps, by_person)

    def _wait_for_record(self, why: str = "") -> None:
        """Say the end again, for a recorder that was started anew; a silent one has lost it."""
        if not why:
            absent = "recorder" in self._outlet.absent()
            self._silent = 0 if absent else self._silent + 1
            why = "recorder is not there" if absent else "recorder to close it"
        if self._silent >= self._settings.close_tries:
            self._close("previous episode lost", "recorder has not closed it in time")
            return
        self._time.note_wait()
        self._outlet.warn(f"episode {self._book.number} waits for: {why}")
        self._state = dataclasses.replace(self._state, reason=f"waits for: {why}")
        self._outlet.publish(self._state)

    def _close(self, reason: str, lost: str) -> None:
        ended = self._ended
        if lost and ended.state.ended_by != EndedBy.ABORTED:
            # What was not recorded whole cannot be learnt from: run it again.
            self._outlet.warn(f"episode {self._book.number} is lost: {lost}")
            self._revise(EndedBy.ABORTED, ended.state.credited_step, f"lost: {lost}")
            ended.steps = None  # no verdict can bring it back
        self._time.note_wait()
        aborted = ended.state.ended_by == EndedBy.ABORTED
        self._book.file(ended, lost=aborted and not (ended.by_person or self._stopping))
        self._next(reason)

    def _change(self, phase: Phase, reason: str, **fields: Any) -> None:
        self._state = new_state(
            phase, self._settings, self._slot, reason=reason, episode=self._book.number,
            episodes_planned=self._book.planned, stamp_ns=self._time.now_ns(), **fields,
        )  # fmt: skip
        self._outlet.publish(self._state)

    def _ignore(self, event: OperatorEvent, why: str) -> None:
        self._outlet.warn(f"{Press(event.kind).name} from {event.source} ignored: {why}")
