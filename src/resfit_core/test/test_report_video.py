"""The video: which scenes, and that what is written plays."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="Pillow is not installed")

from resfit_core.report_video import Scene, Take, choose_seeds, compose, note, write_video


def test_scenes_are_the_first_of_each_kind_failures_included():
    base = {1: True, 2: False, 3: False, 4: False, 5: False, 6: True}
    residual = {1: True, 2: True, 3: False, 4: True, 5: True, 6: False, 7: True}
    chosen = choose_seeds(base, residual)
    assert chosen == [
        (2, "only the residual succeeds"),
        (4, "only the residual succeeds"),
        (1, "both succeed"),
        (3, "both fail"),
        (6, "only the base succeeds"),
    ]
    assert "no random sample" in note(chosen)
    assert choose_seeds({}, residual) == []


def scene(base_frames=3, residual_frames=5):
    def take(count, shade, success):
        return Take([np.full((48, 65, 3), shade, np.uint8)] * count, success)

    return Scene(7, take(base_frames, 40, False), take(residual_frames, 200, True))


def test_the_shorter_take_waits_at_its_end():
    frames = list(compose(scene(), rate_hz=10))
    assert len(frames) == 5 + 15  # the longer take, then 1.5 s of standing still
    height, width, _ = frames[0].shape
    assert height % 2 == width % 2 == 0  # H.264 needs it
    middle = height // 2
    assert frames[10][middle, 10, 0] == 40
    assert frames[10][middle, width - 10, 0] == 200


def test_the_file_is_written_whole(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is missing")
    file = tmp_path / "video.mp4"
    write_video(iter([scene(), scene()]), file, rate_hz=10)
    reader = imageio_ffmpeg.read_frames(str(file))
    facts = next(reader)
    assert facts["fps"] == 10
    assert sum(1 for _ in reader) == 40
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]


def test_no_scene_no_file(tmp_path):
    with pytest.raises(ValueError, match="at least one scene"):
        write_video([], tmp_path / "video.mp4", 10)
    assert list(tmp_path.iterdir()) == []
