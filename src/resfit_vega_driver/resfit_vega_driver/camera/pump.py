"""The loop from camera to streams: grab, frame, hand over, count; open again what broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from resfit_core.control.image_watch import ImageLimits, ImageWatch
from resfit_vega_driver.camera.framing import Framing
from resfit_vega_driver.camera.source import EYES, CameraError, CameraSource, EndOfFile

_AGAIN_S = 1.0  # between two tries to open a camera that broke


@dataclass(frozen=True)
class Counts:
    """What became of the frames since the start.

    Attributes:
        captured: Frames that the camera gave.
        published: Of these, handed over as a pair of images.
        dropped: Frames that were not handed over: missing between two stamps at the promised
            rate, or not believed.
        late: Published, but longer after their capture than allowed.
        broke: Times that the camera had to be opened again.
        rate_hz: Frames of the last seconds [1/s].
        age_s: Of the newest frame when it was published [s].
    """

    captured: int = 0
    published: int = 0
    dropped: int = 0
    late: int = 0
    broke: int = 0
    rate_hz: float = 0.0
    age_s: float = 0.0


class Publish(Protocol):
    """Takes both pictures of one capture time [ns], BGRA (height, width, 4)."""

    def __call__(self, stamp_ns: int, left: np.ndarray, right: np.ndarray) -> None:
        """Hand them over."""


class Pump:
    """Runs on a thread of its own between `start` and `stop`; the rest may be asked any time."""

    def __init__(
        self,
        source: CameraSource,
        framing: Framing,
        limits: ImageLimits,
        late_s: float,
        publish: Publish,
        *,
        say: Callable[[str], None] = lambda words: None,
        died: Callable[[Exception], None] | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take an opened source.

        Args:
            source: Camera.
            framing: From its pictures to the streams'.
            limits: When it is not believed.
            late_s: See `Counts.late` [s].
            publish: Gets every pair, on the pump's thread.
            say: Gets what the camera does, in words, on the pump's thread.
            died: Gets what nobody foresaw, on the pump's thread; None: it is raised there.
            wall_ns: The stamps' clock [ns].
            steady_s: Steady clock [s].
        """
        self._source, self._framing, self._publish = source, framing, publish
        self._late_ns, self._say, self._died = round(late_s * 1e9), say, died
        self._wall_ns, self._steady_s = wall_ns, steady_s
        self._watch = ImageWatch(EYES, limits)
        self._counts, self._broken = Counts(), ""
        self._stamps: list[int] = []
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to grab."""
        self._leave.clear()
        with self._lock:
            self._stamps.clear()
            self._watch.begin(self._steady_s())
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Grab no more; return whether the camera let go in time [s]."""
        self._leave.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        gone = not self._thread.is_alive()
        if gone:
            self._thread = None
        return gone

    def counts(self) -> Counts:
        """Return what became of the frames."""
        with self._lock:
            return self._counts

    def fault(self) -> str:
        """Return why the camera cannot be believed, in words; empty: it can."""
        with self._lock:
            words = self._watch.fault(self._steady_s())
            return f"{words} ({self._broken})" if words and self._broken else words or self._broken

    def _run(self) -> None:
        try:
            while not self._leave.is_set():
                try:
                    self.once()
                except EndOfFile as end:
                    self._break(str(end))
                    return
                except CameraError as error:
                    self._break(str(error))
                    self._reopen()
        except Exception as error:
            if self._died is None:
                raise
            self._died(error)

    def once(self) -> None:
        """Take one frame from the camera to the streams.

        Raises:
            CameraError: The camera gave none.
        """
        frame = self._source.grab()
        left, right = (self._framing.picture(picture) for picture in frame.eyes)
        with self._lock:
            now_s = self._steady_s()
            for eye, picture in zip(EYES, (left, right), strict=True):
                self._watch.seen(eye, picture, now_s)
            self._captured(frame.stamp_ns)
            believed = not self._watch.fault(now_s)
            if not believed:
                self._add(dropped=1)
        if not believed:
            return  # whoever waits for it drops its tick, and the robot holds
        self._publish(frame.stamp_ns, left, right)
        with self._lock:
            self._published(self._wall_ns() - frame.stamp_ns)
            self._broken = ""

    def _captured(self, stamp_ns: int) -> None:
        missing = 0
        if self._stamps:
            gap = (stamp_ns - self._stamps[-1]) * 1e-9 * self._source.rate_hz
            missing = max(0, round(gap) - 1)
        self._stamps.append(stamp_ns)
        del self._stamps[: -2 * round(self._source.rate_hz) - 2]
        span_s = (self._stamps[-1] - self._stamps[0]) * 1e-9
        self._add(captured=1, dropped=missing)
        if span_s > 0:
            self._set(rate_hz=(len(self._stamps) - 1) / span_s)

    def _published(self, age_ns: int) -> None:
        self._add(published=1, late=int(age_ns > self._late_ns))
        self._set(age_s=age_ns * 1e-9)

    def _break(self, words: str) -> None:
        with self._lock:
            self._broken = words
            self._stamps.clear()  # what was missed while it was away is told by `broke`
            self._add(broke=1)
        self._say(words)

    def _reopen(self) -> None:
        self._source.close()
        while not self._leave.wait(_AGAIN_S):
            try:
                self._source.open()
            except CameraError as error:
                with self._lock:
                    self._broken = str(error)
                self._source.close()
                continue
            self._say(f"{self._source.name} is open again")
            return

    def _add(self, **more: int) -> None:
        self._set(**{key: getattr(self._counts, key) + n for key, n in more.items()})

    def _set(self, **values: float) -> None:
        self._counts = replace(self._counts, **values)
