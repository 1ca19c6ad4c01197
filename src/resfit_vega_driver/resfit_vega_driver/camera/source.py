"""What the camera node needs of a stereo camera, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

EYES = ("left", "right")


class CameraError(RuntimeError):
    """The camera cannot be reached or gives no frame; the text says how to mend it."""


class CameraRefused(CameraError, ValueError):
    """The settings ask for what cannot be: trying again would not help."""


class EndOfFile(CameraError):
    """A file that is played once has been played."""


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths and principal point of one rectified eye [px]."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Calibration:
    """A rectified stereo pair.

    Attributes:
        width: Of the picture that the numbers hold for [px].
        height: See `width` [px].
        eyes: Intrinsics of left and right.
        baseline_m: Distance between the two [m].
    """

    width: int
    height: int
    eyes: tuple[Pinhole, Pinhole]
    baseline_m: float


@dataclass(frozen=True)
class StereoFrame:
    """Two pictures taken at one time.

    Attributes:
        stamp_ns: When they were taken, on the system's clock [ns].
        eyes: Left and right, uint8 BGR or BGRA. Shape of each: (height, width, 3 or 4).
    """

    stamp_ns: int
    eyes: tuple[np.ndarray, np.ndarray]


class CameraSource(Protocol):
    """One stereo camera. Used by one thread at a time.

    Attributes:
        name: For people: what it is and where.
        rate_hz: Frames that it promises [1/s].
    """

    name: str
    rate_hz: float

    def open(self) -> Calibration | None:
        """Connect; return the calibration of the pictures, None if nobody knows it.

        Raises:
            CameraError: It cannot be reached.
        """

    def grab(self) -> StereoFrame:
        """Wait for the next frame, a bounded time, and return it. The caller owns the arrays.

        Raises:
            EndOfFile: There is no further frame.
            CameraError: There was none.
        """

    def close(self) -> None:
        """Release everything; called with partial state too. It may be opened again."""
