"""Replay buffers: every observation stored once, n-step windows cut when they are sampled.

An episode of T steps takes T + 1 rows of one float32 ring, and of one uint8 ring where there are
cameras (`frames.py`); the next observation is found by index.
Windows are cut at sampling time and never leave their episode, so `n_step` can change without
rewriting data, and a window cannot leak across a reset (METHOD, "stumbled over").
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from resfit_core.data.episode import Episode
from resfit_core.data.frames import FrameRing

_Key = tuple[bool, int]


def content_sha256(hashes: Iterable[str]) -> str:
    """Return the hash of a buffer that holds episodes of these hashes, in this order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


class ReplayError(ValueError):
    """An episode that does not fit this buffer, or a buffer that cannot be sampled."""


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """A sampled batch of n-step windows, as numpy arrays. B is the batch size.

    Attributes:
        observation: (B, obs_dim), contract units, and the last action where the buffer adds it;
            likewise `next_observation`.
        base_action: (B, act_dim), normalised; likewise `next_base_action`.
        chunk_phase: (B, 1); likewise `next_chunk_phase`.
        action: (B, act_dim), executed, normalised.
        reward: (B,), sum over the window of gamma^i r.
        discount: (B,), gamma^k with k the window's real length; 0 where it ends in `terminated`.
        demos: number of leading samples that come from the demo half.
        images, next_images: camera to uint8 (B, H, W, 3); empty for state observations. Views of
            rows with all cameras in them: each image is contiguous, the batch is not.
    """

    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    next_observation: np.ndarray
    next_base_action: np.ndarray
    next_chunk_phase: np.ndarray
    demos: int = 0
    images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    next_images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """Where a batch is put together: both halves of a mixed batch fill their part of one piece.

    Attributes:
        rows: (2, B, columns) float32, the rows of now and then.
        reward: (B,).
        discount: (B,).
        frames: (2, B, row size) uint8, from `FrameRing.memory`.
    """

    rows: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    frames: np.ndarray

    def part(self, begin: int, end: int) -> Memory:
        """Return the samples from `begin` to before `end`, in the same memory."""
        these = slice(begin, end)
        return Memory(
            self.rows[:, these], self.reward[these], self.discount[these], self.frames[:, these]
        )


@dataclasses.dataclass
class _Segment:
    """Rows of one stored episode; `key` is None once the episode was taken out.

    `runs` holds first step and number of steps of each stretch that windows may begin in;
    `proposed` what base and residual proposed where a person acted, shape (steps, act_dim).
    """

    key: _Key | None
    start: int
    rows: int
    meta: dict[str, Any]
    sha256: str
    runs: tuple[tuple[int, int], ...] = ()
    proposed: np.ndarray | None = None


class ReplayBuffer:
    """A ring of whole episodes; the oldest are dropped when room is needed. Not thread-safe."""

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        capacity: int,
        image_shapes: Mapping[str, tuple[int, int, int]] | None = None,
        *,
        native: bool = False,
        last_action: bool = False,
    ) -> None:
        """Preallocate.

        Args:
            obs_dim: length of the observation.
            act_dim: number of joints.
            capacity: rows (steps plus one per episode).
            image_shapes: camera to (H, W, 3), uint8; none for state observations.
            native: frames are gathered by the compiled kernel (`gather.py`).
            last_action: what is sampled as observation ends in the action executed last, 0 at an
                episode's first step; episodes go in and come out without it.
        """
        self.obs_dim, self.act_dim, self.capacity = obs_dim, act_dim, capacity
        self.last_action = last_action
        obs, act = obs_dim + act_dim * last_action, act_dim
        # One matrix, so that a sample is one gather: observation | phase | base | action.
        self._rows = np.zeros((capacity, obs + 1 + 2 * act), np.float32)
        self._columns = (slice(0, obs), slice(obs, obs + 1), slice(obs + 1, obs + 1 + act))
        self._action = slice(obs + 1 + act, obs + 1 + 2 * act)
        self._reward = np.zeros(capacity, np.float32)
        self._steps_left = np.zeros(capacity, np.int32)
        self._terminated = np.zeros(capacity, np.bool_)
        self._flags = np.zeros((capacity, 2), np.bool_)
        self.frames = FrameRing(capacity, image_shapes or {}, native=native)
        self._segments: list[_Segment] = []
        self._index: dict[_Key, _Segment] = {}
        self._head = 0
        self._used = 0
        self._starts = np.zeros(0, np.int64)
        self._ends = np.zeros(0, np.int64)
        self._befores = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Return the number of steps that can be sampled."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __contains__(self, key: _Key) -> bool:
        """Tell whether the episode is held, in any revision."""
        return key in self._index

    @property
    def episodes(self) -> int:
        """Number of episodes held."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays, room that is not used yet included."""
        arrays = (self._rows, self._reward, self._steps_left, self._terminated, self._flags)
        return sum(array.nbytes for array in arrays) + self.frames.nbytes

    def revision(self, key: _Key) -> int:
        """Return the revision held, or -1."""
        return self._index[key].meta["revision"] if key in self._index else -1

    def add(self, episode: Episode, *, interventions_only: bool = False) -> bool:
        """Store an episode, in place of a lower revision of it.

        Args:
            episode: Stored whole.
            interventions_only: Windows begin at a person's steps only; they may end behind them.

        Returns:
            False when the same or a higher revision is already held: nothing was done.

        Raises:
            ReplayError: the episode's shape is another, or it is longer than the buffer.
        """
        self.check(episode)
        if self.revision(episode.key) >= episode.revision:
            return False
        rows = episode.steps + 1
        held = self._index.get(episode.key)
        if held is not None and rows <= held.rows:
            segment = held
            self._write(segment, episode)
        else:
            self.remove(episode.key)
            while self._used + rows > self.capacity:
                self._drop_oldest()
            segment = _Segment(episode.key, self._head, rows, {}, "")
            self._head = (self._head + rows) % self.capacity
            self._used += rows
            self._segments.append(segment)
            self._index[episode.key] = segment
            self._write(segment, episode)
        segment.runs = _runs(episode.intervention) if interventions_only else ((0, episode.steps),)
        self._reindex()
        return True

    def remove(self, key: _Key) -> bool:
        """Take an episode out; its rows are reused when the ring comes round. False: not held."""
        segment = self._index.pop(key, None)
        if segment is None:
            return False
        segment.key = None
        self._reindex()
        return True

    def clear(self) -> None:
        """Take all episodes out."""
        self._segments, self._index = [], {}
        self._head = self._used = 0
        self._reindex()

    def get(self, key: _Key) -> Episode:
        """Return a stored episode, equal to the one that was added."""
        segment = self._index[key]
        steps = segment.meta["steps"]
        index = (segment.start + np.arange(steps + 1)) % self.capacity
        rows, flags = self._rows[index], self._flags[index[:-1]]
        obs, phase, base = (rows[:, columns] for columns in self._columns)
        meta = {name: value for name, value in segment.meta.items() if name != "steps"}
        return Episode(
            observation=obs[:, : self.obs_dim],
            base_action=base,
            chunk_phase=phase[:, 0],
            action=rows[:-1, self._action],
            reward=self._reward[index[:-1]],
            intervention=flags[:, 0],
            explored=flags[:, 1],
            images=self.frames.get(index),
            proposed=segment.proposed,
            **meta,
        )

    def entries(self) -> Iterator[tuple[_Key, str]]:
        """Yield (key, sha256) of each episode, in the order that sampling counts them."""
        for segment in self._segments:
            if segment.key is not None:
                yield segment.key, segment.sha256

    def observations(self) -> np.ndarray:
        """Return all observations that a step starts from, as sampled. Shape (steps, columns)."""
        return self._rows[self._locate(np.arange(len(self))), self._columns[0]]

    def sha256(self) -> str:
        """Hash the content: equal for the same episodes in the same order, wherever they lie."""
        return content_sha256(sha for _, sha in self.entries())

    def draw(self, rng: np.random.Generator, size: int, per_episode: bool = False) -> np.ndarray:
        """Draw ring positions of steps.

        A person's stretch counts as an episode where only interventions were stored.

        Args:
            rng: source of randomness.
            size: how many, with replacement.
            per_episode: draw episodes with equal chance, then a step in each; otherwise steps
                with equal chance.
        """
        if not len(self):
            raise ReplayError("the replay buffer is empty; add an episode before sampling")
        if not per_episode:
            return self._locate(rng.integers(0, len(self), size))
        which = rng.integers(0, len(self._starts), size)
        length = np.diff(self._ends, prepend=0)[which]
        return (self._starts[which] + (rng.random(size) * length).astype(np.int64)) % self.capacity

    def windows(self, index: np.ndarray, n_step: int, gamma: float) -> Windows:
        """Cut the n-step windows that begin at these ring positions."""
        memory = self.memory(len(index))
        self.fill(memory, index, n_step, gamma)
        return self.view(memory)

    def memory(self, size: int) -> Memory:
        """Return new memory for a batch, to be filled by `fill`."""
        return Memory(
            np.empty((2, size, self._rows.shape[1]), np.float32),
            np.empty(size, np.float32),
            np.empty(size, np.float32),
            self.frames.memory(2, size),
        )

    def fill(self, memory: Memory, index: np.ndarray, n_step: int, gamma: float) -> None:
        """Cut the windows that begin at these ring positions into as large a part of a batch."""
        left = self._steps_left[index]
        length = np.minimum(left, n_step)
        ahead = np.arange(n_step)
        rewards = self._reward[(index[:, None] + ahead) % self.capacity]
        powers = np.power(gamma, np.arange(n_step + 1))
        memory.reward[:] = np.where(ahead < length[:, None], rewards, 0.0) @ powers[:-1]
        ends = self._terminated[index] & (length == left)
        memory.discount[:] = np.where(ends, 0.0, powers[length])
        after = (index + length) % self.capacity
        for these, rows, frames in zip((index, after), memory.rows, memory.frames, strict=True):
            self._rows.take(these, axis=0, out=rows, mode="clip")
            self.frames.read(these, frames)

    def view(self, memory: Memory, demos: int = 0) -> Windows:
        """Return filled memory as a batch, without a copy."""
        obs, phase, base = self._columns
        now, then = memory.rows
        return Windows(
            observation=now[:, obs],
            base_action=now[:, base],
            chunk_phase=now[:, phase],
            action=now[:, self._action],
            reward=memory.reward,
            discount=memory.discount,
            next_observation=then[:, obs],
            next_base_action=then[:, base],
            next_chunk_phase=then[:, phase],
            demos=demos,
            images=self.frames.by_camera(memory.frames[0]),
            next_images=self.frames.by_camera(memory.frames[1]),
        )

    def check(self, episode: Episode) -> None:
        """Refuse an episode that does not fit; nothing changes.

        Raises:
            ReplayError: Its sizes or its length do not fit.
        """
        shapes = {camera: image.shape[1:] for camera, image in episode.images.items()}
        held = self.frames.shapes
        got = (episode.observation.shape[1], episode.action.shape[1])
        if got != (self.obs_dim, self.act_dim) or shapes != held:
            raise ReplayError(
                f"episode {episode.episode}: sizes {got} (observation, action), images {shapes}; "
                f"this buffer holds {(self.obs_dim, self.act_dim)} with {held}; "
                "use the contract the learner was started with"
            )
        if episode.steps + 1 > self.capacity:
            raise ReplayError(
                f"episode {episode.episode}: {episode.steps} steps, the buffer holds "
                f"{self.capacity - 1}; raise replay_capacity"
            )

    def _write(self, segment: _Segment, episode: Episode) -> None:
        steps = episode.steps
        index = (segment.start + np.arange(steps + 1)) % self.capacity
        rows = np.zeros((steps + 1, self._rows.shape[1]), np.float32)
        obs, phase, base = self._columns
        rows[:, : self.obs_dim], rows[:, phase] = episode.observation, episode.chunk_phase[:, None]
        if self.last_action:
            rows[1:, self.obs_dim : obs.stop] = episode.action
        rows[:, base], rows[:-1, self._action] = episode.base_action, episode.action
        self._rows[index] = rows
        self._reward[index] = np.append(episode.reward, np.float32(0))
        self._steps_left[index] = np.arange(steps, -1, -1)
        self._terminated[index] = episode.terminated
        self._flags[index[:-1], 0], self._flags[index[:-1], 1] = (
            episode.intervention,
            episode.explored,
        )
        self.frames.write(index, episode.images)
        names = ("terminated", "truncated", "episode", "revision", "mode", "seed", "success")
        names += ("contract_sha256", "base_sha256")
        segment.meta = {name: getattr(episode, name) for name in names} | {"steps": steps}
        segment.sha256, segment.proposed = episode.sha256, episode.proposed

    def _drop_oldest(self) -> None:
        segment = self._segments.pop(0)
        self._used -= segment.rows
        if segment.key is not None:
            del self._index[segment.key]

    def _reindex(self) -> None:
        live = [segment for segment in self._segments if segment.key is not None]
        runs = [(s.start + first, count) for s in live for first, count in s.runs]
        self._starts = np.array([start % self.capacity for start, _ in runs], np.int64)
        steps = np.array([count for _, count in runs], np.int64)
        self._ends = np.cumsum(steps)
        self._befores = self._ends - steps

    def _locate(self, step: np.ndarray) -> np.ndarray:
        """Turn the count of a step, over all episodes in order, into its ring position."""
        if not len(step):
            return np.zeros(0, np.int64)
        which = np.searchsorted(self._ends, step, side="right")
        return (self._starts[which] + step - self._befores[which]) % self.capacity


def _runs(mask: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return (first, count) of each unbroken stretch of true. Shape of `mask`: (steps,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True))
