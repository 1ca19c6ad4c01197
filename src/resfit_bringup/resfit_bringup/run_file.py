"""`run.json` of an earlier run, and what a later stretch takes over from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resfit_bringup.arguments import Argument, as_text
from resfit_bringup.errors import UsageError

NAME = "run.json"


def read(folder: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        UsageError: If it is missing or damaged.
    """
    try:
        return json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        raise UsageError(f"'{folder}' is not a run: it has no {NAME}") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{folder / NAME} is damaged: {error}") from error


def with_inherited(
    given: Mapping[str, str], arguments: Iterable[Argument], folder: Path
) -> dict[str, str]:
    """Return what was given, with the arguments and files of the run in `folder` as defaults.

    So that `run_dir:=runs/latest` alone continues a run as it was.

    Raises:
        UsageError: If the folder is no run.
    """
    described = read(folder)
    before = {**described.get("arguments", {})}
    for name, kind in (("robot", "robot"), ("task", "task"), ("train_config", "train")):
        copy = config_copy(folder, kind)
        if copy.is_file():
            before[name] = str(copy)
    inherited = {a.name: as_text(before[a.name]) for a in arguments if a.kept and a.name in before}
    return {**inherited, **given}


def with_the_bags_run(
    given: Mapping[str, str], arguments: Iterable[Argument]
) -> Mapping[str, str]:
    """Return what was given, with the settings of the run that `bag` belongs to as defaults.

    Raises:
        UsageError: There is no such bag.
    """
    bags = [Path(word.strip()).resolve() for word in given["bag"].split(",")]
    missing = [path for path in bags if not path.exists()]
    if missing:
        raise UsageError(f"bag:={missing[0]} does not exist: give an episode, a run, or a folder")
    given = {**given, "bag": ",".join(map(str, bags))}
    # <run>/episodes/<episode>/<file>
    near = (bags[0], *bags[0].parents)[:4]
    run = next((folder for folder in near if (folder / NAME).is_file()), None)
    return with_inherited(given, arguments, run) if run else given


def config_copy(folder: Path, kind: str) -> Path:
    """Return where a run keeps its own copy of the `robot`, `task` or `train` YAML."""
    return folder / "config" / f"{kind}.yaml"
