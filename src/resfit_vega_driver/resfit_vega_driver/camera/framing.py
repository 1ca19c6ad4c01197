"""From the camera's picture to a stream's: crop, resize, and the calibration along with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resfit_vega_driver.camera.opencv import import_opencv
from resfit_vega_driver.camera.source import CameraRefused, Pinhole


@dataclass(frozen=True)
class Window:
    """Part of a picture: left upper corner and size [px]."""

    x: int
    y: int
    width: int
    height: int


def middle(width: int, height: int, out_width: int, out_height: int) -> Window:
    """Return the largest middle part of a picture that has the shape of the result [px]."""
    cut_width = min(width, round(height * out_width / out_height))
    cut_height = min(height, round(width * out_height / out_width))
    return Window((width - cut_width) // 2, (height - cut_height) // 2, cut_width, cut_height)


class Framing:
    """Cuts a window out of each picture and averages it down to the stream's size."""

    def __init__(self, window: Window | None, out_width: int, out_height: int) -> None:
        """Know what comes out.

        Args:
            window: What to keep; None: the largest middle part of the result's shape.
            out_width: Of the stream [px].
            out_height: See `out_width` [px].

        Raises:
            CameraRefused: OpenCV is not installed.
        """
        self._cv2 = import_opencv()
        self._given, self._size = window, (out_width, out_height)

    def window(self, width: int, height: int) -> Window:
        """Return what is kept of a picture of this size [px].

        Raises:
            CameraRefused: The window lies outside, or is smaller than the stream.
        """
        out_width, out_height = self._size
        cut = self._given or middle(width, height, out_width, out_height)
        inside = cut.x >= 0 and cut.y >= 0
        inside = inside and cut.x + cut.width <= width and cut.y + cut.height <= height
        if not inside or cut.width < out_width or cut.height < out_height:
            raise CameraRefused(
                f"of the camera's {width} x {height} the part {cut.width} x {cut.height} at "
                f"({cut.x}, {cut.y}) is to become {out_width} x {out_height}: it must lie inside "
                "and be no smaller; change 'crop' or the source's resolution in "
                "<robot>.camera.yaml"
            )
        return cut

    def picture(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture as the stream shows it.

        Args:
            picture: uint8 BGR or BGRA. Shape: (height, width, 3 or 4).

        Returns:
            BGRA uint8, contiguous. Shape: (out_height, out_width, 4).
        """
        cut = self.window(picture.shape[1], picture.shape[0])
        part = picture[cut.y : cut.y + cut.height, cut.x : cut.x + cut.width]
        if (cut.width, cut.height) != self._size:
            part = self._cv2.resize(part, self._size, interpolation=self._cv2.INTER_AREA)
        if part.shape[2] == 3:
            return self._cv2.cvtColor(part, self._cv2.COLOR_BGR2BGRA)
        return np.ascontiguousarray(part)

    def pinhole(self, eye: Pinhole, width: int, height: int) -> Pinhole:
        """Return an eye's intrinsics after crop and resize of a picture of this size [px]."""
        cut = self.window(width, height)
        across, down = self._size[0] / cut.width, self._size[1] / cut.height
        # Pixel centres lie at whole numbers, edges half a pixel beside them.
        return Pinhole(
            eye.fx * across,
            eye.fy * down,
            (eye.cx - cut.x + 0.5) * across - 0.5,
            (eye.cy - cut.y + 0.5) * down - 0.5,
        )
