"""A ZED through Stereolabs' own SDK: rectified pictures with the time they were taken at.

`pyzed` comes with the ZED SDK, which needs an NVIDIA GPU. It is imported when the camera is
opened and nowhere else. Beware: the package registry's `pyzed` is another program.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from resfit_vega_driver.camera.source import (
    Calibration,
    CameraError,
    CameraRefused,
    Pinhole,
    StereoFrame,
)

_HOW = (
    "install the ZED SDK of https://www.stereolabs.com/developers and run its get_python_api.py "
    "(`pip install pyzed` is another program), or choose camera:=uvc"
)


@dataclass(frozen=True)
class SdkSettings:
    """Which ZED, and how.

    Attributes:
        serial: Serial number; 0: the first one found.
        resolution: Name of an `sl.RESOLUTION`: HD1200, HD1080, SVGA (ZED X), HD2K, HD1080,
            HD720, VGA (USB).
        rate_hz: Frames [1/s].
    """

    serial: int = 0
    resolution: str = "SVGA"
    rate_hz: float = 30.0


def import_sdk() -> ModuleType:
    """Return `pyzed.sl`.

    Raises:
        CameraRefused: It is not installed, or the installed `pyzed` is not Stereolabs'.
    """
    try:
        sdk = importlib.import_module("pyzed.sl")
    except ImportError as error:
        raise CameraRefused(
            f"Stereolabs' 'pyzed.sl' cannot be imported ({error}): {_HOW}"
        ) from error
    missing = [n for n in ("Camera", "InitParameters", "ERROR_CODE") if not hasattr(sdk, n)]
    if missing:
        raise CameraRefused(
            f"the installed 'pyzed' is not Stereolabs' (pyzed.sl has no {missing[0]}): {_HOW}"
        )
    return sdk


class SdkSource:
    """Grabs left and right. Stamps are the SDK's image time, on the system's clock."""

    def __init__(self, settings: SdkSettings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._camera: Any = None
        self._sdk: Any = None
        self.rate_hz = settings.rate_hz
        which = f"serial {settings.serial}" if settings.serial else "first found"
        self.name = f"ZED through the SDK ({which}, {settings.resolution})"

    def open(self) -> Calibration:
        """Open the camera without depth; return the SDK's calibration of rectified pictures."""
        self._sdk = sl = import_sdk()
        resolution = getattr(sl.RESOLUTION, self._settings.resolution, None)
        if resolution is None:
            raise CameraRefused(
                f"the SDK knows no resolution '{self._settings.resolution}'; give one of "
                "HD1200, HD1080, SVGA (ZED X), HD2K, HD1080, HD720, VGA (USB)"
            )
        wanted = sl.InitParameters()
        wanted.camera_resolution = resolution
        wanted.camera_fps = round(self._settings.rate_hz)
        wanted.depth_mode = sl.DEPTH_MODE.NONE
        wanted.coordinate_units = sl.UNIT.METER
        if self._settings.serial:
            wanted.set_from_serial_number(self._settings.serial)
        self._camera = sl.Camera()
        self._check(self._camera.open(wanted), "does not open")
        self._mats = (sl.Mat(), sl.Mat())
        return self._calibration()

    def _calibration(self) -> Calibration:
        found = self._camera.get_camera_information().camera_configuration
        given = found.calibration_parameters
        left, right = (
            Pinhole(float(eye.fx), float(eye.fy), float(eye.cx), float(eye.cy))
            for eye in (given.left_cam, given.right_cam)
        )
        size = found.resolution
        return Calibration(
            int(size.width), int(size.height), (left, right), float(given.get_camera_baseline())
        )

    def grab(self) -> StereoFrame:
        """Wait for the next frame."""
        sl = self._sdk
        self._check(self._camera.grab(), "gives no frame")
        stamp = self._camera.get_timestamp(sl.TIME_REFERENCE.IMAGE).get_nanoseconds()
        eyes = []
        for mat, view in zip(self._mats, (sl.VIEW.LEFT, sl.VIEW.RIGHT), strict=True):
            self._check(self._camera.retrieve_image(mat, view, sl.MEM.CPU), "gives no picture")
            # The SDK writes the next picture over this one.
            eyes.append(np.array(mat.get_data(), np.uint8, order="C"))
        return StereoFrame(int(stamp), (eyes[0], eyes[1]))

    def close(self) -> None:
        """Close the camera."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def _check(self, code: Any, what: str) -> None:
        if code != self._sdk.ERROR_CODE.SUCCESS:
            raise CameraError(
                f"{self.name} {what}: {code}; check cable and power, and that no other program "
                "(ZED_Explorer, zed-ros2-wrapper) holds it"
            )
