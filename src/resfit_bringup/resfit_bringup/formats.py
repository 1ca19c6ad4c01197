"""`resfit import` and `resfit export`: episodes from and to other people's formats."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resfit_bringup import graph, paths
from resfit_bringup.arguments import Argument, parse_all
from resfit_bringup.errors import UsageError
from resfit_core.contract import Contract, ContractError, load_contract
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import list_episodes
from resfit_core.formats import lerobot_export, lerobot_import, robomimic
from resfit_core.formats.bag_writing import write_trajectory
from resfit_core.formats.trajectory import FieldMap, FormatError, read_map

_CONTRACT = (graph.ROBOT, graph.TASK, graph.OBSERVATION)
IMPORT = (
    *_CONTRACT,
    Argument("mapping", "", "YAML: which entry is which (docs/formats.md); empty: our own names"),
)


def import_episodes(source: Path, out: Path, given: Mapping[str, str]) -> str:
    """Write a foreign dataset's episodes as bags of ours; `out` appears when all are there.

    Args:
        source: folder of a LeRobotDataset v3, or a robomimic HDF5 file.
        out: new folder.
        given: arguments `IMPORT`, as text.

    Returns:
        One line: what was made, its size and speed.

    Raises:
        UsageError: an argument, a file, an episode or a field is wrong; names it.
    """
    values = parse_all(IMPORT, given, "import")
    if out.exists():
        raise UsageError(f"{out} exists; name a new folder")
    scratch = out.with_name(f".{out.name}.{os.getpid()}.partial")
    started = time.monotonic()
    with _said():
        mapping = read_map(Path(values["mapping"])) if values["mapping"] else None
        reader = _reader(source, _contract(values), mapping)
        steps = 0
        try:
            with _bar("importing") as bar:
                for number, trajectory in enumerate(reader, 1):
                    made = write_trajectory(scratch, number, trajectory, _contract(values))
                    steps += made.steps
                    bar(number, len(reader))
            if not steps:
                raise UsageError(f"{source} holds no episode")
            scratch.rename(out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _sum(len(reader), steps, source, out, started)


def export_episodes(source: Path, out: Path, given: Mapping[str, str]) -> str:
    """Write closed episodes as a LeRobotDataset v3.

    Args:
        source: a run, its `episodes`, or a set of demos.
        out: new folder.
        given: arguments robot, task and observation, as text.

    Returns:
        One line: what was made, its size and speed.

    Raises:
        UsageError: an argument or an episode is wrong; names it.
    """
    values = parse_all(_CONTRACT, given, "export")
    started = time.monotonic()
    with _said(), _bar("exporting") as bar:
        episodes = list_episodes(source)
        info = lerobot_export.export(episodes, _contract(values), out, bar)
    return _sum(info["total_episodes"], info["total_frames"], source, out, started)


def _reader(
    source: Path, contract: Contract, mapping: FieldMap | None
) -> lerobot_import.LeRobotReader | robomimic.RobomimicReader:
    if lerobot_import.is_dataset(source):
        return lerobot_import.LeRobotReader(source, contract, mapping)
    if robomimic.is_dataset(source):
        return robomimic.RobomimicReader(source, contract, mapping)
    raise UsageError(
        f"{source}: neither a LeRobot dataset (a folder with meta/info.json) nor a robomimic file "
        "(.hdf5)"
    )


def _contract(values: Mapping[str, Any]) -> Contract:
    robot, task = (paths.config_file(kind, values[kind]) for kind in ("robot", "task"))
    return load_contract(robot, task, values["observation"])


@contextmanager
def _said() -> Iterator[None]:
    """Turn the errors that name value and fix into one line for the user."""
    try:
        yield
    except (FormatError, ContractError, BagError) as error:
        raise UsageError(str(error)) from error


@contextmanager
def _bar(word: str) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns) as progress:
        task = progress.add_task(word, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _sum(episodes: int, steps: int, source: Path, out: Path, started: float) -> str:
    seconds = max(time.monotonic() - started, 1e-3)
    before, after = size_mb(source), size_mb(out)
    return (
        f"{episodes} episodes, {steps} steps: {before:.2f} MB of {source} are {after:.2f} MB in "
        f"{out}; {seconds:.1f} s, {steps / seconds:.0f} steps/s"
    )


def size_mb(path: Path) -> float:
    """Return what lies in a file or below a folder [MB]."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
