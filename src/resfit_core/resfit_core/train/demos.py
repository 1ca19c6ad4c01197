"""Demonstrations out of one npz file, relabelled with what the base would have done.

    obs            (N, obs_dim)                flat Box
    obs.<key>      (N, *shape)                 Dict: one array per key, vectors and images alike
    actions        (N, act_dim)                the environment's actions
    episode_ends   (E,)                        first index after each episode; the last is N

The last step of each episode is the success.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase, open_loop
from resfit_core.data.episode import DEMO, Episode
from resfit_core.train.errors import TrainError, one_line
from resfit_core.train.spaces import Spaces


@dataclasses.dataclass(frozen=True, eq=False)
class Demos:
    """The file, checked.

    Attributes:
        vector: (N, obs_dim), float32.
        images: camera to (N, ...) as the environment gives them.
        actions: (N, act_dim), float64, within the environment's action Box.
        ends: (E,), first index after each episode.
    """

    vector: np.ndarray
    images: Mapping[str, np.ndarray]
    actions: np.ndarray
    ends: np.ndarray


def read_demos(path: Path, spaces: Spaces) -> Demos:
    """Read and check the file. Actions outside the Box are clipped, as the environment does it.

    Raises:
        TrainError: no such file, or an array is missing, of another shape or not finite.
    """
    arrays = _arrays(path)

    def take(key: str, shape: tuple[int, ...], of: str) -> np.ndarray:
        if key not in arrays:
            raise TrainError(f"--demos '{path}': array '{key}' is missing; found {sorted(arrays)}")
        found = arrays[key]
        if found.ndim == 0 or found.shape[1:] != shape or found.dtype.kind not in "fiub":
            needed = ", ".join(["N", *map(str, shape)])
            raise TrainError(
                f"--demos '{path}': '{key}' is {found.dtype} {found.shape}, expected numbers of "
                f"shape ({needed}) as {of}"
            )
        return found

    actions = take("actions", (spaces.act_dim,), "the environment's action space")
    ends = take("episode_ends", (), "first index after each episode").astype(np.int64)
    count = len(actions)
    if not len(ends) or ends[-1] != count or (np.diff(ends, prepend=0) < 1).any():
        raise TrainError(
            f"--demos '{path}': episode_ends {_short(ends)} must rise and end with {count}, the "
            "number of actions: the first index after each episode"
        )
    shapes = {**spaces.vectors, **{key: c.shape for key, c in spaces.cameras.items()}}
    seen = {}
    for key, shape in shapes.items():
        name = f"obs.{key}" if key else "obs"
        seen[key] = take(name, tuple(shape), "the environment's observation space")
        if len(seen[key]) != count:
            raise TrainError(
                f"--demos '{path}': '{name}' has {len(seen[key])} rows, 'actions' has {count}; "
                "one observation belongs to each action"
            )
        if key in spaces.cameras and seen[key].dtype != np.uint8:
            raise TrainError(f"--demos '{path}': '{name}' is {seen[key].dtype}, uint8 is needed")
    vector = np.concatenate(
        [seen[key].reshape(count, -1).astype(np.float32) for key in spaces.vectors], axis=1
    )
    for name, values in (("obs", vector), ("actions", actions)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise TrainError(
                f"--demos '{path}': '{name}' is {values[tuple(bad[0])]} at {bad[0].tolist()}; "
                "drop that episode"
            )
    clipped = np.clip(actions.astype(np.float64), spaces.low, spaces.high)
    return Demos(vector, {key: seen[key] for key in spaces.cameras}, clipped, ends)


def relabel(
    demos: Demos, spaces: Spaces, base: ChunkedBase, action_space: ActionSpace
) -> list[Episode]:
    """Return the demonstrations as episodes, with the base's proposals along them, open loop."""
    episodes = []
    for number, (start, end) in enumerate(zip([0, *demos.ends[:-1]], demos.ends, strict=True), 1):
        # The file has no observation after the last step. A success terminates, so nothing is
        # ever bootstrapped from that row: a copy of the last observation fills it.
        rows = np.append(np.arange(start, end), end - 1)
        steps = int(end - start)
        full = [{key: images[row] for key, images in demos.images.items()} for row in rows]
        proposals, phases = open_loop(base, demos.vector[rows], full)
        reward = np.zeros(steps, np.float32)
        reward[-1] = 1.0
        episodes.append(
            Episode(
                observation=demos.vector[rows],
                base_action=proposals,
                chunk_phase=phases,
                action=action_space.to_norm(demos.actions[start:end]),
                reward=reward,
                terminated=True,
                truncated=False,
                intervention=np.zeros(steps, np.bool_),
                explored=np.zeros(steps, np.bool_),
                episode=number,
                mode=DEMO,
                success=True,
                contract_sha256=base.contract_sha256,
                base_sha256=base.base_sha256,
                images={
                    key: np.stack([camera.kept(seen[key]) for seen in full])
                    for key, camera in spaces.cameras.items()
                },
            )
        )
    return episodes


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise TrainError(
            f"--demos '{path}' cannot be read ({error.strerror or one_line(error)})"
        ) from error
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TrainError(
            f"--demos '{path}' is no npz of plain arrays ({one_line(error, 120)}); "
            "write it with numpy.savez_compressed"
        ) from error


def _short(values: np.ndarray) -> str:
    return str(values.tolist()) if len(values) <= 6 else f"[{values[0]}, …, {values[-1]}]"
