"""Matched scenes in a blind evaluation: a round's first picture, laid over the ones after it.

While a person puts the scene back, the panel shows where everything stood when the round began.
When the scene is accepted, its picture is stored with its similarity to that first one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resfit_core.blind.seal import MATCHES
from resfit_core.control.records import EpisodeState, Phase

FOLDER = "scenes"
_FRESH_S = 1.0
"""A picture older than this is not that of the scene that was accepted."""
_EVERY_S = 0.5
_PREPARING = (Phase.RESETTING, Phase.READY)


class Shown(NamedTuple):
    """A ghost on the page: `similarity` of the present picture, -1: there is none yet."""

    camera: str
    number: int
    similarity: float


class Ghost:
    """Keeps the first pictures of each round. Not thread-safe but for `picture`."""

    def __init__(self, run_dir: Path, cameras: Iterable[str]) -> None:
        """Know where to store and which cameras there are."""
        self._run_dir, self._cameras = run_dir, tuple(cameras)
        self._state: EpisodeState | None = None
        self._round = 0
        self._first: dict[str, bytes] = {}  # PNG of the round's first picture
        self._first_grey: dict[str, np.ndarray] = {}
        self._newest: dict[str, tuple[np.ndarray, float]] = {}
        self._likeness: dict[str, tuple[float, float]] = {}
        self._to_store: set[str] = set()

    @property
    def wanted(self) -> frozenset[str]:
        """Cameras whose pictures are needed, whether or not somebody looks at them."""
        state = self._state
        if state is None or not state.round:
            return frozenset()
        preparing = state.phase in _PREPARING
        return frozenset(self._cameras if preparing else self._to_store)

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Ghosts to lay over the cameras now; none once the scene is accepted."""
        state = self._state
        if state is None or not state.round or state.phase not in _PREPARING:
            return ()
        return tuple(
            Shown(c, self._round, round(self._likeness.get(c, (-1.0, 0.0))[0], 3))
            for c in self._cameras
            if c in self._first
        )

    def picture(self, camera: str) -> bytes | None:
        """Return the round's first picture as PNG; None: there is none. From any thread."""
        return self._first.get(camera)

    def state(self, state: EpisodeState, now_s: float) -> None:
        """Take a state of the run; accepting a scene stores its pictures.

        Raises:
            OSError: The disk refuses.
        """
        before, self._state = self._state, state
        if not state.round:
            return
        if state.round != self._round:
            self._begin(state.round)
        if before is None or before.episode != state.episode:
            self._newest.clear()
            self._likeness.clear()
            self._to_store.clear()
        if state.phase == Phase.RUNNING and (before is None or before.phase != Phase.RUNNING):
            self._to_store = set(self._cameras)
            for camera, (image, seen_s) in list(self._newest.items()):
                if now_s - seen_s <= _FRESH_S:
                    self._store(camera, image)
        elif state.phase not in (*_PREPARING, Phase.RUNNING):
            self._to_store.clear()

    def image(self, camera: str, image: np.ndarray, now_s: float) -> None:
        """Take a picture: RGB uint8 of shape (height, width, 3).

        Raises:
            OSError: The disk refuses.
        """
        if camera in self._to_store:
            self._store(camera, image)
            return
        self._newest[camera] = image, now_s
        first = self._first_grey.get(camera)
        _, looked_s = self._likeness.get(camera, (0.0, float("-inf")))
        if first is not None and now_s - looked_s >= _EVERY_S:
            self._likeness[camera] = _likeness(first, image), now_s

    def _begin(self, number: int) -> None:
        """Start a round; its first pictures may be there already, from before a restart."""
        self._round = number
        self._first.clear()
        self._first_grey.clear()
        for camera in self._cameras:
            file = self._file(camera, "first")
            if file.is_file():
                self._keep_first(camera, file.read_bytes())

    def _store(self, camera: str, image: np.ndarray) -> None:
        self._to_store.discard(camera)
        from PIL import Image  # seldom needed, as SciPy is: the page starts faster without

        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        first = camera not in self._first
        state = self._state
        file = self._file(camera, "first" if first else f"{state.label}_{state.episode:06d}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(out.getvalue())
        if first:
            self._keep_first(camera, out.getvalue())
            return
        line = {
            "round": state.round,
            "label": state.label,
            "episode": state.episode,
            "camera": camera,
            "similarity": round(_likeness(self._first_grey[camera], image), 4),
            "first": str(self._file(camera, "first").relative_to(self._run_dir)),
            "picture": str(file.relative_to(self._run_dir)),
        }
        with open(self._run_dir / MATCHES, "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _keep_first(self, camera: str, png: bytes) -> None:
        from PIL import Image

        from resfit_core.similarity import grey

        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._first_grey[camera] = grey(image)
        self._first[camera] = png

    def _file(self, camera: str, what: str) -> Path:
        name = re.sub(r"\W", "_", camera)
        return self._run_dir / FOLDER / f"round_{self._round:04d}" / f"{name}_{what}.png"


def _likeness(first: np.ndarray, image: np.ndarray) -> float:
    from resfit_core.similarity import grey, ssim

    now = grey(image)
    return ssim(first, now) if now.shape == first.shape else 0.0
