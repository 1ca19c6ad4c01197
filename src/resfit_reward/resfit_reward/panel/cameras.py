"""Camera pictures as JPEG: only while somebody watches, never more often than asked for."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

WATCHED_S = 3.0
"""Somebody who has not asked for a picture for so long has gone."""
LARGEST = 640  # px, wider pictures are made smaller
_QUALITY = 75


class Picture(NamedTuple):
    """One encoded picture; `number` grows with each."""

    number: int
    jpeg: bytes


class Cameras:
    """The newest picture of each camera.

    `ask` may be called from any thread (it only reads and stores whole values), the rest belongs
    to the thread that hears the pictures.
    """

    def __init__(self, names: Iterable[str], rate_hz: float) -> None:
        """Know the cameras; show at most `rate_hz` pictures of each per second."""
        self.names = tuple(names)
        self._period_s = 1 / rate_hz
        self._asked: dict[str, float] = {}
        self._put: dict[str, float] = {}
        self._pictures: dict[str, Picture] = {}

    def ask(self, name: str, now_s: float) -> Picture | None:
        """Return the newest picture and remember that somebody watches.

        Raises:
            KeyError: There is no such camera.
        """
        if name not in self.names:
            raise KeyError(name)
        self._asked[name] = now_s
        return self._pictures.get(name)

    def watched(self, now_s: float) -> frozenset[str]:
        """Return the cameras that somebody watches; pictures of others are forgotten."""
        watched = {n for n, s in list(self._asked.items()) if now_s - s <= WATCHED_S}
        for name in self.names:
            if name not in watched:
                self._pictures.pop(name, None)  # an old picture must not look like a live one
        return frozenset(watched)

    def due(self, name: str, now_s: float) -> bool:
        """Return whether the next picture is to be encoded; asked before it is even converted."""
        return now_s - self._put.get(name, float("-inf")) >= self._period_s

    def put(self, name: str, image: np.ndarray, now_s: float) -> None:
        """Encode a picture, RGB uint8 of shape (height, width, 3)."""
        from PIL import Image  # seldom needed; the page without cameras starts faster

        picture = Image.fromarray(image)
        if picture.width > LARGEST:
            height = round(picture.height * LARGEST / picture.width)
            picture = picture.resize((LARGEST, height), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=_QUALITY)
        before = self._pictures.get(name, Picture(0, b""))
        self._put[name] = now_s
        # Numbers start at the clock: after a pause the next one is not an old one again.
        self._pictures[name] = Picture(max(before.number + 1, int(now_s * 1000)), out.getvalue())
