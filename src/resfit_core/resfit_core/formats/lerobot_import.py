"""A LeRobotDataset v3 as trajectories under a contract.

The dataset does not hold what was seen after an episode's last action, so that action is left out:
T rows give T - 1 steps and T observations.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.formats import lerobot_layout as layout
from resfit_core.formats.frames import VideoReader
from resfit_core.formats.trajectory import Assembler, Column, FieldMap, FormatError, Trajectory


def is_dataset(path: Path) -> bool:
    """Return whether `path` looks like a LeRobot dataset."""
    return (path / layout.INFO).is_file()


class LeRobotReader:
    """Reads one dataset, episode by episode."""

    def __init__(self, root: Path, contract: Contract, mapping: FieldMap | None = None) -> None:
        """Read what describes the dataset.

        Args:
            root: its folder.
            contract: what the trajectories must fit.
            mapping: where the contract's parts lie; None: as `lerobot_export` names them.

        Raises:
            FormatError: no LeRobot dataset, of another version, or without a needed part.
        """
        self._root = Path(root)
        self._pa, self._pq = layout.arrow()
        self._info = self._read_info()
        self._features: Mapping[str, Any] = self._info["features"]
        self._map = mapping or self._guess(contract)
        self._assembler = Assembler(contract, self._map, str(self._root))
        rate = float(self._info["fps"])
        if abs(rate - contract.control_rate_hz) > 1e-6:
            raise FormatError(
                f"{self._root}: fps is {rate:g}, the robot's control_rate_hz is "
                f"{contract.control_rate_hz:g}; resample it or use a robot YAML of its rate"
            )
        self._rows = self._read_episode_rows()
        self._tables: dict[Path, Any] = {}
        self._videos: dict[Path, VideoReader] = {}

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Trajectory]:
        """Yield the episodes in order.

        Raises:
            FormatError: one cannot be taken; names file, episode and field.
        """
        for row in self._rows:
            yield self._read(row)

    def _read_info(self) -> dict[str, Any]:
        path = self._root / layout.INFO
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: cannot be read ({error}); is it a dataset?") from error
        version = str(info.get("codebase_version")) if isinstance(info, dict) else "none"
        if not version.startswith("v3."):
            raise FormatError(
                f"{path}: codebase_version is {version}, expected v3.x; convert it with lerobot's "
                "own convert_dataset_v21_to_v30"
            )
        for key, kind in (("fps", (int, float)), ("features", dict), ("data_path", str)):
            if not isinstance(info.get(key), kind):
                raise FormatError(f"{path}: {key} is {info.get(key)!r}; fetch the dataset again")
        return info

    def _guess(self, contract: Contract) -> FieldMap:
        """Return the mapping of our own exports."""
        state = self._features.get(layout.STATE, {})
        known = layout.element_names(state)
        fields = {}
        for name in contract.fields:
            own = tuple(element for element in known if element.startswith(f"{name}."))
            if own:
                fields[name] = Column(layout.STATE, names=own)
            elif contract.fields == ("joint_position",):
                fields[name] = Column(layout.STATE)
        images = {
            camera: layout.IMAGES + camera
            for camera in contract.images
            if layout.IMAGES + camera in self._features
        }
        success = "next.success" if "next.success" in self._features else "all"
        return FieldMap(Column(layout.ACTION), fields, images, success)

    def _read_episode_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        files = sorted((self._root / "meta/episodes").glob("*/*.parquet"))
        if not files:
            raise FormatError(f"{self._root}/meta/episodes: no parquet file; fetch it again")
        for file in files:
            table = self._table(file)
            names = [n for n in table.column_names if not n.startswith("stats/")]
            rows += table.select(names).to_pylist()
        return sorted(rows, key=lambda row: row["episode_index"])

    def _table(self, path: Path) -> Any:
        try:
            return self._pq.read_table(str(path))
        except (OSError, self._pa.ArrowException) as error:
            raise FormatError(f"{path}: no readable parquet file ({error})") from error

    def _read(self, row: Mapping[str, Any]) -> Trajectory:
        number = row["episode_index"]
        who = f"{self._root}: episode {number}"
        path = self._root / self._info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        if path not in self._tables:
            self._tables = {path: self._table(path)}  # one at a time: they may be large
        table = self._tables[path]
        chosen = table.filter(self._pa.compute.equal(table["episode_index"], number))
        length = int(row["length"])
        if len(chosen) != length or length < 2:
            raise FormatError(
                f"{who}: {len(chosen)} rows in {path.name}, its description says {length}, at "
                "least 2 are needed; drop the episode or fetch the file again"
            )

        def entry(key: str) -> tuple[np.ndarray, Sequence[str]]:
            values = self._numbers(chosen, key, who)
            names = layout.element_names(self._features.get(key, {}))
            return (values[:-1] if key == self._map.action.key else values), names

        return self._assembler.assemble(
            entry,
            lambda key: self._frames(chosen, row, key, length, who),
            self._success(chosen, who),
            who,
        )

    def _numbers(self, table: Any, key: str, who: str) -> np.ndarray:
        if key not in table.column_names:
            raise FormatError(f"{who}: no entry '{key}'; there are {table.column_names}")
        values = table[key].to_pylist()
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{who}: '{key}' is not an array of numbers ({error})") from error
        return array[:, None] if array.ndim == 1 else array

    def _success(self, table: Any, who: str) -> bool:
        rule = self._map.success
        if rule == "all":
            return True
        return bool(self._numbers(table, "next.reward" if rule == "reward" else rule, who)[-1, 0])

    def _frames(
        self, table: Any, row: Mapping[str, Any], key: str, length: int, who: str
    ) -> np.ndarray:
        kind = self._features.get(key, {}).get("dtype")
        if kind == "image":
            return np.stack([_decode(cell, key, who) for cell in table[key].to_pylist()])
        if kind != "video":
            cameras = [
                k for k, f in self._features.items() if f.get("dtype") in ("image", "video")
            ]
            raise FormatError(f"{who}: no images '{key}'; there are {cameras}")
        path = self._root / self._info["video_path"].format(
            video_key=key,
            chunk_index=row[f"videos/{key}/chunk_index"],
            file_index=row[f"videos/{key}/file_index"],
        )
        reader = self._videos.setdefault(path, VideoReader(path))
        first = round(row[f"videos/{key}/from_timestamp"] * self._info["fps"])
        return reader.read(first, length, who)


def _decode(cell: Any, key: str, who: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        return np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB"))
    except (TypeError, KeyError, UnidentifiedImageError) as error:
        raise FormatError(f"{who}: '{key}' holds no readable image ({error})") from error
