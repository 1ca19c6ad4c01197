"""A USB ZED without the SDK: to the system it is a webcam whose picture is both eyes side by side.

Not for a ZED X, which sits on GMSL and needs the SDK. Pictures are raw unless the factory's
calibration file is given; with it they are rectified here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_vega_driver.camera.factory_calibration import Rectifier, read_calibration
from resfit_vega_driver.camera.opencv import import_opencv
from resfit_vega_driver.camera.source import (
    Calibration,
    CameraError,
    CameraRefused,
    StereoFrame,
)

RESOLUTIONS = {
    "HD2K": (2208, 1242),
    "HD1080": (1920, 1080),
    "HD720": (1280, 720),
    "VGA": (672, 376),
}
"""Of one eye: width, height [px]."""
_BELIEVED_NS = 1_000_000_000  # a capture time further back than this is no capture time


@dataclass(frozen=True)
class UvcSettings:
    """Which device, and how.

    Attributes:
        device: `/dev/video…`, or better `/dev/v4l/by-id/…`.
        resolution: One of `RESOLUTIONS`.
        rate_hz: Frames [1/s].
        calibration: The factory's `SN….conf`; empty: pictures stay as they are.
    """

    device: str = "/dev/video0"
    resolution: str = "HD720"
    rate_hz: float = 30.0
    calibration: str = ""


class UvcSource:
    """Grabs the double picture and cuts it in two."""

    def __init__(
        self,
        settings: UvcSettings,
        capture: Callable[[str], Any] | None = None,
        clocks: Callable[[], tuple[int, int]] = lambda: (time.time_ns(), time.monotonic_ns()),
    ) -> None:
        """Connect to nothing yet.

        Args:
            settings: Of the site.
            capture: Opens a device as `cv2.VideoCapture` does; None: by OpenCV.
            clocks: Wall and steady time now [ns].

        Raises:
            CameraRefused: There is no such resolution.
        """
        if settings.resolution not in RESOLUTIONS:
            raise CameraRefused(
                f"uvc: resolution '{settings.resolution}' is not one of {list(RESOLUTIONS)}"
            )
        self._settings, self._open_capture, self._clocks = settings, capture, clocks
        self._size = RESOLUTIONS[settings.resolution]
        self._capture: Any = None
        self._rectifier: Rectifier | None = None
        self.rate_hz = settings.rate_hz
        self.name = f"ZED as webcam {settings.device} ({settings.resolution})"

    def open(self) -> Calibration | None:
        """Open the device and make sure that it gives what was asked for."""
        cv2 = import_opencv()
        path, (width, height) = self._settings.calibration, self._size
        if path:
            self._rectifier = Rectifier(read_calibration(Path(path), width, height), width, height)
        opener = self._open_capture or (lambda device: cv2.VideoCapture(device, cv2.CAP_V4L2))
        self._capture = opener(self._settings.device)
        if not self._capture.isOpened():
            raise CameraError(
                f"{self._settings.device} does not open: is the camera plugged in, are you in "
                "group 'video', does another program hold it?"
            )
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, 2 * width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, self.rate_hz),
        ):
            self._capture.set(key, value)
        found = (
            round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if found != (2 * width, height):
            raise CameraError(
                f"{self._settings.device} gives {found[0]} x {found[1]}, not the {2 * width} x "
                f"{height} of two eyes side by side: it is no ZED, or its USB port is no USB 3"
            )
        self._age_key = cv2.CAP_PROP_POS_MSEC
        return self._rectifier.calibration if self._rectifier else None

    def grab(self) -> StereoFrame:
        """Wait for the next frame; OpenCV gives up after ten seconds by itself."""
        good = self._capture.grab()
        stamp_ns = self._stamp()
        good, both = self._capture.retrieve() if good else (False, None)
        if not good:
            raise CameraError(f"{self.name} gives no frame: is it still plugged in?")
        eyes = split(both)
        return StereoFrame(stamp_ns, self._rectifier(eyes) if self._rectifier else eyes)

    def _stamp(self) -> int:
        """Return when the picture was taken [ns]: the kernel says so on its steady clock."""
        wall_ns, steady_ns = self._clocks()
        age_ns = steady_ns - round(self._capture.get(self._age_key) * 1e6)
        # Some drivers give nothing, or another clock's time: then the time of arrival must do.
        return wall_ns - age_ns if 0 <= age_ns < _BELIEVED_NS else wall_ns

    def close(self) -> None:
        """Release the device."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


def split(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a picture of both eyes side by side in two, without copying."""
    middle = both.shape[1] // 2
    return both[:, :middle], both[:, middle : 2 * middle]
