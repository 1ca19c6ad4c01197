"""Framing, settings, and the loop from camera to streams: what is counted, what stops."""

import pathlib
import threading

import numpy as np
import pytest

from resfit_core.control.image_watch import ImageLimits
from resfit_core.strict_yaml import ContractError
from resfit_vega_driver.camera.framing import Framing, Window, middle
from resfit_vega_driver.camera.pump import Pump
from resfit_vega_driver.camera.settings import load_settings, make_source
from resfit_vega_driver.camera.source import (
    CameraError,
    CameraRefused,
    EndOfFile,
    Pinhole,
    StereoFrame,
)

pytest.importorskip("cv2", reason="OpenCV is not installed ('make setup' installs it)")

CONFIG = pathlib.Path(__file__).parents[3] / "config"
LIMITS = ImageLimits(stale_s=1.0, frozen_s=0.5)
PERIOD_NS = 33_333_333


# --- framing -------------------------------------------------------------------------------------


def test_the_middle_keeps_the_streams_shape():
    assert middle(1280, 720, 640, 360) == Window(0, 0, 1280, 720)
    assert middle(960, 600, 640, 360) == Window(0, 30, 960, 540)  # SVGA of a ZED X
    assert middle(672, 376, 640, 360) == Window(2, 0, 668, 376)


def test_pictures_are_cut_averaged_and_get_an_alpha():
    framing = Framing(None, 4, 2)
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[:1] = picture[5:] = 255  # outside of the middle 8 x 4
    picture[1:3, 0:2] = [[[10, 0, 1], [20, 0, 1]], [[30, 0, 1], [40, 0, 1]]]
    out = framing.picture(picture)
    assert out.shape == (2, 4, 4) and out.dtype == np.uint8 and out.flags.c_contiguous
    np.testing.assert_array_equal(out[0, 0], [25, 0, 1, 255])
    np.testing.assert_array_equal(out[1, 3], [0, 0, 0, 255])
    bgra = np.arange(4 * 6 * 4, dtype=np.uint8).reshape(4, 6, 4)
    cut = Framing(Window(1, 1, 4, 2), 4, 2)
    np.testing.assert_array_equal(
        cut.picture(bgra), bgra[1:3, 1:5]
    )  # same size: not a bit changed


def test_calibration_goes_along_with_crop_and_resize():
    """The ray of a point stays the ray of the same point."""
    framing = Framing(None, 640, 360)
    eye = Pinhole(fx=480.0, fy=470.0, cx=481.0, cy=302.0)
    small = framing.pinhole(eye, 960, 600)
    x, y = 0.2, -0.1
    u, v = eye.fx * x + eye.cx, eye.fy * y + eye.cy
    expected = ((u + 0.5) * 640 / 960 - 0.5, (v - 30 + 0.5) * 360 / 540 - 0.5)
    assert (small.fx * x + small.cx, small.fy * y + small.cy) == pytest.approx(expected)


def test_a_window_outside_or_too_small_is_refused_with_the_fix():
    with pytest.raises(CameraRefused, match="'crop'"):
        Framing(Window(900, 0, 640, 360), 640, 360).window(1280, 720)
    with pytest.raises(CameraRefused, match="no smaller"):
        Framing(None, 640, 360).window(320, 180)


# --- settings ------------------------------------------------------------------------------------


def test_shipped_settings_load_and_choose():
    settings = load_settings(CONFIG / "robot/vega_1.yaml")
    assert (settings.source, settings.window, settings.sdk.resolution) == ("sdk", None, "SVGA")
    assert make_source(settings).name.startswith("ZED through the SDK")
    assert "webcam" in make_source(settings, "uvc").name
    assert "x.mp4" in make_source(settings, "file", "x.mp4").name
    with pytest.raises(ContractError, match="camera_file:="):
        make_source(settings, "file")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("source: sdk", "source: usb", "'usb' is not one of"),
        ("crop: middle", "crop: [1, 2]", r"'crop' is \[1, 2\]"),
        ("serial: 0", "serials: 0", "did you mean 'serial'"),
        ("resolution: SVGA", "resolution: 7", "'resolution' is 7, str is needed"),
        ("late_s: 0.05", "late_s: -1", "'late_s' is -1"),
        ("late_s: 0.05", "", "missing key 'late_s'"),
    ],
)
def test_wrong_settings_name_key_and_fix(tmp_path, old, new, says):
    text = (CONFIG / "robot/vega_1.camera.yaml").read_text()
    assert old in text
    (tmp_path / "arm.camera.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ContractError, match=says):
        load_settings(tmp_path / "arm.yaml")


# --- the loop ------------------------------------------------------------------------------------


class Camera:
    """Gives what the test says: a number makes a picture, an error is raised."""

    name, rate_hz = "scripted", 30.0

    def __init__(self, *frames):
        self.frames, self.opened, self.closed = list(frames), 0, 0
        self.fails_to_open = 0

    def open(self):
        if self.fails_to_open:
            self.fails_to_open -= 1
            raise CameraError("still gone")
        self.opened += 1

    def grab(self):
        if not self.frames:
            raise EndOfFile("played")
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        stamp_ns, value = frame
        pictures = np.full((2, 2, 4, 3), value, np.uint8)
        return StereoFrame(stamp_ns, (pictures[0], pictures[1] + 1))

    def close(self):
        self.closed += 1


class Run:
    """A pump with clocks in the test's hand: a frame arrives 10 ms after it was taken."""

    def __init__(self, *frames):
        self.camera, self.out, self.words = Camera(*frames), [], []
        self.now_ns, self.delay_ns = 0, 10_000_000
        self.pump = Pump(
            self.camera, Framing(None, 4, 2), LIMITS, 0.05, self._publish,
            say=self.words.append,
            wall_ns=lambda: self.now_ns, steady_s=lambda: self.now_ns * 1e-9,
        )  # fmt: skip
        self.pump._watch.begin(0.0)

    def _publish(self, stamp_ns, left, right):
        self.out.append((stamp_ns, int(left[0, 0, 0]), int(right[0, 0, 0])))

    def step(self):
        stamp_ns = self.camera.frames[0][0]
        self.now_ns = stamp_ns + self.delay_ns
        self.pump.once()


def test_every_frame_is_published_with_its_own_stamp():
    run = Run(*[(k * PERIOD_NS, k) for k in range(4)])
    for _ in range(4):
        run.step()
    assert run.out == [(k * PERIOD_NS, k, k + 1) for k in range(4)]
    counts = run.pump.counts()
    assert (counts.captured, counts.published, counts.dropped, counts.late) == (4, 4, 0, 0)
    assert counts.rate_hz == pytest.approx(30, rel=1e-3)
    assert counts.age_s == pytest.approx(0.01)


def test_frames_that_never_came_and_frames_that_came_late_are_counted():
    stamps = [0, 1, 4, 5, 5.6, 6.4]  # two are missing after the second; jitter is no loss
    run = Run(*[(round(s * PERIOD_NS), k) for k, s in enumerate(stamps)])
    for k in range(6):
        run.delay_ns = 51_000_000 if k == 3 else 10_000_000
        run.step()
    counts = run.pump.counts()
    assert (counts.captured, counts.published, counts.dropped, counts.late) == (6, 6, 2, 1)


def test_a_frozen_camera_is_named_and_its_pictures_are_kept_back():
    run = Run(*[(k * PERIOD_NS, 9) for k in range(30)], (30 * PERIOD_NS, 8))
    for _ in range(30):
        run.step()
    assert "camera 'left' is frozen" in run.pump.fault()
    kept_back = run.pump.counts().dropped
    assert kept_back == 30 - len(run.out) and kept_back > 5
    run.step()
    assert run.pump.fault() == "" and run.out[-1][0] == 30 * PERIOD_NS


def test_a_silent_camera_is_named():
    run = Run((0, 1))
    run.step()
    run.now_ns += 1_100_000_000
    assert "camera 'left' is silent: no image for 1.1 s" in run.pump.fault()


def _until(holds):
    limit = threading.Event()
    for _ in range(1000):
        if holds():
            return True
        limit.wait(0.01)
    return False


def test_a_camera_that_breaks_is_opened_again_and_says_why_meanwhile(monkeypatch):
    monkeypatch.setattr("resfit_vega_driver.camera.pump._AGAIN_S", 0.01)
    run = Run((0, 1), CameraError("the cable is out"), (PERIOD_NS, 2))
    run.camera.fails_to_open = 2
    run.pump.start()
    assert _until(lambda: run.words[-1:] == ["played"])
    assert run.pump.stop()
    assert run.words == ["the cable is out", "scripted is open again", "played"]
    assert [stamp for stamp, *_ in run.out] == [0, PERIOD_NS]
    assert (run.camera.opened, run.pump.counts().broke) == (1, 2)
    assert run.pump.fault() == "played"  # and the episode ends with these words


def test_what_nobody_foresaw_is_handed_on_and_does_not_die_in_silence():
    run, found = Run((0, 1)), []
    run.pump._died = found.append
    run.pump._publish = lambda *_: 1 / 0
    run.pump.start()
    assert _until(lambda: found)
    assert isinstance(found[0], ZeroDivisionError) and run.pump.stop()


def test_a_camera_that_hangs_does_not_hold_up_the_end():
    hold = threading.Event()
    run = Run((0, 1))
    run.camera.grab = lambda: hold.wait(30) and run.camera.frames.pop()
    run.pump.start()
    assert not run.pump.stop(timeout_s=0.05)
    run.pump._died = lambda error: None
    hold.set()
    run.pump._thread.join(5)
