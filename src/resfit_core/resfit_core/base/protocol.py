"""What a frozen base policy is to the rest of the suite, and the chunk queue they all share.

Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.contract import FIELDS, Contract

Images = Mapping[str, np.ndarray]
Planner = Callable[[np.ndarray, Images | None], np.ndarray]
Locate = Callable[[np.ndarray], np.ndarray]
"""uint8 images (n, cameras, size, size, 3) to the hands' places [m] (n, places, 3)."""


class BaseError(ValueError):
    """A base policy that cannot be loaded or does not do its work; the text names the fix."""


class BaseAction(NamedTuple):
    """One step of the open-loop chunk.

    Attributes:
        action_norm: float32 (action_dim,), in [-1, 1] of the base's action space.
        chunk_phase: index in the chunk / chunk length, [0, 1); 0: newly planned.
        planned: a new chunk was planned for this step.
    """

    action_norm: np.ndarray
    chunk_phase: float
    planned: bool


@runtime_checkable
class BasePolicy(Protocol):
    """A frozen policy, asked once per control step. Not thread-safe.

    It may have one more attribute, `observation_fields`: names of the fields of `observation` that
    it wants to see in place of the contract's, as a scripted expert does that knows where the
    objects are while everybody else sees images. Only the node serves it.

    Attributes:
        chunk_length: steps executed open loop from one plan.
        action_space: maps its normalised actions to joint targets.
        base_sha256: hash of weights and normalisation, 64 hex digits.
        contract_sha256: hash of the contract it was made for, 64 hex digits.
    """

    chunk_length: int
    action_space: ActionSpace
    base_sha256: str
    contract_sha256: str

    def reset(self, seed: int | None = None) -> None:
        """Drop the chunk; the next action plans anew. `seed`: of the scene, for its own noise."""

    def act(self, observation: np.ndarray, images: Images | None = None) -> BaseAction:
        """Return the next action of the chunk, planning a new one where it is used up.

        Args:
            observation: float32 (obs_dim,), contract layout, SI units.
            images: camera name to uint8 RGB (height, width, 3); None where the contract has none.
        """


def observation_fields(base: BasePolicy, contract: Contract) -> tuple[str, ...]:
    """Return the fields of the observation that `base` wants to see; mostly the contract's.

    Raises:
        BaseError: A field has no name that exists.
    """
    fields = tuple(getattr(base, "observation_fields", contract.fields))
    for name in fields:
        if name not in FIELDS:
            raise BaseError(f"base policy wants observation field '{name}'; known: {FIELDS}")
    return fields


class ChunkedBase:
    """Executes what a planner plans, chunk by chunk, open loop."""

    def __init__(
        self,
        planner: Planner,
        chunk_length: int,
        action_space: ActionSpace,
        base_sha256: str,
        contract_sha256: str,
        locate: Locate | None = None,
    ) -> None:
        """Start with no chunk.

        Args:
            planner: (observation, images) to normalised actions (chunk_length, action_dim).
            chunk_length: Steps of one chunk, all of them executed.
            action_space: Maps them to joint targets.
            base_sha256: Hash of weights and normalisation.
            contract_sha256: Hash of the contract.
            locate: Tells the hands' places; None: it cannot.
        """
        if chunk_length < 1:
            raise BaseError(f"chunk_length is {chunk_length}, must be 1 or more")
        self._plan = planner
        self.chunk_length = chunk_length
        self.action_space = action_space
        self.base_sha256 = base_sha256
        self.contract_sha256 = contract_sha256
        self.locate = locate
        self._chunk = np.empty((0, 0), np.float32)
        self._index = 0

    def reset(self, seed: int | None = None) -> None:
        """Drop the chunk."""
        del seed  # open-loop chunks have no noise of their own
        self._index = len(self._chunk)

    def act(self, observation: np.ndarray, images: Images | None = None) -> BaseAction:
        """Return the next action; see `BasePolicy.act`.

        Raises:
            BaseError: The planner gave another shape or a value that is not finite.
        """
        planned = self._index >= len(self._chunk)
        if planned:
            self._chunk, self._index = self._checked(self._plan(observation, images)), 0
        action = self._chunk[self._index].copy()
        phase = self._index / self.chunk_length
        self._index += 1
        return BaseAction(action, phase, planned)

    def _checked(self, chunk: np.ndarray) -> np.ndarray:
        expected = (self.chunk_length, len(self.action_space.low))
        chunk = np.asarray(chunk, np.float32)
        if chunk.shape != expected:
            raise BaseError(f"base policy planned shape {chunk.shape}, {expected} is needed")
        if not np.isfinite(chunk).all():
            step, joint = np.argwhere(~np.isfinite(chunk))[0]
            raise BaseError(
                f"base policy planned {chunk[step, joint]} for joint {joint} at step {step} "
                "of the chunk; check its weights and the observation's normalisation"
            )
        return np.clip(chunk, -1.0, 1.0)


def open_loop(
    base: BasePolicy,
    observations: np.ndarray,
    images: Sequence[Images],
    seed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the base would have proposed along a recorded episode, chunk by chunk.

    Args:
        base: Frozen; it is reset here, before and after.
        observations: Shape (rows, obs_dim).
        images: Those of each row; empty ones where there are no cameras.
        seed: Of the scene.

    Returns:
        Normalised actions of shape (rows, act_dim) and the chunk phase of shape (rows,), float32.
    """
    base.reset(seed)
    proposals = [base.act(o, i or None) for o, i in zip(observations, images, strict=True)]
    base.reset()
    phases = np.array([p.chunk_phase for p in proposals], np.float32)
    return np.stack([p.action_norm for p in proposals]), phases
