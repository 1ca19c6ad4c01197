"""Images of a twin that runs in real time, drawn on a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from resfit_sim.rendering import OffscreenRenderer


class Photographer:
    """Draws while physics goes on; what it has no time for is not taken.

    A drawing takes longer than a period of the sensors: drawn in between, it would hold up joint
    states that no robot's camera holds up. `shoot` and `close` belong to one thread.

    Attributes:
        skipped: Shots that were not taken, because it still drew those before.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        sizes: Mapping[str, tuple[int, int]],
        deliver: Callable[[int, str, np.ndarray], None],
        failed: Callable[[Exception], None],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; thread and OpenGL begin with the first shot.

        Args:
            model: Of the twin.
            sizes: Camera to width and height.
            deliver: Takes stamp [ns], camera and image (height, width, 3); called on the thread.
            failed: Takes what ended the thread; called on it.
            begin: Called on the thread before all else.
        """
        self._model, self._sizes = model, dict(sizes)
        self._deliver, self._failed, self._begin = deliver, failed, begin
        self._data = mujoco.MjData(model)
        self._stamp_ns = 0
        self._asked, self._free, self._ends = threading.Event(), threading.Event(), False
        self._free.set()
        self.skipped = 0
        self._thread: threading.Thread | None = None

    def shoot(self, stamp_ns: int, data: mujoco.MjData) -> bool:
        """Ask for one image of every camera of this instant.

        Returns:
            Whether it will be drawn.
        """
        if not self._free.is_set():
            self.skipped += 1
            return False
        mujoco.mj_copyData(self._data, self._model, data)
        self._stamp_ns = stamp_ns
        self._free.clear()
        self._asked.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="photographer", daemon=True)
            self._thread.start()
        return True

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; the image in work is still delivered."""
        self._ends = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        renderer = None
        try:
            self._begin()
            while True:
                self._asked.wait()
                self._asked.clear()
                if self._ends:
                    break
                if renderer is None:
                    renderer = OffscreenRenderer(self._model)  # belongs to this thread
                for camera, (width, height) in self._sizes.items():
                    image = renderer.render(self._data, camera, width, height)
                    self._deliver(self._stamp_ns, camera, image)
                self._free.set()
        except Exception as error:
            self._failed(error)
        finally:
            if renderer is not None:
                renderer.close()
