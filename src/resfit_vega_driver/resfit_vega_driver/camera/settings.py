"""`<robot>.camera.yaml`: which source, and what it needs. Read strictly, never hashed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit_core.control.image_watch import ImageLimits
from resfit_core.control.limits import beside
from resfit_core.strict_yaml import ContractError, check_keys, check_keys_in, read_yaml
from resfit_vega_driver.camera.file_source import FileSettings, FileSource
from resfit_vega_driver.camera.framing import Window
from resfit_vega_driver.camera.sdk_source import SdkSettings, SdkSource
from resfit_vega_driver.camera.source import CameraSource
from resfit_vega_driver.camera.uvc_source import UvcSettings, UvcSource

SOURCES = ("sdk", "uvc", "file")


@dataclass(frozen=True)
class CameraSettings:
    """What one robot's camera file says.

    Attributes:
        source: One of `SOURCES`.
        window: Part of one eye's picture to keep; None: the middle.
        late_s: A frame published later than this after it was taken is late [s].
        limits: When the camera is not believed.
        sdk: Of the source `sdk`.
        uvc: Of the source `uvc`.
        file: Of the source `file`.
    """

    source: str
    window: Window | None
    late_s: float
    limits: ImageLimits
    sdk: SdkSettings
    uvc: UvcSettings
    file: FileSettings


def load_settings(robot_file: str | Path) -> CameraSettings:
    """Read `<robot>.camera.yaml` beside the robot's YAML.

    Raises:
        ContractError: The file is missing or wrong; the text names key, value and fix.
    """
    path = beside(robot_file, "camera")
    data = read_yaml(path)
    check_keys(data, {"source", "crop", "late_s", "watch", *SOURCES}, str(path))
    if data["source"] not in SOURCES:
        raise ContractError(f"{path}: source '{data['source']}' is not one of {list(SOURCES)}")
    late = _typed(data["late_s"], 0.0, f"{path}: 'late_s'")
    return CameraSettings(
        source=data["source"],
        window=_window(data["crop"], f"{path}: 'crop'"),
        late_s=late,
        limits=ImageLimits.read(data["watch"], f"{path}: watch"),
        sdk=_section(SdkSettings, data["sdk"], f"{path}: sdk"),
        uvc=_section(UvcSettings, data["uvc"], f"{path}: uvc"),
        file=_section(FileSettings, data["file"], f"{path}: file"),
    )


def make_source(settings: CameraSettings, name: str = "", path: str = "") -> CameraSource:
    """Return the source, not yet opened.

    Args:
        settings: Of the robot.
        name: One of `SOURCES`; empty: the settings' own.
        path: Of the source `file`; empty: the settings' own.

    Raises:
        ContractError: `name` is no source, or `file` is not told which.
        CameraRefused: The source's settings are wrong.
    """
    name = name or settings.source
    if name not in SOURCES:
        raise ContractError(f"camera source '{name}' is not one of {list(SOURCES)}")
    if name == "sdk":
        return SdkSource(settings.sdk)
    if name == "uvc":
        return UvcSource(settings.uvc)
    file = dataclasses.replace(settings.file, path=path) if path else settings.file
    if not file.path:
        raise ContractError(
            "camera source 'file' is told no file: give camera_file:=, or file.path in "
            "<robot>.camera.yaml"
        )
    return FileSource(file)


def _window(given: Any, where: str) -> Window | None:
    if given == "middle":
        return None
    if not isinstance(given, list) or len(given) != 4 or not all(type(v) is int for v in given):
        raise ContractError(f"{where} is {given!r}: 'middle' or [x, y, width, height] is needed")
    return Window(*given)


def _section(kind: Any, data: Any, where: str) -> Any:
    """Take a section; keys left out keep their defaults."""
    check_keys_in(data, {f.name for f in dataclasses.fields(kind)}, where)
    return kind(**{k: _typed(v, getattr(kind(), k), f"{where}: '{k}'") for k, v in data.items()})


def _typed(value: Any, like: Any, where: str) -> Any:
    wanted = type(like)
    given = float(value) if wanted is float and type(value) is int else value
    if type(given) is not wanted or (wanted is float and not 0 < given < 1e6):
        words = "a number above 0" if wanted is float else wanted.__name__
        raise ContractError(f"{where} is {value!r}, {words} is needed")
    return given
