"""Where things lie in a LeRobotDataset v3 (huggingface/lerobot, docs `lerobot-dataset-v3`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from resfit_core.formats.trajectory import FormatError

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNK_FILES, DATA_MB, VIDEO_MB = 1000, 100, 200
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
PLAIN = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every LeRobot dataset has, all of shape (1,)."""


def arrow() -> tuple[ModuleType, ModuleType]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        FormatError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise FormatError(
            "LeRobot datasets need pyarrow: pip install -r requirements/formats.txt"
        ) from error
    return pyarrow, pyarrow.parquet


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Return what LeRobot keeps of a feature.

    Args:
        values: Shape (rows, n); images (rows, H, W, 3), uint8, are taken by channel as [0, 1].
    """
    images = values.ndim == 4
    rows = len(values)
    if images:
        values = values.reshape(-1, 3).astype(np.float64) / 255.0
    values = values.astype(np.float64)
    found: dict[str, np.ndarray] = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
    }
    found |= {
        f"q{round(100 * q):02d}": value
        for q, value in zip(QUANTILES, np.quantile(values, QUANTILES, axis=0), strict=True)
    }
    shape = (3, 1, 1) if images else (-1,)
    return {**{k: v.reshape(shape).tolist() for k, v in found.items()}, "count": [rows]}


def element_names(feature: Mapping[str, Any]) -> list[str]:
    """Return the names of a feature's elements; empty where it has none."""
    names = feature.get("names")
    if isinstance(names, Mapping):  # {"motors": [...]}: as earlier releases wrote them
        names = next(iter(names.values()), None)
    return [str(name) for name in names] if isinstance(names, list) else []
