"""The observation, built once: flat vector and small images out of what the sensors say.

The base policy's node and the in-process rollout use this one builder, so that their numbers are
equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.kinematics import ForwardKinematics

_Item = TypeVar("_Item")


class ObservationError(ValueError):
    """Sensor data that does not fit the contract; the text names value and fix."""


class ObservationBuilder:
    """Builds flat observations in the contract's layout. Keeps no state between calls."""

    def __init__(self, contract: Contract) -> None:
        """Prepare the layout and the kinematics of the hands that the task looks from."""
        self._contract = contract
        self._layout = contract.layout
        if "hand_to_object" in self._layout and not contract.hands:
            raise ObservationError("field 'hand_to_object' needs the task's 'hand'")
        self._hands = [ForwardKinematics(h, contract.joint_names) for h in contract.hands]

    def build(
        self,
        joint_position: np.ndarray,
        joint_velocity: np.ndarray | None = None,
        wrenches: np.ndarray | Sequence[np.ndarray] | None = None,
        object_poses: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the observation, float32 of shape (obs_dim,).

        Arguments that no field of the contract needs may be None.

        Args:
            joint_position: Contract order [rad]. Shape: (action_dim,).
            joint_velocity: Contract order [rad/s]. Shape: (action_dim,).
            wrenches: Force [N] and torque [Nm], contract order. Shape: (number of wrenches, 6).
            object_poses: Contract's object order: x y z [m], quaternion x y z w, in the robot's
                base frame. Shape: (number of objects, 7); (number of objects, 3) will do.

        Raises:
            ObservationError: A needed input is missing, has another length, or is not finite.
        """
        out = np.empty(self._contract.obs_dim, np.float64)
        objects = None
        for name, where in self._layout.items():
            if name in ("object_position", "hand_to_object"):
                if objects is None:
                    objects = self._objects(name, object_poses)
                value = objects
                if name == "hand_to_object":
                    joints = np.asarray(joint_position, np.float64)
                    value = np.stack([objects - hand.tip(joints)[0] for hand in self._hands])
            else:
                value = {
                    "joint_position": joint_position,
                    "joint_velocity": joint_velocity,
                    "wrench": wrenches,
                }[name]
            out[where] = _flat(name, value, where.stop - where.start)
        if not np.isfinite(out).all():
            self._complain_not_finite(out)
        return out.astype(np.float32)

    def _objects(self, name: str, poses: np.ndarray | None) -> np.ndarray:
        count = len(self._contract.objects)
        poses = np.asarray([] if poses is None else poses, np.float64)
        if poses.ndim != 2 or len(poses) != count or poses.shape[1] < 3:
            raise ObservationError(
                f"{name}: object poses have shape {poses.shape}, ({count}, 7) is needed for "
                f"{list(self._contract.objects)}"
            )
        return poses[:, :3]

    def _complain_not_finite(self, out: np.ndarray) -> None:
        index = int(np.argmin(np.isfinite(out)))
        for name, where in self._layout.items():
            if where.start <= index < where.stop:
                raise ObservationError(
                    f"{name}[{index - where.start}] is {out[index]}; drop the tick, never fill it"
                )


def _flat(name: str, value: Any, length: int) -> np.ndarray:
    if value is None:
        raise ObservationError(f"{name} is missing; the contract's observation needs it")
    flat = np.asarray(value, np.float64).reshape(-1)
    if len(flat) != length:
        raise ObservationError(f"{name} has {len(flat)} values, {length} are needed")
    return flat


class JointOrder:
    """Brings joint vectors from a message's name order to the contract's."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the wanted order."""
        self._names = tuple(names)
        self._known: dict[tuple[str, ...], np.ndarray] = {}

    def sort(self, names: Sequence[str], values: np.ndarray) -> np.ndarray:
        """Return `values`, given in the order `names`, in the wanted order; more names may come.

        Raises:
            ObservationError: A joint is missing or lengths differ.
        """
        names = tuple(names)
        if len(values) != len(names):
            raise ObservationError(
                f"joint vector has {len(values)} values for {len(names)} names; both must agree"
            )
        if names == self._names:
            return values
        if names not in self._known:
            missing = [n for n in self._names if n not in names]
            if missing:
                raise ObservationError(
                    f"joint '{missing[0]}' is missing ({len(missing)} of {len(self._names)} are); "
                    "the robot YAML lists the joints that must be there"
                )
            self._known[names] = np.array([names.index(n) for n in self._names])
        return values[self._known[names]]


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the middle square out of an image and average it down to `size` x `size`.

    Plain numpy area average, so that robot, twin and training agree to the bit wherever they run.

    Args:
        image: uint8 RGB. Shape: (height, width, 3).
        size: Edge of the result [px].

    Raises:
        ObservationError: Not such an image, or smaller than the result.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ObservationError(
            f"image is {image.dtype} {image.shape}; uint8 (height, width, 3) is needed"
        )
    height, width, _ = image.shape
    edge = min(height, width)
    if edge == size and height == width:
        return np.ascontiguousarray(image)
    if edge < size:
        raise ObservationError(f"image is {width} x {height}, at least {size} x {size} is needed")
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge].astype(np.float32)
    weights = _area_weights(edge, size)
    rows = np.tensordot(weights, square, axes=(1, 0))  # (size, edge, 3)
    small = np.einsum("ab,xbc->xac", weights, rows, optimize=True)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


_WEIGHTS: dict[tuple[int, int], np.ndarray] = {}


def _area_weights(edge: int, size: int) -> np.ndarray:
    """Share of each source pixel in each target pixel. Shape: (size, edge); rows sum to 1."""
    if (edge, size) not in _WEIGHTS:
        bounds = np.arange(size + 1) * (edge / size)
        low, high = bounds[:-1, None], bounds[1:, None]
        pixel = np.arange(edge)[None]
        overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
        _WEIGHTS[edge, size] = (overlap / (edge / size)).astype(np.float32)
    return _WEIGHTS[edge, size]


class Pictures(Mapping[str, np.ndarray]):
    """A simulator's images of one instant, each drawn when it is first asked for.

    A base that plans once per chunk looks once per chunk, and drawing is what takes the time.
    """

    def __init__(self, cameras: Sequence[str], draw: Callable[[str], np.ndarray]) -> None:
        """Take the cameras' names, and what draws one."""
        self._cameras, self._draw = tuple(cameras), draw
        self._drawn: dict[str, np.ndarray] = {}
        self._over = False

    def close(self) -> None:
        """Tell that the instant is over: what was not drawn can no longer be."""
        self._over = True

    def __getitem__(self, camera: str) -> np.ndarray:
        """Return a camera's image.

        Raises:
            KeyError: There is no such camera.
            ObservationError: The instant is over.
        """
        if camera not in self._cameras:
            raise KeyError(camera)
        if camera not in self._drawn:
            if self._over:
                raise ObservationError(
                    f"image of camera '{camera}' was not asked for before the next step; "
                    "look at it, or copy the mapping, when it comes"
                )
            self._drawn[camera] = self._draw(camera)
        return self._drawn[camera]

    def __iter__(self) -> Iterator[str]:
        """Go through the cameras' names."""
        return iter(self._cameras)

    def __len__(self) -> int:
        """Return the number of cameras."""
        return len(self._cameras)


class Joined(NamedTuple, Generic[_Item]):
    """One set of sensor data; `stamp_ns` is that of the oldest member."""

    stamp_ns: int
    items: Mapping[str, _Item]


DEPTH = 10
"""Half sets that a joiner keeps of each stream."""


class SensorJoiner(Generic[_Item]):
    """Joins the newest data of several streams to sets. Not thread-safe.

    - `exact` (lock-step): a set is complete when every stream has the same stamp. A stamp that was
      taken already joins again when all of it is sent again: the twin repeats what got no answer.
      Nothing older than the newest set joins any more.
    - otherwise (real time): the newest item of every stream, as long as their stamps differ by
      no more than `slack_ns`; the primary stream's stamp is the set's.

    Where ROS has `message_filters`, `resfit_ros.joining` does the same with it.
    """

    def __init__(
        self, streams: Sequence[str], *, exact: bool, slack_ns: int = 0, depth: int = DEPTH
    ) -> None:
        """Start empty.

        Args:
            streams: Names; the first is the primary one, whose stamp is the set's.
            exact: Join by equal stamp.
            slack_ns: Largest difference of stamps within a set [ns]; for real time.
            depth: Items that wait for their set, of each stream; the oldest goes first.
        """
        self._streams = tuple(streams)
        self._exact, self._slack, self._depth = exact, slack_ns, depth
        self._newest: dict[str, tuple[int, _Item]] = {}
        self._open: dict[str, dict[int, _Item]] = {name: {} for name in self._streams}
        self._joined_ns = -1

    def add(self, stream: str, stamp_ns: int, item: _Item) -> Joined[_Item] | None:
        """Take one item; return the set it completes (lock-step), else None."""
        if not self._exact:
            self._newest[stream] = (stamp_ns, item)
            return None
        waiting = self._open[stream]
        waiting[stamp_ns] = item
        while len(waiting) > self._depth:
            del waiting[min(waiting)]
        if any(stamp_ns not in items for items in self._open.values()):
            return None
        joined = Joined(stamp_ns, {name: self._open[name].pop(stamp_ns) for name in self._streams})
        if stamp_ns < self._joined_ns:
            return None  # the twin has moved on
        self._joined_ns = stamp_ns
        return joined

    def newest(self, now_ns: int, max_age_ns: int) -> Joined[_Item] | None:
        """Return the newest set (real time); None if a stream is silent, too old or too far off.

        Args:
            now_ns: Time on the clock of the stamps [ns].
            max_age_ns: Oldest allowed stamp of any member [ns].
        """
        return newest_set(self._streams, self._newest, now_ns, max_age_ns, self._slack)


def newest_set(
    streams: Sequence[str],
    newest: Mapping[str, tuple[int, _Item]],
    now_ns: int,
    max_age_ns: int,
    slack_ns: int,
) -> Joined[_Item] | None:
    """Return the newest items as a set; see `SensorJoiner`.

    Args:
        streams: Names, the primary one first.
        newest: Stamp [ns] and item of each stream that has sent.
        now_ns: Time on the clock of the stamps [ns].
        max_age_ns: Oldest allowed stamp of any member [ns].
        slack_ns: Largest difference of stamps within a set [ns].
    """
    if any(name not in newest for name in streams):
        return None
    stamps = [newest[name][0] for name in streams]
    if now_ns - min(stamps) > max_age_ns or max(stamps) - min(stamps) > slack_ns:
        return None
    return Joined(stamps[0], {name: newest[name][1] for name in streams})
