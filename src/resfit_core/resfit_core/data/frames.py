"""Camera frames of a replay buffer: each stored once, all cameras of an observation in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from resfit_core.data import gather


class FrameRing:
    """Rows of uint8, one per observation: camera after camera, by name, each (H, W, 3).

    One row is one gather whatever the number of cameras, and the next observation is another row,
    so no frame is stored twice. Rows are padded to whole cache lines. Not thread-safe.
    """

    def __init__(
        self,
        capacity: int,
        shapes: Mapping[str, tuple[int, int, int]],
        *,
        native: bool = False,
    ) -> None:
        """Reserve the rows; the system maps them as they are written.

        Args:
            capacity: rows.
            shapes: camera to (H, W, 3); none: rows of no length.
            native: gather by the compiled kernel, which copies the same bytes in less time.

        Raises:
            NativeError: it is asked for and cannot be built.
        """
        self.shapes = {camera: tuple(shapes[camera]) for camera in sorted(shapes)}
        self._place: dict[str, slice] = {}
        end = 0
        for camera, shape in self.shapes.items():
            self._place[camera] = slice(end, end + math.prod(shape))
            end += math.prod(shape)
        self._size = -(-end // gather.ALIGN) * gather.ALIGN
        self._rows = gather.reserved(capacity, self._size)
        self._gather = gather.native() if native and self.shapes else gather.numpys

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self._rows.nbytes

    def write(self, index: np.ndarray, images: Mapping[str, np.ndarray]) -> None:
        """Store frames, camera to (len(index), H, W, 3)."""
        for camera, place in self._place.items():
            self._rows[index, place] = images[camera].reshape(len(index), -1)

    def memory(self, *shape: int) -> np.ndarray:
        """Return new memory for so many rows, to be filled by `read`. Shape (*shape, row size).

        It is new for every batch, so no batch can change under its reader. That costs nothing:
        with `machine.prepare` the C library hands out the same pages again, already mapped, once
        the batch before is gone.
        """
        return gather.aligned(*shape, self._size)

    def get(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return copies of frames, camera to (len(index), H, W, 3)."""
        rows = self.memory(len(index))
        self.read(index, rows)
        return self.by_camera(rows)

    def read(self, index: np.ndarray, out: np.ndarray) -> None:
        """Copy rows to `out`, part of what `memory` returned.

        Raises:
            IndexError: a row is not there.
        """
        if not self.shapes:
            return
        if len(index) and not 0 <= index.min() <= index.max() < len(self._rows):
            raise IndexError(
                f"rows {index.min()} to {index.max()} asked for, there are {len(self._rows)}"
            )
        self._gather(self._rows, index, out)

    def by_camera(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return views of rows, camera to (len(rows), H, W, 3), each image contiguous."""
        count = len(rows)
        return {
            camera: rows[:, place].reshape(count, *self.shapes[camera])
            for camera, place in self._place.items()
        }
