"""When the residual acts, with which weights, and which of its steps are kept for the recorder.

The protocol is docs/architecture.md. Needs numpy only: the policy itself comes through a protocol.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from resfit_core.control.records import EpisodeState, Mode, Phase

_Step = TypeVar("_Step")
_EMPTY = np.zeros(0, np.float32)


class Residual(Protocol):
    """The part of `resfit_core.residual.ResidualPolicy` that is needed here."""

    version: int

    def load(self, data: bytes, sha256: str | None = None) -> int:
        """Take weights or raise; on error the old ones stay."""

    def begin_episode(self, seed: int, mode: int, use_residual: bool = True) -> None:
        """Start the noise anew."""

    def act(
        self, observation: np.ndarray, base_action: np.ndarray, chunk_phase: float
    ) -> tuple[np.ndarray, bool]:
        """Return the proposal and whether noise was added; `images=` where there are any."""

    def executed(self, action_norm: np.ndarray) -> None:
        """Take what was executed of the last proposal; only called where that is observed."""


class Tick(Protocol):
    """What is needed of a PolicyStep; a plain record or a cheap view on the message."""

    stamp_ns: int
    episode: int
    is_last: bool
    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: float
    images: Mapping[str, np.ndarray]  # camera to uint8 (H, W, 3); empty for `state`


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights as they came: bytes, announced hash (None: not announced) and version."""

    data: bytes
    sha256: str | None
    version: int


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """The answer to one tick. `action`: (action_dim,) normalised; empty: nothing is commanded."""

    tick: Tick
    action: np.ndarray
    weights_version: int
    explored: bool


class ResidualTick:
    """Turns ticks, states and weights into proposals. Not thread-safe.

    - New weights wait while an episode runs and are applied before the next one's first tick.
    - The first tick waits for RUNNING of its episode and for the weights that RUNNING requires.
    - A tick that ENDED of its episode overtook is passed on without an action, as the last one is.
    - A stamp that was answered gets the same answer again and never acts twice.
    - Where the policy observes the last executed action, a tick waits until the driver has said
      what it made of the proposal before. The next tick ends the waiting: that answer is lost.
    """

    def __init__(
        self,
        policy: Residual,
        on_refused: Callable[[str], None],
        observes_last_action: bool = False,
    ) -> None:
        """Start without weights; the base acts alone until some come.

        Args:
            policy: Acts.
            on_refused: Told why weights were refused; the running ones stay.
            observes_last_action: The policy sees what was executed; `on_executed` must be called.
        """
        self._policy, self._on_refused = policy, on_refused
        self._observes_last_action = observes_last_action
        self._executed_ns = 0  # newest stamp whose execution the policy was told
        self._state: EpisodeState | None = None
        self._begun = 0  # number of the episode whose first tick was answered
        self._last: Proposal | None = None
        self._pending: Tick | None = None
        self._weights: Weights | None = None

    @property
    def waits_for_version(self) -> int:
        """Version of the weights that a tick waits for; 0: none."""
        state = self._state
        if self._pending is None or state is None or state.phase != Phase.RUNNING:
            return 0
        missing = state.required_weights_version > self._policy.version
        return state.required_weights_version if missing else 0

    def on_state(self, state: EpisodeState) -> Proposal | None:
        """Take a new episode state; return the answer to a tick that waited for it."""
        if state.corrects_older_than(self._state):
            return None
        self._state = state
        self._apply()
        return self._take_pending()

    def on_weights(self, weights: Weights) -> Proposal | None:
        """Take new weights, applied at once or before the next episode; answer who waited."""
        newest = max(self._policy.version, self._weights.version if self._weights else 0)
        if weights.version < newest:
            # Overtaken on the way, or sent by somebody else: versions only grow within a run.
            self._on_refused(f"weights version {weights.version} after version {newest}: too old")
        else:
            self._weights = weights
        self._apply()
        return self._take_pending()

    def on_executed(self, stamp_ns: int, action_norm: np.ndarray) -> Proposal | None:
        """Take what was executed for a stamp; return the answer to a tick that waited for it.

        Args:
            stamp_ns: Stamp of the observation that was answered.
            action_norm: Normalised. Shape (action_dim,).
        """
        last = self._last
        if not self._observes_last_action or last is None or last.tick.stamp_ns != stamp_ns:
            return None
        if self._executed_ns < stamp_ns and not last.tick.is_last:
            self._executed_ns = stamp_ns
            self._policy.executed(action_norm)
        return self._take_pending()

    def on_tick(self, tick: Tick) -> Proposal | None:
        """Take a tick; return the answer, or None where it must wait or is too old."""
        last = self._last
        if last is not None and tick.stamp_ns <= last.tick.stamp_ns:
            return last if tick.stamp_ns == last.tick.stamp_ns else None
        if tick.is_last:
            # Nothing executes it: it needs no weights and may come after its episode's end.
            return self._say(Proposal(tick, _EMPTY, self._policy.version, False))
        state = self._state
        if state is None or state.phase != Phase.RUNNING or state.episode != tick.episode:
            over = state is not None and state.phase == Phase.ENDED
            if over and state.episode == tick.episode == self._begun:
                # ENDED overtook it: nothing executes it, but it may be the last observation.
                return self._say(Proposal(tick, _EMPTY, self._policy.version, False))
            ended = over and state.episode == tick.episode
            ended = ended or (state is not None and tick.episode < state.episode)
            self._pending = None if ended else tick
            return None
        if self._begun != tick.episode:
            self._apply()
            if self._policy.version < state.required_weights_version:
                self._pending = tick
                return None
            self._begin(state)
            self._begun = tick.episode
        elif self._must_wait(tick):
            self._pending = tick
            return None
        shown = {"images": tick.images} if tick.images else {}
        action, explored = self._policy.act(
            tick.observation, tick.base_action, tick.chunk_phase, **shown
        )
        # In warm-up and base evaluation no weights act, whatever is loaded.
        version = self._policy.version if _residual_acts(state) else 0
        return self._say(Proposal(tick, action, version, explored))

    def _begin(self, state: EpisodeState) -> None:
        self._policy.begin_episode(state.seed, state.mode, state.use_residual)

    def _must_wait(self, tick: Tick) -> bool:
        """Tell whether the driver's answer to the proposal before this tick is still to come."""
        if not self._observes_last_action or self._last is None:
            return False
        waited = self._pending is not None and self._pending.stamp_ns < tick.stamp_ns
        return self._executed_ns < self._last.tick.stamp_ns and not waited

    def _say(self, proposal: Proposal) -> Proposal:
        self._last, self._pending = proposal, None
        return proposal

    def _take_pending(self) -> Proposal | None:
        pending, self._pending = self._pending, None
        return None if pending is None else self.on_tick(pending)

    def _apply(self) -> None:
        running = self._state is not None and self._state.phase == Phase.RUNNING
        if self._weights is None or (running and self._begun == self._state.episode):
            return
        weights, self._weights = self._weights, None
        if weights.version == self._policy.version:
            return
        try:
            self._policy.load(weights.data, weights.sha256)
        except ValueError as error:
            self._on_refused(str(error))


def _residual_acts(state: EpisodeState) -> bool:
    return state.use_residual and state.mode in (Mode.TRAIN, Mode.EVALUATE)


class StepKeeper(Generic[_Step]):
    """Keeps the steps of the last episodes, for a recorder that missed some."""

    def __init__(self, episodes: int = 3) -> None:
        """Keep so many episodes."""
        self._episodes = episodes
        self._kept: OrderedDict[int, dict[int, _Step]] = OrderedDict()

    def keep(self, episode: int, step: int, item: _Step) -> None:
        """Keep one step; the oldest episode goes when there are too many."""
        self._kept.setdefault(episode, {})[step] = item
        while len(self._kept) > self._episodes:
            self._kept.popitem(last=False)

    def find(self, episode: int, steps: Sequence[int] = ()) -> list[_Step]:
        """Return those of `steps` that are kept, in order; of none given: all."""
        kept = self._kept.get(episode, {})
        wanted = sorted(steps) if len(steps) else sorted(kept)
        return [kept[number] for number in wanted if number in kept]
