"""Camera frames in video files, by the ffmpeg that imageio-ffmpeg brings along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resfit_core.formats.trajectory import FormatError

CODEC, PIXELS = "h264", "yuv420p"
# A key frame every second frame: training jumps to any of them (LeRobot's own default).
_OPTIONS = ["-crf", "18", "-g", "2", "-movflags", "+faststart"]


class VideoWriter:
    """One MP4, a frame at a time. Lossy: H.264, near the eye's limit."""

    def __init__(self, path: Path, fps: float) -> None:
        """Begin; nothing is written before the first frame.

        Args:
            path: of the file.
            fps: frames per second.
        """
        self.path, self.frames = path, 0
        self._fps = fps
        self._sink = None

    def add(self, images: np.ndarray) -> None:
        """Append frames. uint8, shape (n, H, W, 3), H and W even."""
        import imageio_ffmpeg

        for image in np.ascontiguousarray(images):
            if self._sink is None:
                height, width, _ = image.shape
                if height % 2 or width % 2:
                    raise FormatError(
                        f"{self.path}: frames of {width} x {height}; H.264 needs even sizes"
                    )
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = imageio_ffmpeg.write_frames(
                    str(self.path),
                    (width, height),
                    fps=self._fps,
                    codec="libx264",
                    quality=None,
                    macro_block_size=2,
                    output_params=_OPTIONS,
                )
                self._sink.send(None)
            self._sink.send(image)
            self.frames += 1

    def close(self) -> None:
        """End the file."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


class VideoReader:
    """Frames of one video by number; quick in rising order."""

    def __init__(self, path: Path) -> None:
        """Open it at the first read.

        Args:
            path: of the file.
        """
        self._path = path
        self._next = 0
        self._source: Iterator[np.ndarray] | None = None

    def read(self, first: int, count: int, who: str) -> np.ndarray:
        """Return frames `first` to `first + count - 1`. uint8, shape (count, H, W, 3).

        Raises:
            FormatError: the file is missing, damaged, or ends before.
        """
        if self._source is None or first < self._next:
            self.close()
            self._source, self._next = self._open(who), 0
        found = []
        for frame in self._source:
            self._next += 1
            if self._next > first:
                found.append(frame)
            if len(found) == count:
                return np.stack(found)
        raise FormatError(
            f"{who}: {self._path} ends after {self._next} frames, {first + count} are needed; "
            "fetch the file again"
        )

    def close(self) -> None:
        """Let the file go."""
        if self._source is not None:
            self._source.close()  # type: ignore[attr-defined]
            self._source = None

    def _open(self, who: str) -> Iterator[np.ndarray]:
        import imageio_ffmpeg

        if not self._path.is_file():
            raise FormatError(f"{who}: {self._path} is missing; fetch the dataset again")
        try:
            source = imageio_ffmpeg.read_frames(str(self._path), pix_fmt="rgb24")
            width, height = next(source)["size"]
            for data in source:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        except (OSError, RuntimeError, StopIteration) as error:
            raise FormatError(f"{who}: {self._path} is no readable video ({error})") from error
