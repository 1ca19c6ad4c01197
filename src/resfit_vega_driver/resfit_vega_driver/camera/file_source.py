"""Pictures from a file in a camera's place: for tests, and to replay what a camera once saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit_vega_driver.camera.factory_calibration import Rectifier, read_calibration
from resfit_vega_driver.camera.opencv import import_opencv
from resfit_vega_driver.camera.source import (
    EYES,
    Calibration,
    CameraRefused,
    EndOfFile,
    StereoFrame,
)
from resfit_vega_driver.camera.uvc_source import split

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FileSettings:
    """Which file, and how it is played.

    Attributes:
        path: A video or a folder of pictures, both eyes side by side; or a folder with folders
            `left` and `right` of as many pictures. Relative: to where the run is started.
        rate_hz: Pictures [1/s].
        loop: Begin anew at the end.
        calibration: A ZED's `SN….conf` where the pictures are raw; empty: they stay so.
    """

    path: str = ""
    rate_hz: float = 30.0
    loop: bool = True
    calibration: str = ""


class FileSource:
    """Plays pictures at a fixed rate; each is stamped with the time at which it is given."""

    def __init__(
        self,
        settings: FileSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open nothing yet.

        Args:
            settings: Of the site.
            clock: Steady time [s].
            sleep: Waits for so long [s].
        """
        self._settings, self._clock, self._sleep = settings, clock, sleep
        self._pairs: Iterator[Pair] = iter(())
        self._first: Pair | None = None
        self._due = 0.0
        self._rectifier: Rectifier | None = None
        self.rate_hz = settings.rate_hz
        self.name = f"pictures of {settings.path}"

    def open(self) -> Calibration | None:
        """Look at the first picture."""
        self._read = self._reader(Path(self._settings.path))
        self._pairs = self._read()
        self._first = next(self._pairs, None)
        if self._first is None:
            raise CameraRefused(f"'{self._settings.path}' holds no picture")
        self._rectifier = None
        if self._settings.calibration:
            height, width = self._first[0].shape[:2]
            raw = read_calibration(Path(self._settings.calibration), width, height)
            self._rectifier = Rectifier(raw, width, height)
        self._due = self._clock()
        return self._rectifier.calibration if self._rectifier else None

    def grab(self) -> StereoFrame:
        """Wait until the next picture is due."""
        eyes, self._first = self._first, None
        if eyes is None:
            eyes = next(self._pairs, None)
        if eyes is None and self._settings.loop:
            self._pairs = self._read()
            eyes = next(self._pairs, None)
        if eyes is None:
            raise EndOfFile(f"'{self._settings.path}' has been played to its end")
        now = self._clock()
        self._sleep(max(0.0, self._due - now))
        # Whoever was held up goes on from there and does not hurry after.
        self._due = max(self._due, now) + 1 / self.rate_hz
        return StereoFrame(time.time_ns(), self._rectifier(eyes) if self._rectifier else eyes)

    def close(self) -> None:
        """Close the file."""
        self._pairs, self._first = iter(()), None

    def _reader(self, path: Path) -> Callable[[], Iterator[Pair]]:
        import_opencv()
        if path.is_file():
            return lambda: _video(path)
        if not path.is_dir():
            raise CameraRefused(
                f"'{path}' does not exist; camera_file:= (or file.path in <robot>.camera.yaml) "
                "names a video or a folder of pictures"
            )
        folders = [path / eye for eye in EYES]
        if not all(folder.is_dir() for folder in folders):
            return lambda: (split(_picture(p)) for p in _pictures(path))
        left, right = (_pictures(folder) for folder in folders)
        if len(left) != len(right):
            raise CameraRefused(
                f"'{path}' has {len(left)} left and {len(right)} right pictures; they must pair"
            )
        return lambda: ((_picture(a), _picture(b)) for a, b in zip(left, right, strict=True))


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)


def _picture(path: Path) -> np.ndarray:
    cv2 = import_opencv()
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if found is None:
        raise CameraRefused(f"'{path}' is no picture that OpenCV can read")
    return found


def _video(path: Path) -> Iterator[Pair]:
    capture = import_opencv().VideoCapture(str(path))
    if not capture.isOpened():
        raise CameraRefused(f"'{path}' is no video that OpenCV can read")
    try:
        while True:
            good, both = capture.read()
            if not good:
                return
            yield split(both)
    finally:
        capture.release()
