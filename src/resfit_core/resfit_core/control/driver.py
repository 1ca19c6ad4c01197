"""What the driver decides: which command is carried out, which is refused, when it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract
from resfit_core.control.answers import Answer, Answers, DriverStatus
from resfit_core.control.arbiter import Arbiter, Command, wrong_form
from resfit_core.control.driver_clock import Heard, StampClock
from resfit_core.control.driver_state import Measured, Takeover
from resfit_core.control.records import Source
from resfit_core.control.reset_motion import StartPose
from resfit_core.control.safety import LIMITED, Reason, SafetyError, SafetyFilter

_NO_STAMP = Reason.STALE_COMMAND | Reason.CLOCK_JUMP  # such a stamp says nothing of the tick


class DriverCore:
    """Filter and supervisor: answers every command once, the same stamp again with the same.

    - *Exact* (lock-step): a command is judged against the measurements of its own stamp, and waits
      for them where the command came first. The robot stands still meanwhile, so neither age nor
      silence counts.
    - *Real time*: it is judged against the newest measurements. A command older than the
      contract's `command_timeout_s`, or a measurement older than `max_observation_age_s`, is
      refused. Silence longer than `command_timeout_s` holds the robot. Ages are told by
      `StampClock`. Who takes over, after activation, a hold or an emergency stop, starts slowly.
    - *Emergency stop*, of the robot or an operator: latched. Only `rearm`, called by a person,
      takes it off, and the robot then starts from where it is measured.

    Who is obeyed, the policy, a person or the way back to the start pose, says `Arbiter`.
    What is refused leaves the last target in force and is answered with it. After a gap of stamps
    longer than `command_timeout_s` (a pause, a new episode) the filter starts anew from the
    measured position, as the Gymnasium environment does at its reset. Not thread-safe.
    """

    def __init__(
        self,
        contract: Contract,
        space: ActionSpace,
        *,
        exact: bool,
        deadman_timeout_s: float = 0.3,
        start: StartPose | None = None,
    ) -> None:
        """Start without a target: nothing is sent before a joint state is known.

        Args:
            contract: Joint order, limits, timeouts.
            space: Normalised action space that the answers are told in.
            exact: Lock-step.
            deadman_timeout_s: Silence of a person who drives that counts as lost [s].
            start: Where the robot goes between episodes; None: nowhere.
        """
        self._names = contract.joint_names
        self._exact = exact
        self._timeout_ns = round(contract.command_timeout_s * 1e9)
        self._state_age_ns = round(contract.max_observation_age_s * 1e9)
        self._filter = SafetyFilter(contract)
        self._before: np.ndarray | None = None
        self._clock = StampClock(self._timeout_ns)
        self._measured = Measured(contract, exact=exact)
        self._takeover = Takeover(contract, exact=exact)
        self.arbiter = Arbiter(
            contract, exact=exact, timeout_ns=round(deadman_timeout_s * 1e9), start=start
        )
        self._waiting: Command | None = None
        self._waiting_ns = 0  # since when, steady clock
        self._answers = Answers(space)
        self._last_ns: int | None = None
        self._own_ns: int | None = None  # stamp of the newest tick of the driver's own
        self._ticked_ns: int | None = None  # newest policy tick that was accepted, steady clock
        self._anew = True  # the filter must start from a measured position first
        self._jumped = False  # the next command is refused, whatever it says
        self._pressed = False  # the robot's own stop, now
        self._stopped = False  # the latch
        self._accepted_ns: int | None = None
        self._reasons = 0
        self._commands = self._altered = self._refused = self._holds = 0

    @property
    def target_rad(self) -> np.ndarray | None:
        """Joint targets in force [rad]; None: none yet, or since a stop. Shape: (action_dim,)."""
        # An arm that was stopped may stand elsewhere: its old target is no hold.
        return None if self._stopped or self._anew else self._filter.last

    @property
    def holding(self) -> bool:
        """Whether the last target is held, since a command was refused or none came."""
        return self._accepted_ns is not None and self._reasons != 0

    @property
    def stopped(self) -> bool:
        """Whether an emergency stop is latched."""
        return self._stopped

    @property
    def source(self) -> Source:
        """Who commands now; HOLD: nobody, or what is commanded was refused."""
        return Source.HOLD if self._reasons else self.arbiter.source

    @property
    def touched(self) -> tuple[tuple[str, str], ...]:
        """Links and obstacles that the newest command would have brought together."""
        return self._filter.touched

    def measured(self, stamp_ns: int, position_rad: np.ndarray, now_ns: int) -> Answer | None:
        """Take a joint state; return the answer to a command that waited for it, or a hold.

        Args:
            stamp_ns: Time of measurement [ns].
            position_rad: Contract order [rad]. Shape: (action_dim,).
            now_ns: Steady clock [ns].
        """
        if not self._exact:
            heard = self._clock.heard(stamp_ns, now_ns)
            if heard is Heard.OLDER:
                return None
            if heard is Heard.JUMPED:
                # Stamps of before and after cannot be compared: all that rests on them is void.
                self._answers.clear()
                self._last_ns, self._anew, self._jumped = None, True, True
                self._own_ns = None
        self._measured.position(stamp_ns, position_rad, self._filter.last, now_ns)
        return self._judge_waiting(stamp_ns, now_ns) if self._exact else self._look(now_ns)

    def wrench(self, stream: int, stamp_ns: int, values: np.ndarray, now_ns: int) -> Answer | None:
        """Take force [N] and torque [Nm] of the contract's stream of this number; as `measured`.

        Args:
            stream: Place in the contract's `wrenches`.
            stamp_ns: Time of measurement [ns].
            values: Force, then torque. Shape: (6,).
            now_ns: Steady clock [ns].
        """
        self._measured.wrench(stream, stamp_ns, values, now_ns)
        return self._judge_waiting(stamp_ns, now_ns) if self._exact else self._look(now_ns)

    def command(
        self,
        stamp_ns: int,
        names: Sequence[str],
        target_rad: np.ndarray,
        now_ns: int,
    ) -> Answer | None:
        """Take a command; return the answer, or None while its measurements are under way.

        Args:
            stamp_ns: Stamp of the observation it answers [ns].
            names: Joint names in the order of `target_rad`.
            target_rad: Joint targets [rad]; any length and content is answered.
            now_ns: Steady clock [ns].
        """
        known = self._answers.get(stamp_ns)
        if known is not None:
            # The robot is past it in real time; the twin waits for exactly this.
            return known._replace(send=known.send and self._exact)
        if self._exact:
            if self._waiting is None or self._waiting.stamp_ns != stamp_ns:
                self._waiting, self._waiting_ns = Command(stamp_ns, names, target_rad), now_ns
            return self._judge_waiting(stamp_ns, now_ns)
        return self._judge(Command(stamp_ns, names, target_rad), now_ns)

    def teleop(
        self, stamp_ns: int, names: Sequence[str], target_rad: np.ndarray, now_ns: int
    ) -> Answer | None:
        """Take a person's command; return the answer to a tick that waited for it (lock-step).

        See `Arbiter.word`. In real time, one older than `command_timeout_s` is passed over.
        """
        if self._exact or not stamp_ns or self._clock.age_ns(stamp_ns, now_ns) <= self._timeout_ns:
            self.arbiter.word(stamp_ns, names, target_rad, now_ns)
        return self._look_at_waiting(now_ns)

    def deadman(self, held: bool, now_ns: int) -> Answer | None:
        """Take the dead-man switch's word; as `teleop`."""
        self.arbiter.deadman(held, now_ns)
        return self._look_at_waiting(now_ns)

    def drive(self, now_ns: int) -> Answer | None:
        """Tick for whoever wants to move while the policy is silent (real time); call each period.

        The answer carries WATCHDOG: it answers no tick of the policy's.

        Args:
            now_ns: Steady clock [ns].
        """
        if self._exact or self._stopped:
            return None
        if self._ticked_ns is not None and now_ns - self._ticked_ns <= self._timeout_ns:
            return None
        measured, _ = self._measured.newest(now_ns, self._clock, self._state_age_ns)
        stamp_ns = self._measured.newest_ns
        in_force = None if self._anew or self._starts_anew(stamp_ns) else self._filter.last
        command = self.arbiter.own(stamp_ns, in_force, measured, now_ns)
        return None if command is None else self._judge(command, now_ns, own=True)

    def refuse(self, stamp_ns: int, reason: Reason) -> Answer:
        """Answer a command that is not looked at; nothing is sent, and it may come again."""
        self._refused += 1
        return Answer(self._answers.make(stamp_ns, self._filter.last, Source.HOLD, reason), False)

    def failed(self, answer: Answer) -> Answer:
        """Take back what the client could not send; return what to say instead."""
        executed = answer.executed
        if executed.source != Source.HOLD:
            # A hold was no new target: the one in force stays, and was counted already.
            self._filter.restore(self._before)
            self._commands -= 1
            self._refused += 1
        self._reasons = executed.reasons | Reason.CLIENT_ERROR
        said = self._answers.make(executed.stamp_ns, self._filter.last, Source.HOLD, self._reasons)
        if executed.reasons & Reason.WATCHDOG:
            return Answer(said, False)  # answers no tick
        return self._answers.remember(Answer(said, False))

    def watch(self, now_ns: int) -> Answer | None:
        """Look for silence, of commands and of joint states (real time); return a hold's begin.

        Args:
            now_ns: Steady clock [ns].
        """
        if self._exact:
            return self._look_at_waiting(now_ns)  # perhaps the person fell silent
        if self._stopped or self._accepted_ns is None:
            return None
        silent = now_ns - self._accepted_ns > self._timeout_ns
        if silent and not self._reasons & Reason.WATCHDOG:
            self._takeover.due()
            return self._hold(Reason.WATCHDOG)
        _, stale = self._measured.newest(now_ns, self._clock, self._state_age_ns)
        if stale and not self._reasons & (Reason.STALE_STATE | Reason.WATCHDOG):
            return self._hold(Reason.STALE_STATE)
        return None

    def estop(self, pressed: bool) -> Answer | None:
        """Take the state of the robot's own emergency stop; return the hold where it begins."""
        self._pressed = pressed
        return self.press_estop() if pressed else None

    def press_estop(self) -> Answer | None:
        """Latch an emergency stop (an operator's, or the robot's); return the hold, if new."""
        if self._stopped:
            return None
        self._stopped = True
        if self._exact or self._filter.last is None:
            self._reasons |= Reason.ESTOP
            return None  # the next command's answer says it; the twin stands still until then
        # A robot that is stopped refuses targets itself.
        return self._hold(Reason.ESTOP)._replace(send=not self._pressed)

    def rearm(self, now_ns: int) -> str:
        """Take the latch off; return why not, in words, empty where it is off.

        Nothing moves by it: the next command starts from the measured position, slowly.
        """
        if not self._stopped:
            return "no emergency stop is latched"
        if self._pressed:
            return "the robot's emergency stop is still pressed; release it first"
        position, refused = self._measured.newest(now_ns, self._clock, self._state_age_ns)
        if refused or position is None or not np.isfinite(position).all():
            return "no fresh joint state: the pose to start from is unknown"
        self._stopped, self._anew, self._reasons, self._accepted_ns = False, True, 0, None
        return ""

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
            source=int(self.source),
            start_pose_episode=self.arbiter.at_start,
        )

    def _hold(self, reason: Reason) -> Answer:
        """Hold of the driver's own; WATCHDOG marks it as no tick's answer."""
        self._holds += 1
        self._reasons |= reason
        executed = self._answers.make(
            self._measured.newest_ns, self._filter.last, Source.HOLD, Reason.WATCHDOG | reason
        )
        return Answer(executed, send=True)

    def _look(self, now_ns: int) -> Answer | None:
        """Hold as soon as a measurement calls for it (real time), before the next command."""
        if self._accepted_ns is None or self._stopped or self._reasons:
            return None
        if self._measured.frozen(self._filter.last, now_ns):
            return self._hold(Reason.FROZEN_STATE)
        position, old = self._measured.newest(now_ns, self._clock, self._state_age_ns)
        wrenches, missing = self._measured.newest_wrenches(now_ns, self._state_age_ns)
        if position is None or wrenches is None or old or missing:
            return None
        if not np.isfinite(position).all():
            return None  # `watch` and the next command see to that
        if self._filter.feel(wrenches, position) & Reason.FORCE_LIMIT:
            return self._hold(Reason.FORCE_LIMIT)
        return None

    def _look_at_waiting(self, now_ns: int) -> Answer | None:
        waiting = self._waiting
        return None if waiting is None else self._judge_waiting(waiting.stamp_ns, now_ns)

    def _judge_waiting(self, stamp_ns: int, now_ns: int) -> Answer | None:
        waiting = self._waiting
        if waiting is None or waiting.stamp_ns != stamp_ns or self._measured.awaits(stamp_ns):
            return None
        if self.arbiter.awaits(stamp_ns, self._waiting_ns, now_ns):
            return None
        self._waiting = None
        return self._judge(waiting, now_ns)

    def _judge(self, command: Command, now_ns: int, *, own: bool = False) -> Answer:
        measured, wrenches, refused = self._measured_for(command.stamp_ns, now_ns)
        refused |= 0 if own else self._age(command.stamp_ns, now_ns)
        refused |= Reason.ESTOP if self._stopped else 0
        self._before = self._filter.last
        if not refused & _NO_STAMP:
            self._anew |= self._starts_anew(command.stamp_ns)
        if measured is not None and self._anew:
            try:
                self._filter.reset(measured)
                self._anew = False
                self._takeover.due()
                self.arbiter.start_over()
            except SafetyError:
                refused |= Reason.STALE_STATE
        if not own:
            command = self.arbiter.choose(command, self._filter.last, now_ns)
        refused |= wrong_form(command, self._names)
        target, reasons = self._filter.last, refused
        if not refused and measured is not None:
            slow = self._takeover.scale(command.target, measured, now_ns)
            slow = min(slow, self.arbiter.scale(command, target, now_ns))
            target, reasons = self._filter.filter(command.target, measured, wrenches, slow)
            self._takeover.done(reasons)
            self.arbiter.done(reasons, now_ns, own=own)
        if reasons & ~LIMITED:
            self._refused += 1
            self._reasons = reasons & ~LIMITED
            source = int(Source.HOLD)
        else:
            self._commands += 1
            self._altered += reasons != 0
            self._reasons, self._accepted_ns = 0, now_ns
            self._ticked_ns = self._ticked_ns if own else now_ns
            source = int(command.source)
        stale = reasons & _NO_STAMP
        if own:
            self._own_ns = command.stamp_ns
        elif not stale:
            self._last_ns = command.stamp_ns
        # An old tick moves nobody: the target in force is newer. Nor does the target of before a
        # gap, as long as nobody knows where the robot stands now; nor anything a stopped robot.
        send = target is not None and not stale and not self._anew and not self._pressed
        if own:
            reasons |= Reason.WATCHDOG
        executed = self._answers.make(command.stamp_ns, target, source, reasons)
        return Answer(executed, send) if own else self._answers.remember(Answer(executed, send))

    def _measured_for(
        self, stamp_ns: int, now_ns: int
    ) -> tuple[np.ndarray | None, np.ndarray | None, int]:
        """Return joint positions, wrenches, and why one of them cannot be used."""
        if self._exact:
            position = self._measured.at(stamp_ns)
            refused = 0 if position is not None else int(Reason.STALE_COMMAND)
            return position, self._measured.wrenches_at(stamp_ns), refused
        position, refused = self._measured.newest(now_ns, self._clock, self._state_age_ns)
        wrenches, missing = self._measured.newest_wrenches(now_ns, self._state_age_ns)
        frozen = Reason.FROZEN_STATE if self._measured.frozen(self._filter.last, now_ns) else 0
        return position, wrenches, int(refused | missing | frozen)

    def _age(self, stamp_ns: int, now_ns: int) -> int:
        if self._exact:
            return 0
        if self._jumped:
            self._jumped = False
            return int(Reason.CLOCK_JUMP)
        age = self._clock.age_ns(stamp_ns, now_ns)
        if self._clock.newest_ns and -age > self._state_age_ns:
            # It would also make every sound command after it look old.
            return int(Reason.CLOCK_JUMP)
        older = self._last_ns is not None and stamp_ns < self._last_ns
        return int(Reason.STALE_COMMAND) if older or age > self._timeout_ns else 0

    def _starts_anew(self, stamp_ns: int) -> bool:
        last = max(self._last_ns or 0, self._own_ns or 0)
        return not last or stamp_ns - last > self._timeout_ns
