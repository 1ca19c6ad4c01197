"""Plays recorded episodes in lock-step, in the place of twin, episode manager and learner.

It shows the sensors of step k, waits until base policy, residual policy and driver have answered
them, compares, and goes on to k + 1; how the nodes act in between is their own affair. No ROS.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from resfit_core.control.episode_parts import VERDICTS, ending
from resfit_core.control.press import ORACLE, EpisodeSteps, Press
from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_core.data.bag_reader import stamp_of
from resfit_core.data.recording import Recording
from resfit_core.playing.comparison import Comparison

_S = 1_000_000_000
_ENDING = ("ended_by", "credited_step", "reward", "terminated")


class PlayError(RuntimeError):
    """A node did not answer; the text says which and of what."""


class Outlet(Protocol):
    """Where the player's words go."""

    def state(self, state: EpisodeState) -> None:
        """Publish an episode state."""

    def weights(self, version: int) -> bool:
        """Publish the weights of this version; False: there are none."""

    def show(self, messages: Mapping[str, bytes]) -> None:
        """Publish sensor data, topic to serialized message."""


class Timing(NamedTuple):
    """How the recorded run was clocked and how patient the player is; all in ns."""

    period_ns: int
    gap_ns: int
    reaction_ns: int
    again_ns: int = 1_000_000_000
    patience_ns: int = 60_000_000_000


@dataclasses.dataclass
class _Heard:
    """What came back of the set that was shown last."""

    shown_ns: int
    repeated: int = 0
    policy_step: tuple[Any, int] | None = None
    command_ns: int | None = None
    step: tuple[Any, int] | None = None
    executed: tuple[Any, int] | None = None


class Player:
    """Feed it with what the nodes say, and with `tick` some times a second. Not thread-safe.

    Messages are looked at through their fields alone, so that ROS messages and those of a bag
    will both do. Times are of the steady clock [ns].
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        comparison: Comparison,
        outlet: Outlet,
        timing: Timing,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            recordings: Episodes in the order in which they are played; at least one.
            comparison: Takes the differences.
            outlet: Publishes.
            timing: See there.
        """
        self._recordings, self._comparison = tuple(recordings), comparison
        self._outlet, self._timing = outlet, timing
        self._index, self._number, self._step = -1, 0, 0
        self._offset = 0  # of the stamps: they must rise over all episodes
        self._stamp = 0
        self._without: set[int] = set()
        self._heard = _Heard(0)
        self._state = EpisodeState(Phase.IDLE)
        self.finished = False

    @property
    def recording(self) -> Recording:
        """The episode that is being played."""
        return self._recordings[self._index]

    def start(self, now_ns: int) -> None:
        """Begin with the first episode."""
        self._next(now_ns)

    def on_policy_step(self, msg: Any, now_ns: int) -> None:
        """Take the base policy's answer."""
        if self._is_awaited(msg) and self._heard.policy_step is None:
            self._heard.policy_step = (msg, now_ns)
            self._advance(now_ns)

    def on_command(self, stamp_ns: int, now_ns: int) -> None:
        """Take the time at which the residual's command came."""
        if stamp_ns == self._stamp and self._heard.command_ns is None:
            self._heard.command_ns = now_ns

    def on_step(self, msg: Any, now_ns: int) -> None:
        """Take the residual policy's account."""
        if self._is_awaited(msg) and self._heard.step is None:
            self._heard.step = (msg, now_ns)
            self._advance(now_ns)

    def on_executed(self, msg: Any, now_ns: int) -> None:
        """Take the driver's answer."""
        if self._is_awaited(msg) and self._heard.executed is None:
            self._heard.executed = (msg, now_ns)
            self._advance(now_ns)

    def tick(self, now_ns: int) -> None:
        """Show again what nobody answered.

        Raises:
            PlayError: Nobody has answered for too long.
        """
        heard, timing = self._heard, self._timing
        if self.finished or now_ns - heard.shown_ns < (heard.repeated + 1) * timing.again_ns:
            return
        if now_ns - heard.shown_ns > timing.patience_ns:
            raise PlayError(
                f"{self._where()}: no answer for {timing.patience_ns / _S:g} s: {self._silent()}"
            )
        heard.repeated += 1
        if self._step == 0:
            self._outlet.state(self._state)
        self._show()

    def _is_awaited(self, msg: Any) -> bool:
        return not self.finished and stamp_of(msg) == self._stamp

    def _where(self) -> str:
        return f"episode {self.recording.manifest.episode}, step {self._step}"

    def _silent(self) -> str:
        if self._heard.policy_step is None:
            return "base_policy sends no policy_step; see its log"
        if self._heard.step is None:
            version = self._state.required_weights_version
            why = f" (does it refuse the weights of version {version}?)" if version else ""
            return f"residual_policy sends no step{why}; see its log"
        return "vega_driver sends no executed_command; does the bag hold its wrenches? See its log"

    # --- one episode after the other -----------------------------------------------------------

    def _next(self, now_ns: int) -> None:
        self._index += 1
        if self._index == len(self._recordings):
            self._index -= 1
            self._say(Phase.FINISHED, "all episodes are played")
            self.finished = True
            return
        recording, manifest = self.recording, self.recording.manifest
        self._number = max(self._number + 1, manifest.episode)
        first = stamp_of(recording.steps[0])
        earliest = self._stamp + self._timing.gap_ns if self._stamp else first
        self._offset = 0 if first >= earliest else -(-(earliest - first) // _S) * _S
        self._say(Phase.RESETTING, "an episode is played")
        # The last observation commands nothing; newer weights may be there when it comes.
        acted = (step.weights_version for step in recording.steps if not step.is_last)
        version = max(acted, default=0)
        if version and not self._outlet.weights(version):
            if version not in self._without:
                self._comparison.notes.append(
                    f"weights version {version} of episode {manifest.episode} are not there: "
                    "the base acts alone, or the weights given"
                )
            self._without.add(version)
            version = 0
        self._say(Phase.READY, "an episode is played")
        self._say(
            Phase.RUNNING,
            "an episode is played",
            start_ns=first + self._offset,
            required_weights_version=version,
        )
        self._begin_step(0, now_ns)

    def _begin_step(self, number: int, now_ns: int) -> None:
        self._step = number
        self._stamp = stamp_of(self.recording.steps[number]) + self._offset
        self._heard = _Heard(now_ns)
        self._show()

    def _show(self) -> None:
        self._outlet.show(self.recording.sensor_set(self._step, self._stamp))

    def _advance(self, now_ns: int) -> None:
        heard, last = self._heard, self._step == self.recording.manifest.steps
        if heard.policy_step is None or heard.step is None:
            return
        if not last and heard.executed is None:
            return
        self._compare(last)
        if last:
            self._next(now_ns)
        elif self._step + 1 < self.recording.manifest.steps:
            self._begin_step(self._step + 1, now_ns)
        else:
            found = self._live_ending()
            self._comparison.add_ending(
                self.recording.manifest.episode, {k: found[k] for k in _ENDING}, self._recorded()
            )
            self._say(Phase.ENDED, "the played episode is over", **found)
            self._begin_step(self._step + 1, now_ns)

    def _compare(self, last: bool) -> None:
        recorded, comparison, where = (
            self.recording.steps[self._step],
            self._comparison,
            self._where(),
        )
        (base, base_ns), (step, _) = self._heard.policy_step, self._heard.step
        comparison.add("observation", where, base.observation, recorded.observation)
        comparison.add("base", where, base.base_action_norm, recorded.base_action_norm)
        if last:
            return
        was = self.recording.executed[stamp_of(recorded)]
        done, done_ns = self._heard.executed
        comparison.add("residual", where, _residual(step), _residual(recorded))
        comparison.add("proposed", where, step.action_norm, recorded.action_norm)
        comparison.add("executed", where, done.action_rad, was.action_rad)
        comparison.add_reasons(done.reasons, was.reasons)
        command_ns = self._heard.command_ns
        if not self._heard.repeated and command_ns is not None:
            shown_ns = self._heard.shown_ns
            comparison.add_latency(
                base=(base_ns - shown_ns) / 1e6,
                residual=(command_ns - base_ns) / 1e6,
                driver=(done_ns - command_ns) / 1e6,
                whole=(done_ns - shown_ns) / 1e6,
            )

    def _recorded(self) -> dict[str, Any]:
        manifest = self.recording.manifest
        return {k: type(v)(v) for k, v in dataclasses.asdict(manifest).items() if k in _ENDING}

    def _live_ending(self) -> dict[str, Any]:
        """Apply the rule of credit to the recorded presses and the steps just played."""
        recording, timing = self.recording, self._timing
        count = recording.manifest.steps
        stamps = [stamp_of(step) for step in recording.steps]
        even = all(b - a == timing.period_ns for a, b in itertools.pairwise(stamps))
        steps = EpisodeSteps(stamps[0], timing.period_ns, even=even)
        for stamp in stamps[:-1]:
            steps.add(stamp)
        press = _verdict(recording.presses)
        if press is None:
            # Nobody pressed: the time was up (counted by the manager), or it was aborted.
            timeout = recording.manifest.ended_by == EndedBy.TIMEOUT
            by = EndedBy.TIMEOUT if timeout else EndedBy.ABORTED
            found = ending(by, count - 1, stamps[count] + self._offset)
        else:
            reaction = 0 if press.source == ORACLE else timing.reaction_ns
            step = steps.credit(stamp_of(press) - reaction)
            step = step if even and press.source == ORACLE else min(step, count - 1)
            found = ending(VERDICTS[Press(press.kind)], step, stamps[count] + self._offset)
        return {
            **found,
            "ended_by": int(found["ended_by"]),
            "credited_step": int(found["credited_step"]),
        }

    def _say(self, phase: Phase, reason: str, **fields: Any) -> None:
        manifest = self.recording.manifest
        self._state = EpisodeState(
            phase,
            episode=self._number,
            mode=manifest.mode,
            run_id=manifest.run_id,
            seed=manifest.seed,
            use_residual=manifest.use_residual,
            reason=reason,
            stamp_ns=self._stamp,
            **fields,
        )
        self._outlet.state(self._state)


def _residual(step: Any) -> np.ndarray:
    """What the residual added to the base, noise and clipping included."""
    return np.asarray(step.action_norm, np.float32) - np.asarray(step.base_action_norm, np.float32)


def _verdict(presses: Sequence[Any]) -> Any | None:
    """Return the press that ended the episode: the first verdict that nobody took back."""
    found = None
    for press in presses:
        if press.kind == Press.UNDO:
            found = None
        elif press.kind in VERDICTS and found is None:
            found = press
    return found
