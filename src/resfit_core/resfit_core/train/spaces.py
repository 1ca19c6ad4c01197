"""What a Gymnasium environment shows and takes, checked once and said in words where unfit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from resfit_core import tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.control.observe import shrink
from resfit_core.train.errors import TrainError

IMAGE_EDGE = 84  # [px]; larger images are cut to a square and averaged down for the residual


@dataclasses.dataclass(frozen=True)
class Camera:
    """An image in a Dict observation.

    Attributes:
        shape: as the environment gives it.
        channels_first: (3, H, W) instead of (H, W, 3).
    """

    shape: tuple[int, ...]
    channels_first: bool

    @property
    def kept_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) as the residual sees it."""
        height, width = self.shape[1:] if self.channels_first else self.shape[:2]
        if max(height, width) > IMAGE_EDGE:
            return IMAGE_EDGE, IMAGE_EDGE, 3
        return height, width, 3

    def kept(self, image: np.ndarray) -> np.ndarray:
        """Return the image as the residual sees it."""
        if self.channels_first:
            image = np.moveaxis(image, 0, -1)
        return np.ascontiguousarray(
            shrink(image, IMAGE_EDGE) if max(image.shape[:2]) > IMAGE_EDGE else image
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Spaces:
    """Layout of observations and range of actions.

    Attributes:
        vectors: key to shape, in the order in which they are joined; a flat Box has the key "".
        cameras: key to image; empty without images.
        low: least action that the environment takes. Shape (act_dim,), float64; likewise `high`.
        high: the largest.
        dtype: of the environment's actions.
    """

    vectors: Mapping[str, tuple[int, ...]]
    cameras: Mapping[str, Camera]
    low: np.ndarray
    high: np.ndarray
    dtype: np.dtype[Any]

    @property
    def is_dict(self) -> bool:
        """Whether observations are dictionaries."""
        return "" not in self.vectors

    @property
    def obs_dim(self) -> int:
        """Length of the joined vector."""
        return sum(int(np.prod(shape)) for shape in self.vectors.values())

    @property
    def act_dim(self) -> int:
        """Number of action dimensions."""
        return len(self.low)

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Camera to (H, W, 3) as the residual sees it."""
        return {key: camera.kept_shape for key, camera in self.cameras.items()}

    def split(self, raw: Any, where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the joined vector, float32, and the images by camera as they came.

        Raises:
            TrainError: the observation is not what its space says.
        """
        given = raw if self.is_dict else {"": raw}
        if not isinstance(given, Mapping):
            raise TrainError(
                f"{where}: observation is a {type(raw).__name__}, its space is a Dict"
            )
        for key, shape in [
            *self.vectors.items(),
            *((k, c.shape) for k, c in self.cameras.items()),
        ]:
            name = f"'{key}' of the observation" if key else "observation"
            if key not in given:
                raise TrainError(f"{where}: {name} is missing; found {sorted(given)}")
            if np.shape(given[key]) != tuple(shape):
                raise TrainError(
                    f"{where}: {name} has shape {np.shape(given[key])}, its space says {shape}"
                )
        parts = [np.asarray(given[key], np.float32).reshape(-1) for key in self.vectors]
        return np.concatenate(parts), {key: np.asarray(given[key]) for key in self.cameras}

    def join(self, vector: np.ndarray, images: Mapping[str, np.ndarray]) -> Any:
        """Undo `split`: return the observation in the environment's form, vectors as float32."""
        if not self.is_dict:
            return vector
        found: dict[str, np.ndarray] = {}
        start = 0
        for key, shape in self.vectors.items():
            size = int(np.prod(shape))
            found[key] = vector[start : start + size].reshape(shape)
            start += size
        return {**found, **images}

    def sha256(self, action_space: ActionSpace) -> str:
        """Hash layout and action range: what nets, episodes and checkpoints depend on."""
        facts = {
            "vectors": {key: list(shape) for key, shape in self.vectors.items()},
            "images": {key: list(shape) for key, shape in self.image_shapes.items()},
            "action": [action_space.low.tolist(), action_space.high.tolist()],
            "limits": [str(self.low.tolist()), str(self.high.tolist())],
        }
        return tensorfile.sha256(json.dumps(facts, sort_keys=True).encode())


def read_spaces(env: Any, name: str) -> Spaces:
    """Read an environment's spaces.

    Args:
        env: the environment.
        name: as the user gave it, for the error's words.

    Raises:
        TrainError: a space is of a kind or shape that cannot be used.
    """
    for part in ("observation_space", "action_space", "reset", "step"):
        if not hasattr(env, part):
            raise TrainError(
                f"--env '{name}': the factory gave a {type(env).__name__} without '{part}'; "
                "it must return a Gymnasium environment"
            )
    action = env.action_space
    flat = isinstance(action, spaces.Box) and len(action.shape) == 1 and action.shape[0] > 0
    if not flat or not np.issubdtype(action.dtype, np.floating):
        raise TrainError(
            f"--env '{name}': action space is {action}, a flat float Box is needed; "
            "wrap the environment (gymnasium.wrappers.TransformAction)"
        )
    vectors, cameras = _observed(env.observation_space, name)
    return Spaces(
        vectors,
        cameras,
        action.low.astype(np.float64),
        action.high.astype(np.float64),
        action.dtype,
    )


def _observed(space: Any, name: str) -> tuple[dict[str, tuple[int, ...]], dict[str, Camera]]:
    if isinstance(space, spaces.Box):
        if len(space.shape) != 1 or space.dtype == np.uint8:
            raise TrainError(
                f"--env '{name}': observation space is a Box {space.dtype} {space.shape}, flat "
                "numbers are needed; give images in a Dict, beside at least one vector"
            )
        return {"": space.shape}, {}
    if not isinstance(space, spaces.Dict):
        raise TrainError(
            f"--env '{name}': observation space is a {type(space).__name__}, a flat Box or a Dict "
            "of vectors and images is needed"
        )
    vectors: dict[str, tuple[int, ...]] = {}
    cameras: dict[str, Camera] = {}
    for key in sorted(space.spaces):
        part = space.spaces[key]
        if not isinstance(part, spaces.Box) or not key:
            raise TrainError(
                f"--env '{name}': observation '{key}' is a {type(part).__name__}, a Box is "
                "needed; flatten or drop it (gymnasium.wrappers.TransformObservation)"
            )
        if part.dtype == np.uint8 and len(part.shape) >= 2:
            cameras[key] = _camera(part.shape, key, name)
        else:
            vectors[key] = part.shape
    if not vectors:
        raise TrainError(
            f"--env '{name}': observation has images only ({sorted(cameras)}); "
            "add a vector, for example the joint positions"
        )
    return vectors, cameras


def _camera(shape: tuple[int, ...], key: str, name: str) -> Camera:
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        camera = Camera(shape, channels_first=shape[2] != 3)
        height, width = shape[1:] if camera.channels_first else shape[:2]
        if max(height, width) <= IMAGE_EDGE or min(height, width) >= IMAGE_EDGE:
            return camera
        needed = f"neither edge may pass {IMAGE_EDGE} px, or none fall below it"
    else:
        needed = "colour images (H, W, 3) or (3, H, W) are needed, one per camera"
    raise TrainError(f"--env '{name}': image '{key}' has shape {shape}; {needed}")
