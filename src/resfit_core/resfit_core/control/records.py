"""The graph's messages as plain records: what classes that decide are fed with and answer.

Field names and meaning are those of `resfit_interfaces`; stamps are whole nanoseconds, vectors are
numpy arrays. `resfit_ros.conversions` turns messages into these and back. Needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Phase(IntEnum):
    """`EpisodeState.phase`."""

    IDLE = 0
    RESETTING = 1
    READY = 2
    RUNNING = 3
    ENDED = 4
    PAUSED = 5
    FINISHED = 6


class Mode(IntEnum):
    """`EpisodeState.mode`; the numbers are those of `resfit_core.data.episode`."""

    WARMUP = 0
    TRAIN = 1
    EVALUATE = 2
    DEMO = 3


class EndedBy(IntEnum):
    """`EpisodeState.ended_by`."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    TIMEOUT = 3
    ABORTED = 4


class Source(IntEnum):
    """`ExecutedCommand.source`."""

    POLICY = 0
    TELEOP = 1
    HOLD = 2
    RESET = 3


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """State of the run and of the open episode; see `EpisodeState.msg`."""

    phase: int
    episode: int = 0
    mode: int = Mode.TRAIN
    run_id: str = ""
    seed: int = 0
    use_residual: bool = True
    required_weights_version: int = 0
    start_ns: int = 0
    end_ns: int = 0
    ended_by: int = EndedBy.NONE
    credited_step: int = -1
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    revision: int = 0
    reason: str = ""
    episodes_planned: int = 0
    seal: str = ""
    round: int = 0
    label: str = ""
    stamp_ns: int = 0

    def corrects_older_than(self, present: EpisodeState | None) -> bool:
        """Whether this is a later word on an episode before the one that `present` speaks of.

        It says nothing on what runs now: who acts must pass it over, or would take the running
        episode for ended.
        """
        older = present is not None and self.episode < present.episode
        return older and self.phase == Phase.ENDED


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One observation and the base's answer; see `PolicyStep.msg`.

    `observation` float32 (obs_dim,), `base_action` float32 (action_dim,), `images` uint8
    (size, size, 3) each, in the contract's camera order. In a blind evaluation `base_action` is
    empty and `base_action_sealed` holds it masked.
    """

    stamp_ns: int
    episode: int
    step: int
    is_first: bool
    is_last: bool
    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: float
    contract_sha256: str
    base_sha256: str
    images: tuple[np.ndarray, ...] = ()
    base_action_sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class Step:
    """One tick as the residual saw and proposed it; see `Step.msg`. `action`: empty if last."""

    stamp_ns: int
    episode: int
    step: int
    is_first: bool
    is_last: bool
    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: float
    action: np.ndarray
    weights_version: int
    explored: bool
    contract_sha256: str
    base_sha256: str
    images: tuple[np.ndarray, ...] = ()
    base_action_sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class ExecutedCommand:
    """The driver's answer to one tick; see `ExecutedCommand.msg`."""

    stamp_ns: int
    source: int
    action_rad: np.ndarray
    action_norm: np.ndarray
    altered: bool = False
    reasons: int = 0
