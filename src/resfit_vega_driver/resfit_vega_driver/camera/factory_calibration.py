"""Stereolabs' calibration file of a ZED, `SN<serial>.conf`, and rectifying by it.

It is to be had from https://calib.stereolabs.com/?SN=<serial>. Sections `LEFT_CAM_<mode>` and
`RIGHT_CAM_<mode>` hold fx fy cx cy k1 k2 p1 p2 k3 [px], `STEREO` the baseline and offsets [mm] and
the rotation between the eyes by mode [rad].
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit_vega_driver.camera.opencv import import_opencv
from resfit_vega_driver.camera.source import EYES, Calibration, CameraRefused, Pinhole

_MODES = {(2208, 1242): "2K", (1920, 1080): "FHD", (1280, 720): "HD", (672, 376): "VGA"}


@dataclass(frozen=True)
class RawCalibration:
    """Two eyes as they are built.

    Attributes:
        matrices: Camera matrix of each eye [px]. Shape of each: (3, 3).
        distortions: k1 k2 p1 p2 k3 of each eye. Shape of each: (5,).
        rotation: From the left eye to the right one, Rodrigues vector [rad]. Shape: (3,).
        translation: Place of the left eye as the right one sees it [m]. Shape: (3,).
    """

    matrices: tuple[np.ndarray, np.ndarray]
    distortions: tuple[np.ndarray, np.ndarray]
    rotation: np.ndarray
    translation: np.ndarray


def read_calibration(path: Path, width: int, height: int) -> RawCalibration:
    """Read what the file says of pictures of this size of one eye [px].

    Raises:
        CameraRefused: The file is missing, says nothing of this size, or lacks a number.
    """
    mode = _MODES.get((width, height))
    if mode is None:
        raise CameraRefused(
            f"{path}: holds no calibration of {width} x {height} pictures, only of {list(_MODES)}"
        )
    parser = configparser.ConfigParser()
    try:
        found = parser.read(path)
        if not found:
            raise CameraRefused(
                f"calibration file '{path}' does not exist; fetch it from "
                "https://calib.stereolabs.com/?SN=<serial number>"
            )
        eyes = [parser[f"{eye.upper()}_CAM_{mode}"] for eye in EYES]
        stereo = parser["STEREO"]
        matrices = tuple(
            np.array(
                [
                    [eye.getfloat("fx"), 0, eye.getfloat("cx")],
                    [0, eye.getfloat("fy"), eye.getfloat("cy")],
                    [0, 0, 1],
                ],
                np.float64,
            )
            for eye in eyes
        )
        distortions = tuple(
            np.array([eye.getfloat(k, 0.0) for k in ("k1", "k2", "p1", "p2", "k3")])
            for eye in eyes
        )
        turn = np.array([float(stereo[f"{k}_{mode}"]) for k in ("RX", "CV", "RZ")])
        # The vendor counts from left to right; OpenCV wants the left eye as the right one sees it.
        shift = -np.array(
            [
                float(stereo["Baseline"]),
                *(float(stereo.get(f"{k}_{mode}", stereo.get(k, 0))) for k in ("TY", "TZ")),
            ]
        )
    except KeyError as error:
        raise CameraRefused(f"{path}: {error} is missing; is it a ZED's SN….conf?") from error
    except (configparser.Error, TypeError, ValueError) as error:
        raise CameraRefused(f"{path}: {' '.join(str(error).split())}") from error
    return RawCalibration(matrices, distortions, turn, shift / 1000)


class Rectifier:
    """Bends both pictures such that lines of the world lie in the same row of both."""

    def __init__(self, raw: RawCalibration, width: int, height: int) -> None:
        """Work out where each pixel comes from.

        Args:
            raw: Of the camera.
            width: Of one eye's picture [px].
            height: See `width` [px].
        """
        self._cv2 = cv2 = import_opencv()
        size = (width, height)
        turn, _ = cv2.Rodrigues(raw.rotation)
        *turns, left, right, _, _, _ = cv2.stereoRectify(
            raw.matrices[0], raw.distortions[0], raw.matrices[1], raw.distortions[1],
            size, turn, raw.translation, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0,
        )  # fmt: skip
        self._maps = [
            cv2.initUndistortRectifyMap(matrix, bend, to, view, size, cv2.CV_16SC2)
            for matrix, bend, to, view in zip(
                raw.matrices, raw.distortions, turns, (left, right), strict=True
            )
        ]
        eyes = tuple(Pinhole(p[0, 0], p[1, 1], p[0, 2], p[1, 2]) for p in (left, right))
        self.calibration = Calibration(
            width, height, (eyes[0], eyes[1]), float(-right[0, 3] / right[0, 0])
        )

    def __call__(self, eyes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return both pictures rectified; same shape."""
        left, right = (
            self._cv2.remap(picture, *maps, self._cv2.INTER_LINEAR)
            for picture, maps in zip(eyes, self._maps, strict=True)
        )
        return left, right
