"""Whether cameras can be believed: silent ones, and frozen ones that send one picture for ever.

Whoever looks at images asks this one class: the camera node, which knows the camera, and the base
policy's node, which must notice whatever camera node there is. Needs numpy only; no ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.control.limits import beside
from resfit_core.strict_yaml import ContractError, check_keys, read_yaml

_TWINS = 3  # so many pictures that do not differ are no chance
_ROWS = 16  # every so many rows are compared first: pictures that differ nearly always do there


@dataclass(frozen=True)
class ImageLimits:
    """How long a camera is trusted.

    Attributes:
        stale_s: Without any picture the episode ends after so long [s]. The robot holds long
            before: ticks without a fresh picture are dropped at once.
        frozen_s: Pictures that do not differ by one bit are not believed after so long [s]; 0:
            they always are.
        moved_rad: Where still pictures may be right (a simulator draws without noise): only where
            a joint has been so far from where it was at the last picture that differed [rad],
            though it may have come back.
    """

    stale_s: float = 1.0
    frozen_s: float = 0.5
    moved_rad: float = 0.05

    @classmethod
    def read(cls, data: Any, where: str) -> ImageLimits:
        """Check and take the section `watch`.

        Raises:
            ContractError: A key or value is wrong; the text names it.
        """
        check_keys(data, {"stale_s", "frozen_s", "moved_rad"}, where)
        for key, value in data.items():
            least = 0 if key == "frozen_s" else 1e-9
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not good or not least <= value < np.inf:
                raise ContractError(f"{where}: '{key}' is {value!r}, a number above 0 is needed")
        return cls(**{key: float(value) for key, value in data.items()})


def load_image_limits(robot_file: str | Path) -> ImageLimits:
    """Read the section `watch` of `<robot>.camera.yaml`; the defaults where there is no such file.

    Raises:
        ContractError: The file is wrong.
    """
    file = beside(robot_file, "camera")
    if not file.is_file():
        return ImageLimits()
    data = read_yaml(file)
    if "watch" not in data:
        raise ContractError(f"{file}: missing key 'watch'")
    return ImageLimits.read(data["watch"], f"{file}: watch")


@dataclass
class _Seen:
    at_s: float
    changed_s: float
    same: int = 0
    picture: np.ndarray | None = None
    pose: np.ndarray | None = None  # when it last changed
    moved_rad: float = 0.0  # the farthest that a joint was from there since


class ImageWatch:
    """Remembers the newest picture of each camera. Not thread-safe.

    All times are of one steady clock [s].
    """

    def __init__(self, names: Sequence[str], limits: ImageLimits) -> None:
        """Watch these cameras; `begin` starts it."""
        self._limits = limits
        self._seen = {name: _Seen(-np.inf, -np.inf) for name in names}
        self._began_s = np.inf

    def begin(self, now_s: float) -> None:
        """Blame nobody for what was before: from now on every camera must send."""
        self._began_s = now_s
        for seen in self._seen.values():
            seen.changed_s, seen.same, seen.pose = max(seen.changed_s, now_s), 0, None

    def seen(self, name: str, picture: np.ndarray, now_s: float) -> None:
        """Take a picture, uint8 of any shape. It is kept, not copied: do not write over it."""
        seen = self._seen[name]
        seen.at_s = now_s
        if _alike(seen.picture, picture):
            seen.same += 1
        else:
            seen.same, seen.changed_s, seen.pose = 0, now_s, None
        seen.picture = picture

    def fault(self, now_s: float, pose: np.ndarray | None = None) -> str:
        """Return what is wrong with a camera, in words; empty: nothing.

        Args:
            now_s: Time now [s].
            pose: Measured joints [rad]; None: still pictures are wrong whatever the robot does.
        """
        limits = self._limits
        for name, seen in self._seen.items():
            silent_s = now_s - max(seen.at_s, self._began_s)
            if silent_s > limits.stale_s:
                return f"camera '{name}' is silent: no image for {silent_s:.1f} s"
            self._follow(seen, pose)
            still_s = now_s - seen.changed_s
            if not limits.frozen_s or still_s <= limits.frozen_s or seen.same < _TWINS:
                continue
            words = f"camera '{name}' is frozen: {seen.same + 1} images without any change"
            if pose is None:
                return words
            if seen.moved_rad > limits.moved_rad:
                return f"{words} while a joint moved {seen.moved_rad:.2f} rad"
        return ""

    @staticmethod
    def _follow(seen: _Seen, pose: np.ndarray | None) -> None:
        if pose is None or not pose.size or not np.isfinite(pose).all():
            return  # no pose, or none that says anything
        if seen.pose is None or seen.pose.shape != pose.shape:
            seen.pose, seen.moved_rad = np.array(pose), 0.0
        seen.moved_rad = max(seen.moved_rad, float(np.abs(pose - seen.pose).max()))


def _alike(a: np.ndarray | None, b: np.ndarray) -> bool:
    if a is None or a.shape != b.shape:
        return False
    return np.array_equal(a[::_ROWS], b[::_ROWS]) and np.array_equal(a, b)
