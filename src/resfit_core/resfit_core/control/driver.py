"""What the driver decides: which command is carried out, which is refused, when it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resfit_core.contract import ActionSpace, Contract
from resfit_core.control.records import ExecutedCommand, Source
from resfit_core.control.safety import LIMITED, Reason, SafetyError, SafetyFilter

_KEPT = 64  # answers remembered for ticks that come again
_NONE_RAD = np.zeros(0)
_NONE_NORM = np.zeros(0, np.float32)


class Answer(NamedTuple):
    """What to say of a tick, and whether its joint targets go to the robot."""

    executed: ExecutedCommand
    send: bool


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """Numbers of `DriverState`; see the message. `command_age_s` -1: no command yet."""

    holding: bool
    reasons: int
    commands: int
    altered: int
    refused: int
    holds: int
    command_age_s: float


class _Command(NamedTuple):
    stamp_ns: int
    names: Sequence[str]
    target: np.ndarray
    source: int


class DriverCore:
    """Answers every command once; the same stamp again gets the same answer. Not thread-safe.

    - *Exact* (lock-step): a command is judged against the joint state of its own stamp, and waits
      for it where the command came first. The robot stands still meanwhile, so neither age nor
      silence counts.
    - *Real time*: it is judged against the newest joint state. A command older than the contract's
      `command_timeout_s`, or a joint state older than `max_observation_age_s`, is refused. Silence
      longer than `command_timeout_s` holds the robot. Ages are measured on the steady clock.

    What is refused leaves the last target in force and is answered with it. After a gap of stamps
    longer than `command_timeout_s` (a pause, a new episode) the filter starts anew from the
    measured position, as the Gymnasium environment does at its reset.
    """

    def __init__(self, contract: Contract, space: ActionSpace, *, exact: bool) -> None:
        """Start without a target: nothing is sent before a joint state is known.

        Args:
            contract: Joint order, limits, timeouts.
            space: Normalised action space that the answers are told in.
            exact: Lock-step.
        """
        self._names = contract.joint_names
        self._space, self._exact = space, exact
        self._timeout_ns = round(contract.command_timeout_s * 1e9)
        self._state_age_ns = round(contract.max_observation_age_s * 1e9)
        self._filter = SafetyFilter(contract)
        self._before: np.ndarray | None = None
        self._states: dict[int, np.ndarray] = {}  # newest last
        self._state_ns = self._heard_ns = 0  # newest state: its stamp, steady clock
        self._waiting: _Command | None = None
        self._answers: dict[int, Answer] = {}
        self._last_ns: int | None = None
        self._anew = True  # the filter must start from a measured position first
        self._accepted_ns: int | None = None
        self._reasons = 0
        self._commands = self._altered = self._refused = self._holds = 0

    @property
    def target_rad(self) -> np.ndarray | None:
        """Joint targets in force [rad]; None before the first. Shape: (action_dim,)."""
        return self._filter.last

    @property
    def holding(self) -> bool:
        """Whether the last target is held, since a command was refused or none came."""
        return self._accepted_ns is not None and self._reasons != 0

    def measured(self, stamp_ns: int, position_rad: np.ndarray, now_ns: int) -> Answer | None:
        """Take a joint state; return the answer to a command that waited for it, if any.

        Args:
            stamp_ns: Time of measurement [ns].
            position_rad: Contract order [rad]. Shape: (action_dim,).
            now_ns: Steady clock [ns].
        """
        keep = 8 if self._exact else 1
        self._states.pop(stamp_ns, None)
        self._states[stamp_ns] = position_rad
        while len(self._states) > keep:
            del self._states[next(iter(self._states))]
        self._state_ns, self._heard_ns = stamp_ns, now_ns
        waiting = self._waiting
        if waiting is None or waiting.stamp_ns != stamp_ns:
            return None
        self._waiting = None
        return self._judge(waiting, now_ns)

    def command(
        self,
        stamp_ns: int,
        names: Sequence[str],
        target_rad: np.ndarray,
        now_ns: int,
        source: int = Source.POLICY,
    ) -> Answer | None:
        """Take a command; return the answer, or None while its joint state is under way.

        Args:
            stamp_ns: Stamp of the observation it answers [ns].
            names: Joint names in the order of `target_rad`.
            target_rad: Joint targets [rad]; any length and content is answered.
            now_ns: Steady clock [ns].
            source: POLICY or TELEOP.
        """
        known = self._answers.get(stamp_ns)
        if known is not None:
            # The robot is past it in real time; the twin waits for exactly this.
            return known._replace(send=known.send and self._exact)
        command = _Command(stamp_ns, names, target_rad, source)
        if self._exact and stamp_ns not in self._states and stamp_ns > self._state_ns:
            self._waiting = command
            return None
        return self._judge(command, now_ns)

    def refuse(self, stamp_ns: int, reason: Reason) -> Answer:
        """Answer a command that is not looked at; nothing is sent, and it may come again."""
        self._refused += 1
        return Answer(self._executed(stamp_ns, self._filter.last, Source.HOLD, reason), False)

    def failed(self, answer: Answer) -> Answer:
        """Take back what the client could not send; return what to say instead."""
        executed = answer.executed
        if executed.source != Source.HOLD:
            # A hold was no new target: the one in force stays, and was counted already.
            self._filter.restore(self._before)
            self._commands -= 1
            self._refused += 1
        self._reasons = executed.reasons | Reason.CLIENT_ERROR
        said = self._executed(executed.stamp_ns, self._filter.last, Source.HOLD, self._reasons)
        if executed.reasons & Reason.WATCHDOG:
            return Answer(said, False)  # answers no tick
        return self._remember(Answer(said, False))

    def watch(self, now_ns: int) -> Answer | None:
        """Look for silence (real time); return the hold where it begins.

        Args:
            now_ns: Steady clock [ns].
        """
        silent = self._accepted_ns is not None and now_ns - self._accepted_ns > self._timeout_ns
        if self._exact or not silent or self._reasons & Reason.WATCHDOG:
            return None
        self._holds += 1
        self._reasons |= Reason.WATCHDOG
        target = self._filter.last
        return Answer(
            self._executed(self._state_ns, target, Source.HOLD, Reason.WATCHDOG), send=True
        )

    def status(self, now_ns: int) -> DriverStatus:
        """Return the numbers for `DriverState`; `now_ns` on the steady clock."""
        accepted = self._accepted_ns
        return DriverStatus(
            holding=self.holding,
            reasons=self._reasons,
            commands=self._commands,
            altered=self._altered,
            refused=self._refused,
            holds=self._holds,
            command_age_s=-1.0 if accepted is None else (now_ns - accepted) / 1e9,
        )

    def _judge(self, command: _Command, now_ns: int) -> Answer:
        measured, refused = self._measured_for(command.stamp_ns, now_ns)
        refused |= self._age(command.stamp_ns, now_ns)
        refused |= self._form(command)
        self._before = self._filter.last
        self._anew |= self._starts_anew(command.stamp_ns)
        if measured is not None and self._anew:
            try:
                self._filter.reset(measured)
                self._anew = False
            except SafetyError:
                refused |= Reason.STALE_STATE
        target, reasons = self._filter.last, refused
        if not refused and measured is not None:
            target, reasons = self._filter.filter(command.target, measured)
        if reasons & ~LIMITED:
            self._refused += 1
            self._reasons = reasons & ~LIMITED
            source = Source.HOLD
        else:
            self._commands += 1
            self._altered += reasons != 0
            self._reasons, self._accepted_ns = 0, now_ns
            source = command.source
        if not reasons & Reason.STALE_COMMAND:
            self._last_ns = command.stamp_ns
        # An old tick moves nobody: the target in force is newer. Nor does the target of before a
        # gap, as long as nobody knows where the robot stands now.
        send = target is not None and not reasons & Reason.STALE_COMMAND and not self._anew
        executed = self._executed(command.stamp_ns, target, source, reasons)
        return self._remember(Answer(executed, send))

    def _measured_for(self, stamp_ns: int, now_ns: int) -> tuple[np.ndarray | None, int]:
        if self._exact:
            state = self._states.get(stamp_ns)
            return state, 0 if state is not None else Reason.STALE_COMMAND
        if not self._states or now_ns - self._heard_ns > self._state_age_ns:
            return None, Reason.STALE_STATE
        return self._states[self._state_ns], 0

    def _age(self, stamp_ns: int, now_ns: int) -> int:
        """Judge a command's age by the newest joint state: both clocks' zeros are unknown here."""
        if self._exact or not self._states:
            return 0
        age = self._state_ns - stamp_ns + now_ns - self._heard_ns
        older = self._last_ns is not None and stamp_ns < self._last_ns
        return Reason.STALE_COMMAND if older or age > self._timeout_ns else 0

    def _form(self, command: _Command) -> int:
        names = command.names
        if len(names) != len(self._names) or len(command.target) != len(self._names):
            return Reason.WRONG_LENGTH
        if tuple(names) != self._names:
            return Reason.WRONG_ORDER
        return 0

    def _starts_anew(self, stamp_ns: int) -> bool:
        last = self._last_ns
        return last is None or stamp_ns - last > self._timeout_ns

    def _executed(
        self, stamp_ns: int, target: np.ndarray | None, source: int, reasons: int
    ) -> ExecutedCommand:
        return ExecutedCommand(
            stamp_ns=stamp_ns,
            source=int(source),
            action_rad=_NONE_RAD if target is None else target,
            action_norm=_NONE_NORM if target is None else self._space.to_norm(target),
            altered=reasons != 0,
            reasons=int(reasons),
        )

    def _remember(self, answer: Answer) -> Answer:
        self._answers[answer.executed.stamp_ns] = answer
        if len(self._answers) > _KEPT:
            del self._answers[next(iter(self._answers))]
        return answer
