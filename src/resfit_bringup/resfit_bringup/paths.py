"""Where files are: configuration, shipped checkpoint and demos, runs, executables."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from resfit_bringup.errors import UsageError
from resfit_core.control.limits import beside
from resfit_core.strict_yaml import ContractError, read_yaml

PACKAGE = "resfit_bringup"
CLIENTS = ("twin", "fake", "dexcontrol", "external")


def share() -> Path:
    """Return the folder that holds `config/` and `launch/`.

    The source tree where this file lies in one (also behind `colcon build --symlink-install`),
    else the installed share folder.

    Raises:
        UsageError: If neither is there.
    """
    candidates = [Path(__file__).resolve().parents[1]]
    candidates += [Path(p) / "share" / PACKAGE for p in prefixes()]
    for folder in candidates:
        if (folder / "config" / "robot").is_dir():
            return folder.resolve()
    raise UsageError(
        f"no config/ found beside {PACKAGE} or in AMENT_PREFIX_PATH: "
        "source the workspace (or run 'make setup') first"
    )


def prefixes() -> list[Path]:
    """Return the install prefixes of the sourced workspaces, overlay first."""
    return [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]


def config_file(kind: str, name: str) -> str:
    """Find `config/<kind>/<name>.yaml`, or take `name` as a file where it looks like one.

    Raises:
        UsageError: If there is no such file; names those there are.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        if not Path(name).is_file():
            raise UsageError(f"{kind} file '{name}' does not exist")
        return str(Path(name).resolve())
    folder = share() / "config" / kind
    path = folder / f"{name}.yaml"
    if not path.is_file():
        # Names without a dot: vega_1.safety.yaml and its like belong to vega_1.
        names = sorted(p.stem for p in folder.glob("*.yaml") if "." not in p.stem)
        known = ", ".join(names) or "none"
        fix = f"known: {known}, or give a .yaml file"
        if (kind, name) == ("robot", "external"):
            fix += "; who answers on its topics is the client: client:=external"
        raise UsageError(f"'{name}' is not in config/{kind}; {fix}")
    return str(path.resolve())


def client(given: str, robot_file: str) -> str:
    """Return the driver's client: as given, else as `<robot>.driver.yaml` says, else the twin.

    Raises:
        UsageError: If the file names one that there is not.
    """
    file = beside(robot_file, "driver")
    try:
        said = read_yaml(file).get("client", "twin") if file.is_file() else "twin"
    except ContractError as error:
        raise UsageError(str(error)) from error
    name = given or str(said)
    if name not in CLIENTS:
        raise UsageError(f"{file}: client '{name}' is not one of {', '.join(CLIENTS)}")
    return name


def train_config(given: str, task: str, observation: str) -> str:
    """Find the learning settings; where none are named, the most special ones that there are.

    In this order: `<task>_<observation>`, `<observation>`, `<task>`, `default`; of `state` the
    name is left out.

    Raises:
        UsageError: If a named file is not there.
    """
    stem = Path(task).stem
    names = [stem] if observation == "state" else [f"{stem}_{observation}", observation, stem]
    folder = share() / "config" / "train"
    own = (name for name in names if (folder / f"{name}.yaml").is_file())
    return config_file("train", given or next(own, "default"))


def teleop_mapping(given: str) -> str:
    """Return what controls move; where no file is named, the shipped one."""
    return config_file("operator", given or "teleop")


def base_shipped(task: str, observation: str) -> Path:
    """Return where the task's shipped base policy lies."""
    return share() / "config" / "shipped" / Path(task).stem / f"base_{observation}.safetensors"


def demos_shipped(task: str) -> Path:
    """Return where the task's shipped demonstrations lie."""
    return share() / "config" / "shipped" / Path(task).stem / "demos"


def base(given: str, task: str, observation: str) -> str:
    """Return the base policy to load: a file's path, or `package.module:Class` as it is.

    Raises:
        UsageError: If a file is meant and not there.
    """
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", given):
        return given
    path = Path(given) if given else base_shipped(task, observation)
    if not path.exists():
        fix = "give base:=<file>" if given else "run 'make base', or give base:=<file>"
        raise UsageError(f"base checkpoint '{path}' does not exist: {fix}")
    return str(path.resolve())


def demos(given: str, task: str) -> str:
    """Return the folder of the demonstration bags; of a run of `record`, its `episodes`.

    Raises:
        UsageError: If it is not there.
    """
    path = Path(given) if given else demos_shipped(task)
    if not path.is_dir():
        fix = "give demos:=<folder>" if given else "run 'make demos', or give demos:=<folder>"
        raise UsageError(f"folder of demonstrations '{path}' does not exist: {fix}")
    episodes = path / "episodes"
    return str((episodes if episodes.is_dir() else path).resolve())


def warmup_episodes(train_config: str) -> int:
    """Return the number of warm-up episodes that the learning settings ask for.

    Raises:
        UsageError: If the settings are wrong.
    """
    from resfit_core.algorithms.config import TrainConfig  # pulls torch in: only where needed
    from resfit_core.algorithms.settings import ConfigError

    try:
        return TrainConfig.from_yaml(train_config).warmup_episodes
    except ConfigError as error:
        raise UsageError(str(error)) from error


def run_dir(given: str) -> str:
    """Return the absolute folder of the run; `runs/<time>` below the current folder if empty.

    `runs/latest` is followed: a run is called by its own name.
    """
    return str(Path(given or f"runs/{time.strftime('%Y%m%d_%H%M%S')}").resolve())


def executable(package: str, name: str) -> Path:
    """Find a node's executable in the sourced workspaces.

    Raises:
        UsageError: If it is not installed.
    """
    for prefix in prefixes():
        path = prefix / "lib" / package / name
        if path.is_file():
            return path
    fix = (
        "build and source the workspace ('make setup') first"
        if package.startswith("resfit_")
        else f"install it (apt install ros-$ROS_DISTRO-{package.replace('_', '-')}) and source ROS"
    )
    raise UsageError(
        f"node '{name}' of package '{package}' is not installed in AMENT_PREFIX_PATH: {fix}"
    )
