"""One closed episode: what was seen, what the base proposed, what was executed, how it ended.

The payload of `RecordedSteps` and the unit of the replay buffer. A step holds the action that was
*executed* (after the safety filter), not the one proposed: the critic learns what really happened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from resfit_core import tensorfile

WARMUP, TRAIN, EVALUATE, DEMO = 0, 1, 2, 3
"""Modes, with the numbers of `EpisodeState.mode`."""

_FORMAT = "resfit-episode-1"
_IMAGES = "images/"
_FLOATS = ("observation", "base_action", "chunk_phase", "action", "reward")
_PROPOSED = "proposed"
_FLAGS = ("intervention", "explored")
_META = {
    "terminated": bool,
    "truncated": bool,
    "episode": int,
    "revision": int,
    "mode": int,
    "seed": int,
    "success": bool,
    "contract_sha256": str,
    "base_sha256": str,
}
# Float32 rounding of a clipped action may pass 1 by one unit in the last place.
_ACTION_LIMIT = 1.0 + 1e-5
_MOST = 1e9  # of any number: its square must fit into a float32 mean


class EpisodeError(ValueError):
    """An episode that no learner should see; the text names field, value and fix."""


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """A closed episode of T steps and T + 1 observations.

    Attributes:
        observation: shape (T + 1, obs_dim), contract layout, SI units. The last row was seen after
            the last step; a truncated episode bootstraps from it.
        base_action: shape (T + 1, act_dim), what the frozen base proposed at each observation,
            normalised, [-1, 1]. The last row comes from the unreset chunk.
        chunk_phase: shape (T + 1,), place in the open-loop chunk, [0, 1).
        action: shape (T, act_dim), the executed action, normalised, [-1, 1].
        reward: shape (T,), 1 on the credited step of a success, else 0.
        terminated: the last step ended the task; nothing is bootstrapped.
        truncated: the last step was cut (time-out, abort); it is bootstrapped.
        intervention: shape (T,), a person acted.
        explored: shape (T,), exploration noise was added.
        episode: number in the run, from 1 (demos: number in the demo set, from 1).
        revision: of the verdict; a higher one replaces a lower.
        mode: WARMUP, TRAIN, EVALUATE or DEMO.
        seed: scene seed.
        success: the verdict.
        contract_sha256: hash of the contract, 64 hex digits (empty where there is none).
        base_sha256: hash of the base policy, 64 hex digits (empty where there is none).
        images: camera name to uint8 of shape (T + 1, H, W, 3); empty for state observations.
        proposed: shape (T, act_dim), what base and residual would have done, normalised, [-1, 1],
            beside what a person did; None: not kept.
    """

    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    truncated: bool
    intervention: np.ndarray
    explored: np.ndarray
    episode: int
    revision: int = 0
    mode: int = TRAIN
    seed: int = 0
    success: bool = False
    contract_sha256: str = ""
    base_sha256: str = ""
    images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    proposed: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Bring arrays to their types and refuse what does not fit.

        Raises:
            EpisodeError: a shape, a range or a combination of fields is wrong.
        """
        for name in self._floats:
            self._freeze(name, np.float32)
        for name in _FLAGS:
            self._freeze(name, np.bool_)
        for name, kind in _META.items():
            object.__setattr__(self, name, kind(getattr(self, name)))
        images = {camera: np.ascontiguousarray(image) for camera, image in self.images.items()}
        object.__setattr__(self, "images", MappingProxyType(images))
        self._check_shapes()
        self._check_values()

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.action)

    @property
    def _floats(self) -> tuple[str, ...]:
        return _FLOATS if self.proposed is None else (*_FLOATS, _PROPOSED)

    @property
    def key(self) -> tuple[bool, int]:
        """What identifies it whatever its revision: (is a demo, number)."""
        return self.mode == DEMO, self.episode

    @cached_property
    def sha256(self) -> str:
        """Hash of `to_bytes`, 64 hex digits."""
        return tensorfile.sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return safetensors bytes; equal episodes give equal bytes."""
        tensors = {name: getattr(self, name) for name in (*self._floats, *_FLAGS)}
        tensors.update({_IMAGES + camera: image for camera, image in self.images.items()})
        header = {name: getattr(self, name) for name in _META}
        return tensorfile.pack(tensors, {"format": _FORMAT, **header})

    @classmethod
    def from_bytes(cls, data: bytes) -> Episode:
        """Read what `to_bytes` wrote.

        Raises:
            EpisodeError: the bytes are damaged, of another format, or an invalid episode.
        """
        try:
            tensors, header = tensorfile.unpack(data, "episode")
        except tensorfile.TensorFileError as error:
            raise EpisodeError(str(error)) from error
        if header.get("format") != _FORMAT:
            raise EpisodeError(
                f"episode: format is {header.get('format')!r}, expected {_FORMAT!r}; "
                "record it again or use the release that wrote it"
            )
        missing = [name for name in (*_FLOATS, *_FLAGS) if name not in tensors]
        missing += [name for name in _META if name not in header]
        if missing:
            raise EpisodeError(f"episode: missing {missing}; record it again")
        kinds = {n: tensors[n].dtype for n in (*_FLOATS, *_FLAGS, _PROPOSED) if n in tensors}
        wrong = [n for n, found in kinds.items() if found != (bool if n in _FLAGS else np.float32)]
        wrong += [name for name, kind in _META.items() if type(header[name]) is not kind]
        if wrong:
            raise EpisodeError(f"episode: {wrong} are of another type; record it again")
        images = {k[len(_IMAGES) :]: v for k, v in tensors.items() if k.startswith(_IMAGES)}
        fields: dict[str, Any] = {name: tensors[name] for name in (*_FLOATS, *_FLAGS)}
        fields[_PROPOSED] = tensors.get(_PROPOSED)
        return cls(**fields, **{name: header[name] for name in _META}, images=images)

    def replace(self, **changes: Any) -> Episode:
        """Return a copy with some fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    def _freeze(self, name: str, dtype: type) -> None:
        try:
            value = np.array(getattr(self, name), dtype=dtype, order="C")
        except (TypeError, ValueError) as error:
            raise EpisodeError(
                f"{self._who()}: {name} is not an array of {dtype.__name__}"
            ) from error
        value.setflags(write=False)
        object.__setattr__(self, name, value)

    def _who(self) -> str:
        return f"episode {self.episode} revision {self.revision}"

    def _check_shapes(self) -> None:
        if self.action.ndim != 2 or len(self.action) < 1:
            raise EpisodeError(
                f"{self._who()}: action has shape {self.action.shape}, expected (T, act_dim) with "
                "T >= 1; leave out episodes without a complete step"
            )
        steps, act_dim = self.action.shape
        if self.observation.ndim != 2:
            raise EpisodeError(
                f"{self._who()}: observation has shape {self.observation.shape}, "
                f"expected ({steps + 1}, obs_dim)"
            )
        expected = {
            "observation": (steps + 1, self.observation.shape[1]),
            "base_action": (steps + 1, act_dim),
            "chunk_phase": (steps + 1,),
            "reward": (steps,),
            "intervention": (steps,),
            "explored": (steps,),
        }
        if self.proposed is not None:
            expected[_PROPOSED] = (steps, act_dim)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise EpisodeError(
                    f"{self._who()}: {name} has shape {getattr(self, name).shape}, expected "
                    f"{shape} for {steps} steps; the last observation belongs to it, with its "
                    "base action"
                )
        for camera, image in self.images.items():
            good = image.dtype == np.uint8 and image.ndim == 4
            if not good or len(image) != steps + 1 or image.shape[3] != 3:
                raise EpisodeError(
                    f"{self._who()}: images[{camera!r}] is {image.dtype} {image.shape}, expected "
                    f"uint8 ({steps + 1}, H, W, 3)"
                )

    def _check_values(self) -> None:
        for name in self._floats:
            sound = np.abs(getattr(self, name)) <= _MOST  # false where it is not a number
            if not sound.all():
                where = tuple(int(i) for i in np.argwhere(~sound)[0])
                raise EpisodeError(
                    f"{self._who()}: {name}{list(where)} is {getattr(self, name)[where]}; "
                    "drop the step at the source, never fill it in"
                )
        for name in [n for n in ("base_action", "action", _PROPOSED) if n in self._floats]:
            largest = float(np.abs(getattr(self, name)).max())
            if largest > _ACTION_LIMIT:
                raise EpisodeError(
                    f"{self._who()}: {name} reaches {largest:.4g}, outside [-1, 1]; "
                    "normalise it with the contract"
                )
        if float(self.chunk_phase.min()) < 0.0 or float(self.chunk_phase.max()) > 1.0:
            raise EpisodeError(
                f"{self._who()}: chunk_phase leaves [0, 1]; use index / chunk length"
            )
        if self.terminated == self.truncated:
            raise EpisodeError(
                f"{self._who()}: terminated and truncated are both {self.terminated}; exactly one "
                "ends an episode"
            )
        if self.success and not self.terminated:
            raise EpisodeError(f"{self._who()}: success without terminated; a success terminates")
        if self.mode not in (WARMUP, TRAIN, EVALUATE, DEMO):
            raise EpisodeError(f"{self._who()}: mode is {self.mode}, expected 0, 1, 2 or 3")
        for name, bits in (("episode", 32), ("revision", 32), ("seed", 64)):
            if not 0 <= getattr(self, name) < 2**bits:
                raise EpisodeError(
                    f"{self._who()}: {name} is {getattr(self, name)}, must be >= 0, in {bits} bits"
                )
