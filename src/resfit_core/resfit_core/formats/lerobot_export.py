"""Episodes of ours as a LeRobotDataset v3, images as video.

A row is a step: what was seen and what was then executed. The observation after the last step has
no action and is left out, as LeRobot leaves it out.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.control.records import Source
from resfit_core.data.bag_reader import RecordedEpisode, read_episode
from resfit_core.formats import lerobot_layout as layout
from resfit_core.formats.frames import CODEC, PIXELS, VideoWriter
from resfit_core.formats.trajectory import FormatError, Progress

_STATS_EVERY = 10  # of so many frames one counts for the images' statistics
_FLAGS = {
    "next.reward": "float32",
    "next.done": "bool",
    "next.success": "bool",
    "complementary_info.is_intervention": "bool",
}


def export(
    paths: Sequence[Path], contract: Contract, out: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Write closed episodes as one dataset; `out` appears when all of it is there.

    Args:
        paths: folders of episodes, in the dataset's order.
        contract: theirs; names joints and cameras.
        out: folder; must not exist.
        progress: called after each episode.

    Returns:
        The dataset's `info.json`.

    Raises:
        FormatError: `out` exists, or there is nothing to write.
        BagError: an episode cannot be read.
        ContractError: an episode belongs to another contract.
    """
    if out.exists():
        raise FormatError(f"{out} exists; name a new folder")
    if not paths:
        raise FormatError("no episode to export; name a run, its episodes, or a set of demos")
    scratch = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        writer = _Writer(scratch, contract)
        for done, path in enumerate(paths, 1):
            recorded = read_episode(path)
            contract.require(recorded.contract_sha256, f"episode {path}")
            writer.add(recorded)
            if progress is not None:
                progress(done, len(paths))
        info = writer.finish()
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return info


def observation_names(contract: Contract) -> list[str]:
    """Return a name for each number of the flat observation: `joint_position.L_arm_j1`, …."""
    names: list[str] = []
    for field, place in contract.layout.items():
        size = place.stop - place.start
        joints = field.startswith("joint_")
        parts = contract.joint_names if joints else [str(i) for i in range(size)]
        names += [f"{field}.{part}" for part in parts]
    return names


class _Writer:
    def __init__(self, folder: Path, contract: Contract) -> None:
        self._folder, self._contract = folder, contract
        self._pa, self._pq = layout.arrow()
        self._rows = 0
        self._episodes: list[dict[str, Any]] = []
        self._kept: dict[str, list[np.ndarray]] = {}
        self._data: Any = None
        self._data_file = 0
        self._videos: dict[str, tuple[int, VideoWriter]] = {}
        size = contract.image_size
        self._features: dict[str, dict[str, Any]] = {
            layout.STATE: _feature("float32", contract.obs_dim, observation_names(contract)),
            layout.ACTION: _feature("float32", contract.action_dim, list(contract.joint_names)),
            **{name: _feature(kind, 1) for name, kind in _FLAGS.items()},
            **{name: _feature(kind, 1) for name, kind in layout.PLAIN.items()},
        }
        for camera in contract.images:
            self._features[layout.IMAGES + camera] = {
                "dtype": "video",
                "shape": [size, size, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": size,
                    "video.width": size,
                    "video.codec": CODEC,
                    "video.pix_fmt": PIXELS,
                    "video.is_depth_map": False,
                    "video.fps": contract.control_rate_hz,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }

    def add(self, episode: RecordedEpisode) -> None:
        """Append one episode."""
        steps, number = episode.steps, len(self._episodes)
        last = np.arange(steps) == steps - 1
        columns: dict[str, np.ndarray] = {
            layout.STATE: episode.observation[:-1],
            layout.ACTION: episode.action_rad.astype(np.float32),
            "next.reward": last * np.float32(episode.verdict.reward),
            "next.done": last,
            "next.success": last & episode.verdict.success,
            "complementary_info.is_intervention": episode.source == Source.TELEOP,
            "timestamp": np.arange(steps) / self._contract.control_rate_hz,
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": self._rows + np.arange(steps),
            "task_index": np.zeros(steps, np.int64),
        }
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [self._contract.task],
            "length": steps,
            "dataset_from_index": self._rows,
            "dataset_to_index": self._rows + steps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **self._write_rows(columns),
        }
        kept = {name: values.reshape(steps, -1) for name, values in columns.items()}
        for camera, images in zip(self._contract.images, episode.images, strict=True):
            row |= self._write_frames(layout.IMAGES + camera, images[:-1])
            kept[layout.IMAGES + camera] = images[:-1:_STATS_EVERY]
        for name, values in kept.items():
            self._kept.setdefault(name, []).append(values)
            for key, value in layout.statistics(values).items():
                row[f"stats/{name}/{key}"] = value
        self._episodes.append(row)
        self._rows += steps

    def finish(self) -> dict[str, Any]:
        """Close all files and write what describes them."""
        self._data.close()
        for _, video in self._videos.values():
            video.close()
        count = len(self._episodes)
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": self._contract.robot,
            "total_episodes": count,
            "total_frames": self._rows,
            "total_tasks": 1,
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": _whole(self._contract.control_rate_hz),
            "splits": {"train": f"0:{count}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._contract.images else None,
            "features": self._features,
        }
        self._write_json(layout.INFO, info)
        stats = {
            name: layout.statistics(np.concatenate(values)) for name, values in self._kept.items()
        }
        self._write_json(layout.STATS, stats)
        self._write_table(
            layout.EPISODES.format(chunk_index=0, file_index=0),
            self._pa.Table.from_pylist(self._episodes),
        )
        self._write_table(layout.TASKS, self._tasks())
        return info

    def _write_rows(self, columns: dict[str, np.ndarray]) -> dict[str, int]:
        pa = self._pa
        arrays = {}
        for name, values in columns.items():
            feature = self._features[name]
            kind = pa.bool_() if feature["dtype"] == "bool" else getattr(pa, feature["dtype"])()
            length = feature["shape"][0]
            if length == 1 and values.ndim == 1:
                arrays[name] = pa.array(values).cast(kind)
            else:
                flat = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(kind)
                arrays[name] = pa.FixedSizeListArray.from_arrays(flat, length)
        table = pa.table(arrays)
        path = self._folder / layout.DATA.format(**self._place(self._data_file))
        if self._data is not None and path.stat().st_size > layout.DATA_MB << 20:
            self._data.close()
            self._data = None
            self._data_file += 1
            path = self._folder / layout.DATA.format(**self._place(self._data_file))
        if self._data is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = self._pq.ParquetWriter(str(path), table.schema, compression="snappy")
        self._data.write_table(table)  # one row group per episode
        place = self._place(self._data_file)
        return {f"data/{name}": value for name, value in place.items()}

    def _write_frames(self, key: str, images: np.ndarray) -> dict[str, Any]:
        number, video = self._videos.get(key, (0, None))
        if video is not None and video.path.stat().st_size > layout.VIDEO_MB << 20:
            video.close()
            number, video = number + 1, None
        if video is None:
            place = self._folder / layout.VIDEO.format(video_key=key, **self._place(number))
            video = VideoWriter(place, self._contract.control_rate_hz)
            self._videos[key] = (number, video)
        begin = video.frames / self._contract.control_rate_hz
        video.add(images)
        end = video.frames / self._contract.control_rate_hz
        row: dict[str, Any] = {
            f"videos/{key}/{name}": value for name, value in self._place(number).items()
        }
        return row | {f"videos/{key}/from_timestamp": begin, f"videos/{key}/to_timestamp": end}

    @staticmethod
    def _place(number: int) -> dict[str, int]:
        chunk, file = divmod(number, layout.CHUNK_FILES)
        return {"chunk_index": chunk, "file_index": file}

    def _tasks(self) -> Any:
        # LeRobot reads the task's words as the index of a pandas table; this is how one is told.
        table = self._pa.table({"task_index": [0], "task": [self._contract.task]})
        column = {"metadata": None, "field_name": None}
        described = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {**column, "name": "task_index", "field_name": "task_index",
                 "pandas_type": "int64", "numpy_type": "int64"},
                {**column, "name": "task", "field_name": "task",
                 "pandas_type": "unicode", "numpy_type": "object"},
            ],
            "creator": {"library": "pyarrow", "version": self._pa.__version__},
            "pandas_version": "2.3.0",
        }  # fmt: skip
        return table.replace_schema_metadata({"pandas": json.dumps(described)})

    def _write_table(self, name: str, table: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pq.write_table(table, str(path))

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _feature(kind: str, size: int, names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": kind, "shape": [size], "names": names}


def _whole(rate: float) -> int:
    if rate != int(rate):
        raise FormatError(f"control_rate_hz is {rate}; LeRobot's fps is a whole number")
    return int(rate)
