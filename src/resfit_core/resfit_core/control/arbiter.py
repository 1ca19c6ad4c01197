"""Who commands the robot: the policy, a person with a dead-man switch, the way back, or nobody.

The driver asks at every tick. Numbers and clocks in, a command out; no ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.driver_state import Takeover
from resfit_core.control.records import EpisodeState, Phase, Source
from resfit_core.control.reset_motion import ResetMotion, StartPose
from resfit_core.control.safety import Reason

_LEAST_SHARE = 0.01  # of a period's way, where two ticks follow each other at once


class Command(NamedTuple):
    """Joint targets of one tick [rad], whom they are from, and why they are refused (0: not)."""

    stamp_ns: int
    names: Sequence[str]
    target: np.ndarray
    source: int = Source.POLICY
    refused: int = 0


def wrong_form(command: Command, names: tuple[str, ...]) -> int:
    """Return why a command cannot be looked at, by its form; 0: it can."""
    if command.refused:
        return command.refused
    if len(command.names) != len(names) or len(command.target) != len(names):
        return int(Reason.WRONG_LENGTH)
    return 0 if tuple(command.names) == names else int(Reason.WRONG_ORDER)


class _Word(NamedTuple):
    """The person's newest command, and when it was heard (steady clock) [ns]."""

    stamp_ns: int
    names: Sequence[str]
    target: np.ndarray
    heard_ns: int


class Arbiter:
    """Gives the robot to a person while they hold the dead-man switch, and takes it back.

    - *Takes over*: the switch is held, heard within the time-out, and so is a command. The
      policy's tick is then answered with the person's targets.
    - *Hands back*: the switch is released. The next tick is the policy's.
    - *Silence*: switch or command fall silent while the person drives: nobody knows whether they
      still mean it, so the robot holds until the switch is heard again, or the next episode.
    - *No jump*: at every change the targets start from those in force, by the ramp of the robot's
      safety file, and never faster than the velocity limits.
    - *Own ticks* (real time): where no policy ticks, between episodes, the driver itself ticks for
      the person, or to bring the robot to its start pose.

    In lock-step a person's command that carries a stamp answers the observation of that stamp; the
    tick waits for it, up to the time-out. Without a stamp the newest one counts. A command may
    name some of the joints only: the others stay. Not thread-safe.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        exact: bool,
        timeout_ns: int,
        start: StartPose | None = None,
    ) -> None:
        """Start with the policy in charge.

        Args:
            contract: Joint order and velocity limits.
            exact: Lock-step.
            timeout_ns: Silence of switch or command that counts as lost, steady clock [ns].
            start: Where the robot goes between episodes; None: it stays (lock-step: always).
        """
        self._names, self._exact, self._timeout = contract.joint_names, exact, timeout_ns
        self._index = {name: i for i, name in enumerate(self._names)}
        self._period_ns = round(contract.period_s * 1e9)
        self._blend = Takeover(contract, exact=False)
        self._reset = ResetMotion(contract, None if exact else start)
        self._held, self._held_ns = False, 0
        self._word: _Word | None = None
        self._driving = False
        self._episode = 0
        self._source: Source | None = None
        self._own_ns: int | None = None  # the driver's last own tick, steady clock

    @property
    def source(self) -> Source:
        """Who commands: at the newest tick."""
        return Source.HOLD if self._source is None else self._source

    @property
    def at_start(self) -> int:
        """Newest episode for which the robot has come to its start pose; 0: none."""
        return self._reset.at_start

    def deadman(self, held: bool, now_ns: int) -> None:
        """Take the switch's word; `now_ns` on the steady clock."""
        self._held, self._held_ns = held, now_ns
        if not held:
            self._driving, self._word = False, None

    def word(self, stamp_ns: int, names: Sequence[str], target: np.ndarray, now_ns: int) -> None:
        """Take the person's joint targets [rad]; older ones than the newest are passed over.

        Args:
            stamp_ns: Moment they were meant [ns]; lock-step: the observation's; 0: now.
            names: Joints, all or some, in the order of `target`.
            target: Shape: (len(names),).
            now_ns: Steady clock [ns].
        """
        if self._word is None or not stamp_ns or stamp_ns >= self._word.stamp_ns:
            self._word = _Word(stamp_ns, names, target, now_ns)

    def episode(self, state: EpisodeState) -> None:
        """Take the run's state: a new episode ends a silence, a reset begins the way back."""
        if state.episode != self._episode or state.phase == Phase.RESETTING:
            self._episode = state.episode
            self._driving = False  # who still holds the switch goes on at the next tick
        self._reset.state(state)

    def awaits(self, stamp_ns: int, since_ns: int, now_ns: int) -> bool:
        """Whether a tick, heard at `since_ns`, is to wait for the person's command (lock-step)."""
        word = self._word
        waits = word is not None and 0 < word.stamp_ns < stamp_ns and self._holds_on(now_ns)
        return waits and now_ns - since_ns <= self._timeout

    def choose(self, policy: Command, in_force: np.ndarray | None, now_ns: int) -> Command:
        """Return what the tick of the policy's command is answered with.

        Args:
            policy: The policy's command.
            in_force: Joint targets in force [rad]; None: there are none yet.
            now_ns: Steady clock [ns].
        """
        source = self._who(policy.stamp_ns, now_ns)
        self._change(source)
        if source == Source.TELEOP and self._word is not None:
            return self._said(self._word, policy.stamp_ns, in_force)
        if source == Source.HOLD:
            return policy._replace(refused=int(Reason.TELEOP_SILENT))
        return policy

    def own(
        self, stamp_ns: int, in_force: np.ndarray | None, measured: np.ndarray | None, now_ns: int
    ) -> Command | None:
        """Return what the driver's own tick is about; None: nobody wants to move (real time).

        Args:
            stamp_ns: Of the newest joint state [ns].
            in_force: Joint targets in force [rad]; None: there are none yet.
            measured: Joint positions [rad]; None: not known.
            now_ns: Steady clock [ns].
        """
        source = self._who(stamp_ns, now_ns)
        if source == Source.TELEOP and self._word is not None:
            self._change(source)
            return self._said(self._word, stamp_ns, in_force)
        if source == Source.HOLD or measured is None:
            return None
        target = self._reset.target(measured if in_force is None else in_force, measured)
        if target is None:
            return None
        self._change(Source.RESET)
        return Command(stamp_ns, self._names, target, Source.RESET)

    def scale(self, command: Command, in_force: np.ndarray | None, now_ns: int) -> float:
        """Return the share of the velocity limits that holds for this tick."""
        clock_ns = command.stamp_ns if self._exact else now_ns
        share = 1.0 if in_force is None else self._blend.scale(command.target, in_force, clock_ns)
        if self._own_ns is not None:
            # The filter takes one period from call to call; ticks of two clocks may lie closer.
            passed = (now_ns - self._own_ns) / self._period_ns
            share = min(share, max(passed, _LEAST_SHARE))
            self._own_ns = None
        return share

    def done(self, reasons: int, now_ns: int, *, own: bool) -> None:
        """Take what became of the tick: the sum of its reasons, and whether it was an own one."""
        self._blend.done(reasons)
        if own:
            self._own_ns = now_ns

    def start_over(self) -> None:
        """Forget a change: the filter starts anew, from the measured pose."""
        self._blend.forget()

    def _holds_on(self, now_ns: int) -> bool:
        return self._held and now_ns - self._held_ns <= self._timeout

    def _who(self, stamp_ns: int, now_ns: int) -> Source:
        word, speaks = self._word, False
        if word is not None and self._exact and word.stamp_ns:
            speaks = word.stamp_ns >= stamp_ns
        elif word is not None:
            speaks = now_ns - word.heard_ns <= self._timeout
        if speaks and self._holds_on(now_ns):
            return Source.TELEOP
        return Source.HOLD if self._driving else Source.POLICY

    def _change(self, source: Source) -> None:
        if source == Source.TELEOP:
            self._driving = True
            self._reset.disturbed()
        if self._source not in (None, source):
            self._blend.due()
        self._source = source

    def _said(self, word: _Word, stamp_ns: int, in_force: np.ndarray | None) -> Command:
        """Return the person's command with every joint in its place."""
        names, target = word.names, np.asarray(word.target, np.float64)
        if tuple(names) == self._names:
            return Command(stamp_ns, names, target, Source.TELEOP)
        unknown = any(name not in self._index for name in names) or len(set(names)) < len(names)
        if unknown or len(names) != len(target) or not len(names) or in_force is None:
            reason = Reason.WRONG_ORDER if unknown else Reason.WRONG_LENGTH
            return Command(stamp_ns, names, target, Source.TELEOP, int(reason))
        whole = in_force.copy()
        whole[[self._index[name] for name in names]] = target
        return Command(stamp_ns, self._names, whole, Source.TELEOP)
