"""OpenCV, imported where a source or the resizing needs it, with a reason where it is absent."""

from __future__ import annotations

import importlib
from types import ModuleType

from resfit_vega_driver.camera.source import CameraRefused


def import_opencv() -> ModuleType:
    """Return `cv2`.

    Raises:
        CameraRefused: It is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise CameraRefused(
            f"OpenCV cannot be imported ({error}): pip install -r requirements/camera.txt"
        ) from error
