"""The camera's sources, each without its hardware: stand-in SDK, fake capture, files."""

import sys
import types

import numpy as np
import pytest
import zed_sdk_stand_in as stand_in

from resfit_vega_driver.camera.factory_calibration import Rectifier, read_calibration
from resfit_vega_driver.camera.file_source import FileSettings, FileSource
from resfit_vega_driver.camera.sdk_source import SdkSettings, SdkSource
from resfit_vega_driver.camera.source import CameraError, CameraRefused, EndOfFile
from resfit_vega_driver.camera.uvc_source import UvcSettings, UvcSource

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed ('make setup' installs it)")


@pytest.fixture(name="sdk")
def _sdk(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyzed", types.ModuleType("pyzed"))
    monkeypatch.setitem(sys.modules, "pyzed.sl", stand_in.module())
    return stand_in.SDK


def test_sdk_gives_both_eyes_with_the_time_they_were_taken(sdk):
    source = SdkSource(SdkSettings(serial=7, resolution="SVGA", rate_hz=30))
    known = source.open()
    wanted = sdk.made[0].wanted
    assert (wanted.camera_resolution, wanted.camera_fps, wanted.serial) == ("svga", 30, 7)
    assert (wanted.depth_mode, wanted.coordinate_units) == ("none", "m")
    assert (known.width, known.height, known.baseline_m) == (96, 60, 0.05)
    assert known.eyes[1].cx == 47.0
    first, second = source.grab(), source.grab()
    assert (first.stamp_ns, second.stamp_ns) == (1_000_000_000, 2_000_000_000)
    # The SDK wrote the second picture over the first one's memory.
    assert first.eyes[0][0, 0, 0] == 1 and second.eyes[0][0, 0, 0] == 2
    assert second.eyes[1].shape == (60, 96, 4) and second.eyes[1][5, 5, 1] == 102
    source.close()
    assert sdk.made[0].closed


def test_sdk_says_its_code_when_it_gives_no_frame(sdk):
    source = SdkSource(SdkSettings())
    source.open()
    sdk.made[0].answers = [stand_in.ERROR_CODE.CAMERA_REBOOTING]
    with pytest.raises(CameraError, match=r"gives no frame.*CAMERA_REBOOTING"):
        source.grab()
    sdk.opens = stand_in.ERROR_CODE.CAMERA_NOT_DETECTED
    with pytest.raises(CameraError, match=r"does not open.*NOT_DETECTED.*cable") as error:
        source.open()
    assert not isinstance(error.value, CameraRefused)  # it may be plugged in later
    with pytest.raises(CameraRefused, match="no resolution 'HD8'"):
        SdkSource(SdkSettings(resolution="HD8")).open()


def test_sdk_absent_or_the_registrys_other_program_is_told_apart(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyzed", None)
    with pytest.raises(CameraRefused, match=r"cannot be imported.*ZED SDK.*another program"):
        SdkSource(SdkSettings()).open()
    monkeypatch.setitem(sys.modules, "pyzed", types.ModuleType("pyzed"))
    monkeypatch.setitem(sys.modules, "pyzed.sl", types.ModuleType("pyzed.sl"))
    with pytest.raises(CameraRefused, match="is not Stereolabs'"):
        SdkSource(SdkSettings()).open()


class Capture:
    """A webcam as OpenCV shows it: a double picture, left eye 10, right eye 20."""

    def __init__(self, device="", size=(2560, 720)):
        self.size, self.values, self.alive, self.released = size, {}, True, False
        self.taken_ms = 0.0

    def isOpened(self):  # noqa: N802 (OpenCV's name)
        return self.alive

    def set(self, key, value):
        self.values[key] = value

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            return self.taken_ms
        return self.size[0] if key == cv2.CAP_PROP_FRAME_WIDTH else self.size[1]

    def grab(self):
        return self.alive

    def retrieve(self):
        both = np.full((self.size[1], self.size[0], 3), 10, np.uint8)
        both[:, self.size[0] // 2 :] = 20
        return True, both

    def release(self):
        self.released = True


def test_uvc_cuts_the_double_picture_and_takes_the_kernels_capture_time():
    capture = Capture()
    now = (5_000_000_000, 90_000_000_000)
    source = UvcSource(UvcSettings(), lambda device: capture, lambda: now)
    assert source.open() is None
    assert capture.values[cv2.CAP_PROP_FRAME_WIDTH] == 2560
    assert capture.values[cv2.CAP_PROP_FPS] == 30
    capture.taken_ms = 89_980.0
    frame = source.grab()
    assert frame.stamp_ns == 4_980_000_000
    assert [eye.shape for eye in frame.eyes] == [(720, 1280, 3)] * 2
    assert [int(eye[0, 0, 0]) for eye in frame.eyes] == [10, 20]
    for nonsense in (0.0, 1e9, -1.0):  # another clock, or none: the time of arrival
        capture.taken_ms = nonsense
        assert source.grab().stamp_ns == 5_000_000_000
    capture.alive = False
    with pytest.raises(CameraError, match="plugged in"):
        source.grab()
    source.close()
    assert capture.released


def test_uvc_refuses_what_is_no_zed():
    webcam = Capture(size=(1280, 720))
    with pytest.raises(CameraError, match=r"1280 x 720, not the 2560 x 720.*no ZED"):
        UvcSource(UvcSettings(), lambda device: webcam).open()
    dead = Capture()
    dead.alive = False
    with pytest.raises(CameraError, match="does not open"):
        UvcSource(UvcSettings(), lambda device: dead).open()
    with pytest.raises(CameraRefused, match=r"'SVGA' is not one of.*HD720"):
        UvcSource(UvcSettings(resolution="SVGA"))


def _write(folder, names, width, value):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((8, width, 3), value + k, np.uint8))


class Time:
    def __init__(self):
        self.now, self.waits = 100.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def test_folder_of_double_pictures_once_and_in_a_loop(tmp_path):
    _write(tmp_path, ["b.png", "a.png"], 32, 1)  # read in order of names
    time = Time()
    once = FileSource(FileSettings(str(tmp_path), 10.0, loop=False), time.clock, time.sleep)
    assert once.open() is None
    frames = [once.grab(), once.grab()]
    assert [int(f.eyes[1][0, 0, 0]) for f in frames] == [2, 1]
    assert frames[0].eyes[0].shape == (8, 16, 3)
    assert time.waits == pytest.approx([0.0, 0.1])
    with pytest.raises(EndOfFile, match="played to its end"):
        once.grab()
    loop = FileSource(FileSettings(str(tmp_path)), time.clock, time.sleep)
    loop.open()
    assert [int(loop.grab().eyes[0][0, 0, 0]) for _ in range(5)] == [2, 1, 2, 1, 2]
    loop.close()


def test_folders_left_and_right(tmp_path):
    _write(tmp_path / "left", ["1.png", "2.png"], 16, 1)
    _write(tmp_path / "right", ["1.png", "2.png"], 16, 101)
    time = Time()
    source = FileSource(FileSettings(str(tmp_path)), time.clock, time.sleep)
    source.open()
    source.grab()
    assert [int(eye[0, 0, 0]) for eye in source.grab().eyes] == [2, 102]
    (tmp_path / "right" / "2.png").unlink()
    with pytest.raises(CameraRefused, match="2 left and 1 right"):
        source.open()


def test_video_is_played(tmp_path):
    path = str(tmp_path / "both.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 16))
    for value in (50, 150):
        writer.write(np.full((16, 64, 3), value, np.uint8))
    writer.release()
    time = Time()
    source = FileSource(FileSettings(path, loop=False), time.clock, time.sleep)
    source.open()
    means = [source.grab().eyes[0].mean() for _ in range(2)]
    assert means == pytest.approx([50, 150], abs=3)
    with pytest.raises(EndOfFile):
        source.grab()


@pytest.mark.parametrize("kind", ["missing", "empty", "no_picture"])
def test_a_file_that_cannot_be_played_is_said(tmp_path, kind):
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "no_picture":
        path.write_text("words")
    with pytest.raises(CameraRefused, match=f"{kind}"):
        FileSource(FileSettings(str(path))).open()


CONF = """
[LEFT_CAM_HD]
fx=700
fy=701
cx=640
cy=360
k1=-0.17
k2=0.02
[RIGHT_CAM_HD]
fx=702
fy=703
cx=650
cy=350
k1=-0.16
k2=0.02
[STEREO]
Baseline=120
TY=0.5
TZ=-0.3
CV_HD=0.01
RX_HD=0.004
RZ_HD=-0.003
"""


def test_factory_calibration_brings_a_point_of_the_world_into_one_row(tmp_path):
    """A point seen by both raw eyes, bent by their lenses, lies in one row after rectifying."""
    path = tmp_path / "SN1.conf"
    path.write_text(CONF)
    raw = read_calibration(path, 1280, 720)
    point = np.array([[0.3, -0.2, 2.0]])
    eyes = []
    for k, (rotation, shift) in enumerate(
        [(np.zeros(3), np.zeros(3)), (raw.rotation, raw.translation)]
    ):
        at = cv2.projectPoints(point, rotation, shift, raw.matrices[k], raw.distortions[k])[0]
        u, v = np.rint(at.ravel()).astype(int)
        picture = np.zeros((720, 1280, 3), np.uint8)
        picture[v - 2 : v + 3, u - 2 : u + 3] = 255
        eyes.append(picture)
    rectifier = Rectifier(raw, 1280, 720)
    spots = [np.argwhere(eye[..., 0] > 128).mean(axis=0) for eye in rectifier(tuple(eyes))]
    assert spots[0][0] == pytest.approx(spots[1][0], abs=1.0)
    known = rectifier.calibration
    assert known.baseline_m == pytest.approx(0.12, rel=1e-3)
    depth = known.eyes[0].fx * known.baseline_m / (spots[0][1] - spots[1][1])
    assert depth == pytest.approx(2.0, rel=0.05)


def test_factory_calibration_says_what_is_missing(tmp_path):
    path = tmp_path / "SN1.conf"
    with pytest.raises(CameraRefused, match=r"does not exist.*calib.stereolabs.com"):
        read_calibration(path, 1280, 720)
    path.write_text(CONF.replace("RZ_HD", "RZ_VGA"))
    with pytest.raises(CameraRefused, match=r"RZ_HD.*is missing"):
        read_calibration(path, 1280, 720)
    with pytest.raises(CameraRefused, match="no calibration of 640 x 480"):
        read_calibration(path, 640, 480)
