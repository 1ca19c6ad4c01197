"""The report's video: base beside residual on the same scenes, with captions."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resfit_core.evaluation import Job, Tick, load

BAR = 44  # height of the caption bar [px]
GAP = 8  # between the two images [px]
WIDTH, HEIGHT = 480, 360  # of each of the two images [px]
EVERY = 2  # of so many control steps one is filmed: without a GPU an image takes 0.1 s
HOLD_S = 1.5  # the end of a scene stands still for so long [s]
INK, MUTED, PAGE = (245, 247, 250), (160, 170, 185), (18, 22, 30)
GOOD, BAD = (52, 199, 123), (240, 84, 84)


@dataclass(frozen=True)
class Take:
    """One policy on one scene: frames at the control rate, RGB uint8, shape (height, width, 3)."""

    frames: Sequence[np.ndarray]
    success: bool


@dataclass(frozen=True)
class Scene:
    """The same scene by both policies."""

    seed: int
    base: Take
    residual: Take


def choose_seeds(base: Mapping[int, bool], residual: Mapping[int, bool]) -> list[tuple[int, str]]:
    """Choose scenes that show what the numbers say, not only the best; lowest seeds first.

    Returns:
        Seed and why it was chosen: two that only the residual does, one that both do, and one that
        the residual fails; fewer where there are none.
    """
    kinds = (
        ((False, True), 2, "only the residual succeeds"),
        ((True, True), 1, "both succeed"),
        ((False, False), 1, "both fail"),
        ((True, False), 1, "only the base succeeds"),
    )
    seeds = sorted(base.keys() & residual.keys())
    chosen: list[tuple[int, str]] = []
    for outcome, count, why in kinds:
        found = [s for s in seeds if (base[s], residual[s]) == outcome]
        chosen += [(s, why) for s in found[:count]]
    return chosen


def film(base: Job, residual: Job, seeds: Sequence[int]) -> Iterator[Scene]:
    """Play the seeds once more, by both policies at the same time, with the camera on.

    Args:
        base: the base alone.
        residual: base and residual.
        seeds: of the scenes.

    Raises:
        EvaluationError: The simulator has no images.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        for seed in seeds:
            first, second = pool.starmap(_take, [(base, seed), (residual, seed)], chunksize=1)
            yield Scene(seed, first, second)


def _take(job: Job, seed: int) -> Take:
    loaded = load(job)
    count = itertools.count()
    frames = []

    def shoot(_: Tick) -> None:
        if next(count) % EVERY == 0:
            frames.append(loaded.env.render("scene", WIDTH, HEIGHT))

    result = loaded.play(seed, shoot)
    frames.append(loaded.env.render("scene", WIDTH, HEIGHT))
    return Take(frames, result.success)


def note(chosen: Sequence[tuple[int, str]]) -> str:
    """Say how the scenes were chosen."""
    listed = "; ".join(f"{seed}: {why}" for seed, why in chosen)
    return (
        f"Scenes by seed ({listed}). The first of each kind was taken, so this is no random "
        "sample: the rates above are what counts."
    )


def write_video(scenes: Iterable[Scene], path: Path, rate_hz: float) -> None:
    """Write the MP4; a half-written one is never seen under its name.

    Args:
        scenes: made one at a time, so that only one is in memory.
        path: of the file.
        rate_hz: control rate; the video runs in real time.

    Raises:
        ValueError: There are no scenes.
    """
    import imageio_ffmpeg

    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    writer = None
    try:
        for scene in scenes:
            for frame in compose(scene, rate_hz):
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = imageio_ffmpeg.write_frames(
                        str(scratch), size, fps=rate_hz, codec="libx264", quality=None,
                        macro_block_size=2,
                        output_params=["-crf", "24", "-movflags", "+faststart"],
                    )  # fmt: skip
                    writer.send(None)
                writer.send(frame)
        if writer is None:
            raise ValueError("a video needs at least one scene")
        writer.close()
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def compose(scene: Scene, rate_hz: float) -> Iterator[np.ndarray]:
    """Yield the frames of one scene: both takes side by side, the shorter one waits at its end."""
    length = max(len(scene.base.frames), len(scene.residual.frames))
    for index in range(length + round(HOLD_S * rate_hz)):
        yield _frame(scene, index, rate_hz)


def _frame(scene: Scene, index: int, rate_hz: float) -> np.ndarray:
    height, width, _ = scene.base.frames[0].shape
    canvas = Image.new("RGB", (_even(2 * width + GAP), _even(height + 2 * BAR)), PAGE)
    draw = ImageDraw.Draw(canvas)
    for take, name, left in (
        (scene.base, "base alone", 0),
        (scene.residual, "base + residual", width + GAP),
    ):
        last = len(take.frames) - 1
        canvas.paste(Image.fromarray(take.frames[min(index, last)]), (left, BAR))
        draw.text((left + 12, BAR // 2), name, INK, _font(20), anchor="lm")
        if index >= last:
            word, colour = ("success", GOOD) if take.success else ("failed", BAD)
            draw.text((left + width - 12, BAR // 2), word, colour, _font(20), anchor="rm")
    bottom = height + BAR + BAR // 2
    draw.text((12, bottom), f"the same scene, seed {scene.seed}", MUTED, _font(16), anchor="lm")
    time = f"{index / rate_hz:4.1f} s"
    draw.text((canvas.width - 12, bottom), time, MUTED, _font(16), anchor="rm")
    return np.asarray(canvas)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _even(value: int) -> int:
    """Return the next even number: H.264 stores colour at half the size."""
    return value + value % 2
