"""A stand-in for Stereolabs' `pyzed.sl`, made from its documented behaviour.

Own work; nothing of the vendor's code is in it. `module()` returns what `import pyzed.sl` gives.
"""

from __future__ import annotations

import enum
import types

import numpy as np

WIDTH, HEIGHT = 96, 60


class ERROR_CODE(enum.Enum):  # noqa: N801 (the vendor's name)
    SUCCESS = 0
    CAMERA_NOT_DETECTED = 1
    CAMERA_REBOOTING = 2


class _Mat:
    def __init__(self) -> None:
        self.data = None

    def get_data(self, memory_type=None, deep_copy=False):
        return self.data


class _Stamp:
    def __init__(self, ns: int) -> None:
        self._ns = ns

    def get_nanoseconds(self) -> int:
        return self._ns


class Camera:
    """Counts frames: frame k has value k everywhere, its right eye k + 100."""

    def __init__(self) -> None:
        self.wanted, self.frame, self.closed = None, 0, False
        self.answers: list[ERROR_CODE] = []  # of the next grabs; empty: all well
        # The SDK writes every picture into the same memory.
        self._memory = [np.zeros((HEIGHT, WIDTH, 4), np.uint8) for _ in range(2)]
        SDK.made.append(self)

    def open(self, wanted):
        self.wanted = wanted
        return SDK.opens

    def grab(self, runtime=None):
        if self.answers:
            answer = self.answers.pop(0)
            if answer != ERROR_CODE.SUCCESS:
                return answer
        self.frame += 1
        return ERROR_CODE.SUCCESS

    def retrieve_image(self, mat, view, memory, resolution=None):
        mat.data = self._memory[view]
        mat.data[:] = self.frame + 100 * view
        mat.data[..., 3] = 255
        return ERROR_CODE.SUCCESS

    def get_timestamp(self, reference):
        return _Stamp({"image": 1_000_000_000 * self.frame, "current": -1}[reference])

    def get_camera_information(self):
        eye = types.SimpleNamespace
        given = types.SimpleNamespace(
            left_cam=eye(fx=50.0, fy=51.0, cx=48.0, cy=30.0),
            right_cam=eye(fx=50.0, fy=51.0, cx=47.0, cy=30.0),
            get_camera_baseline=lambda: 0.05,
        )
        size = types.SimpleNamespace(width=WIDTH, height=HEIGHT)
        found = types.SimpleNamespace(calibration_parameters=given, resolution=size)
        return types.SimpleNamespace(camera_configuration=found)

    def close(self) -> None:
        self.closed = True


class _InitParameters:
    def set_from_serial_number(self, serial: int) -> None:
        self.serial = serial


class SDK:
    """What the test sets and reads."""

    opens = ERROR_CODE.SUCCESS
    made: list[Camera] = []  # noqa: RUF012


def module() -> types.ModuleType:
    """Return the stand-in as a module."""
    made = types.ModuleType("pyzed.sl")
    made.ERROR_CODE, made.Camera, made.Mat = ERROR_CODE, Camera, _Mat
    made.InitParameters = _InitParameters
    made.RESOLUTION = types.SimpleNamespace(SVGA="svga", HD720="hd720")
    made.DEPTH_MODE = types.SimpleNamespace(NONE="none")
    made.UNIT = types.SimpleNamespace(METER="m")
    made.VIEW = types.SimpleNamespace(LEFT=0, RIGHT=1)
    made.MEM = types.SimpleNamespace(CPU="cpu")
    made.TIME_REFERENCE = types.SimpleNamespace(IMAGE="image", CURRENT="current")
    SDK.made.clear()
    SDK.opens = ERROR_CODE.SUCCESS
    return made
