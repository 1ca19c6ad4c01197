"""TensorBoard scalars, where TensorBoard is installed; a run never depends on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class ScalarWriter:
    """Writes scalars; without TensorBoard it says so once and does nothing."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Open the log on the first value: importing TensorBoard takes seconds."""
        self._folder, self._warn = folder, warn
        self._writer: Any = None
        self._absent = False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point of each value at this environment step."""
        if self._writer is None and not self._absent:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                self._absent = True
                self._warn(f"no TensorBoard scalars ({error}); pip install tensorboard for them")
                return
            self._writer = SummaryWriter(str(self._folder))
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"learner/{name}", value, step)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
