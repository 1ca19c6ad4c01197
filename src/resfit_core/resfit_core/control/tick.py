"""When the base policy acts: one answer to every set of sensor data of a running episode.

The protocol is docs/architecture.md, One tick and One episode. Messages of different topics may
overtake each other, so every order is a defined case here. Needs numpy only; no ROS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from resfit_core.control.records import EpisodeState, Phase, PolicyStep


class ActionError(ValueError):
    """A base policy answered with what is no action; the text names the joint and the fix."""


class Seen(NamedTuple):
    """One observation, built: flat vector, the residual's images, and what the base wants.

    `base_observation` is None where the base sees the same vector as everybody.
    """

    observation: np.ndarray
    images: tuple[np.ndarray, ...] = ()
    base_images: Any = None
    base_observation: np.ndarray | None = None


class Base(Protocol):
    """The part of a base policy that the tick needs; see `resfit_core.base`."""

    def reset(self, seed: int) -> None:
        """Drop the chunk; the next action plans anew."""

    def act(self, observation: np.ndarray, images: Any) -> Any:
        """Return `action_norm`, `chunk_phase` and `planned`."""


class BaseTick:
    """Turns joined sensor sets and episode states into `PolicyStep`s. Not thread-safe.

    While a person drives, the base goes on proposing, and plans anew at every step: the robot is
    not where its chunk was planned for, and whoever gets it back begins with a fresh plan.

    Attributes:
        follows_driver: lock-step: answer a set only after the driver's word on the step before, so
            that the same hands give the same chunks. Only needed where a person may take over.
        dropped: ticks for which there was no fresh observation; real time only.
        replans: chunks planned anew after a hold.
    """

    def __init__(
        self,
        base: Base,
        build: Callable[[Any], Seen],
        contract_sha256: str,
        base_sha256: str,
        *,
        period_ns: int,
        lockstep: bool,
        born_ns: int = 0,
        horizon_steps: int = 0,
    ) -> None:
        """Start idle.

        Args:
            base: The frozen policy.
            build: Makes the observation out of a joined set; called once for each answered set.
            contract_sha256: Goes into every answer.
            base_sha256: Goes into every answer.
            period_ns: Control period [ns].
            lockstep: The twin waits for each answer; else the robot moves on by itself.
            born_ns: When this node came up, on the clock of the stamps [ns]; for real time.
            horizon_steps: An episode that nobody ends is given up a second after so many steps
                (real time; in lock-step the twin ends it): the manager is dead or hangs. 0: never.
        """
        self._most_steps = (
            0
            if lockstep or not horizon_steps
            else (horizon_steps + -(-1_000_000_000 // period_ns))
        )
        self._base, self._build = base, build
        self._contract, self._base_sha256 = contract_sha256, base_sha256
        self._period_ns, self._lockstep, self._born_ns = period_ns, lockstep, born_ns
        self._state: EpisodeState | None = None
        self._joins_late = False  # the episode ran already when this node came up
        self._gave_up = 0  # number of an episode that this node asked to abort
        self._why = ""
        self._ended: EpisodeState | None = None  # wants its last observation
        self._last: PolicyStep | None = None  # newest answer
        self._pending: tuple[int, Any] | None = None  # newest set that nobody has asked for yet
        self._executed_ns = 0  # newest step that the driver answered
        self._person = False  # a person's it was
        self.follows_driver = False
        self.dropped = 0
        self.replans = 0

    @property
    def abort_reason(self) -> str:
        """Why the running episode must be aborted, in words; empty: it need not."""
        return self._why if self._running() and self._state.episode == self._gave_up else ""

    @property
    def episode(self) -> int:
        """Number of the open episode; 0: none."""
        return 0 if self._state is None else self._state.episode

    def on_state(self, state: EpisodeState) -> PolicyStep | None:
        """Take a new episode state; return the answer to a set that waited for it, if any."""
        if state.corrects_older_than(self._state):
            return None
        before, self._state = self._state, state
        if state.phase == Phase.RUNNING:
            known = before is not None and before.episode == state.episode
            if known and before.phase == Phase.RUNNING:
                return None
            # An episode that began after this node came up cannot have had another one's steps.
            missed = self._lockstep or state.start_ns < self._born_ns
            self._joins_late = before is None and missed
            self._begin(state)
            return self._take_pending()
        if state.phase == Phase.ENDED and self._answered(state.episode):
            if self._last.step <= state.credited_step:
                self._ended = state
                return self._take_pending()
            # A press in the past: the observation after the credited step is out already.
            self._base.reset(state.seed)
        elif state.phase == Phase.RESETTING and self._ended is None:
            self._base.reset(state.seed)
        return None

    def on_set(self, stamp_ns: int, joined: Any) -> PolicyStep | None:
        """Take a joined set; return the answer.

        In lock-step a stamp sent again gets the same answer again; in real time it gets none.

        Args:
            stamp_ns: Stamp of the set [ns].
            joined: What `build` makes the observation of.

        Raises:
            ActionError: The base's action is not finite.
        """
        if self._last is not None and stamp_ns <= self._last.stamp_ns:
            again = self._lockstep and stamp_ns == self._last.stamp_ns
            return self._last if again else None
        if self._waits_for_driver():
            self._pending = (stamp_ns, joined)
            return None
        if self._ended is not None:
            return self._answer_last(stamp_ns, joined)
        if not self._running():
            # RUNNING may still be under way while its first set is here already.
            self._pending = (stamp_ns, joined)
            return None
        if stamp_ns < self._state.start_ns or self._state.episode == self._gave_up:
            return None
        if self._joins_late:
            if not self._lockstep or stamp_ns != self._state.start_ns:
                number = self._state.episode
                self._give_up(f"base_policy came up while episode {number} was running already")
                return None
            # Nothing was missed: the twin still waits for the answer to the first stamp.
            self._joins_late = False
        return self._answer(stamp_ns, joined)

    def on_executed(self, stamp_ns: int, *, person: bool) -> PolicyStep | None:
        """Take the driver's word on a step; return the answer to a set that waited for it.

        Args:
            stamp_ns: Stamp of the observation that the driver answered [ns].
            person: A person commanded, not the policy.
        """
        if self._last is None or stamp_ns < self._last.stamp_ns:
            return None
        self._executed_ns, self._person = stamp_ns, person
        return self._take_pending()

    def on_drop(self) -> None:
        """Count a tick without a fresh observation (real time): nothing advances."""
        if self._running():
            self.dropped += 1

    def on_fault(self, why: str) -> None:
        """Give the running episode up: what the sensors show is not to be believed (real time).

        Counts a dropped tick. The episode is answered no more, whatever comes: the robot holds
        until somebody has ended it.
        """
        if self._running():
            self.dropped += 1
            if self._gave_up != self._state.episode:
                self._give_up(why)

    def _give_up(self, why: str) -> None:
        self._gave_up, self._why = self._state.episode, why

    def _running(self) -> bool:
        return self._state is not None and self._state.phase == Phase.RUNNING

    def _answered(self, episode: int) -> bool:
        return self._last is not None and self._last.episode == episode and not self._last.is_last

    def _waits_for_driver(self) -> bool:
        open_ = self._ended if self._ended is not None else self._state
        waits = self.follows_driver and open_ is not None and self._answered(open_.episode)
        return waits and self._executed_ns < self._last.stamp_ns

    def _begin(self, state: EpisodeState) -> None:
        # Without the last observation of the one before: its recorder does without, in words.
        self._ended, self._person = None, False
        self._base.reset(state.seed)

    def _take_pending(self) -> PolicyStep | None:
        pending, self._pending = self._pending, None
        return None if pending is None else self.on_set(*pending)

    def _answer(self, stamp_ns: int, joined: Any) -> PolicyStep | None:
        first = not self._answered(self._state.episode)
        # One missed period is jitter; after a longer hold the robot is not where the rest of the
        # chunk was planned for. The twin never holds in lock-step; a bag of real time played in
        # lock-step does.
        if not first and stamp_ns - self._last.stamp_ns > 2.5 * self._period_ns:
            self._base.reset(self._state.seed)
            self.replans += 1
        number = 0 if first else self._last.step + 1
        if self._most_steps and number >= self._most_steps:
            self._give_up(f"nobody ended the episode after {number} steps; is the manager alive?")
            return None
        return self._say(stamp_ns, joined, self._state.episode, number, is_last=False)

    def _answer_last(self, stamp_ns: int, joined: Any) -> PolicyStep:
        ended, self._ended = self._ended, None
        answer = self._say(stamp_ns, joined, ended.episode, self._last.step + 1, is_last=True)
        # Only now: the last base action comes from the unreset chunk.
        self._base.reset(self._state.seed)
        return answer

    def _say(
        self, stamp_ns: int, joined: Any, episode: int, number: int, *, is_last: bool
    ) -> PolicyStep:
        if self._person:
            self._base.reset(self._state.seed)
        seen = self._build(joined)
        own = seen.base_observation
        proposal = self._base.act(seen.observation if own is None else own, seen.base_images)
        finite = np.isfinite(proposal.action_norm)
        if not finite.all():
            joint = int(np.argmin(finite))
            raise ActionError(
                f"base policy answered {proposal.action_norm[joint]} for joint {joint} at step "
                f"{number} of episode {episode}; check its weights and the observation's "
                "normalisation"
            )
        self._last = PolicyStep(
            stamp_ns=stamp_ns,
            episode=episode,
            step=number,
            is_first=number == 0,
            is_last=is_last,
            observation=seen.observation,
            base_action=proposal.action_norm,
            chunk_phase=proposal.chunk_phase,
            contract_sha256=self._contract,
            base_sha256=self._base_sha256,
            images=seen.images,
        )
        return self._last
