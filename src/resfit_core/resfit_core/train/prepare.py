"""From the command line to a `Job`: everything is loaded and checked before anything runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from resfit_core import machine, tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.algorithms import settings
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.train.base import NamedBase
from resfit_core.train.demos import read_demos, relabel
from resfit_core.train.errors import TrainError, one_line
from resfit_core.train.gym_task import GymTask, make_env
from resfit_core.train.job import MODULES, Job, Schedule, config_class
from resfit_core.train.recorder import PROGRESS_FILE, Recorder
from resfit_core.train.spaces import read_spaces

RUN_FILE = "run.json"
CONTROL_RATE_HZ = 20.0
"""A Gymnasium environment has no clock: one step counts as the paper's control period."""

_MOST_SEED = 200  # scene seeds must stay below 2^32 for environments of the old kind
_FIXED = ("env", "algo", "seed", "eval_seed")  # what a resumed run cannot change


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A job but for its recorder.

    Attributes:
        out: output folder, made.
        run: facts of the run, for the report.
        job_fields: the other fields of `Job`.
    """

    out: Path
    run: Mapping[str, Any]
    job_fields: Mapping[str, Any]

    def job(self, recorder: Recorder) -> Job:
        """Return the job."""
        return Job(
            **self.job_fields,
            record=recorder,
            records=recorder.records,
            keep_records=recorder.keep,
        )

    def close(self) -> None:
        """Close the environments."""
        for name in ("env", "eval_env"):
            self.job_fields[name].close()


def prepare(given: argparse.Namespace) -> Prepared:
    """Load and check everything; make the output folder.

    Raises:
        TrainError, ConfigError, BaseError, EpisodeError: an input cannot be used.
    """
    if given.algo not in MODULES:
        raise TrainError(f"--algo is '{given.algo}', expected one of {', '.join(MODULES)}")
    schedule = _schedule(given)
    config = read_config(given)
    _check_out(given.out, resume=given.resume)
    machine.prepare(config.torch_threads)
    raw = make_env(given.env, config.seed)
    spaces = read_spaces(raw, given.env)
    demos = read_demos(given.demos, spaces)
    scale = resolve_scale(config.residual_scale, [str(i) for i in range(spaces.act_dim)])
    action_space = ActionSpace.from_demos(demos.actions, scale)
    contract_sha256 = spaces.sha256(action_space)
    first = {key: images[0] for key, images in demos.images.items()}
    base = NamedBase(given.base, spaces).chunked(
        action_space, contract_sha256, demos.vector[0], first
    )
    episodes = relabel(demos, spaces, base, action_space)
    rows = len(demos.actions) + len(episodes)
    if config.demo_capacity < rows:  # a ring that is too small would silently drop the first ones
        config = config.replace(demo_capacity=rows)
    arguments = {k: getattr(given, k) for k in ("env", "base", "algo", "set")}
    arguments |= {"demos": str(given.demos), "config": given.config and str(given.config)}
    arguments |= {"seed": config.seed, **dataclasses.asdict(schedule)}
    run = {
        "task": given.env,
        "algo": given.algo,
        "arguments": arguments,
        "settings": config.to_dict(),
        "contract_sha256": contract_sha256,
        "base_sha256": base.base_sha256,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }
    run = _open_run(given.out, run, resume=given.resume)
    judge = make_env(given.env, schedule.eval_seed)
    return Prepared(
        given.out,
        run,
        {
            "algo": given.algo,
            "env": GymTask(raw, given.env, spaces, action_space),
            "eval_env": GymTask(judge, given.env, spaces, action_space),
            "base": base,
            "demos": episodes,
            "config": config,
            "schedule": schedule,
            "obs_dim": spaces.obs_dim,
            "act_dim": spaces.act_dim,
            "image_shapes": spaces.image_shapes,
            "scale": scale,
            "control_rate_hz": CONTROL_RATE_HZ,
            "contract_sha256": contract_sha256,
            "base_sha256": base.base_sha256,
            "out": given.out,
            "resume": given.resume,
        },
    )


def read_config(given: argparse.Namespace) -> TrainConfig:
    """Return the settings: the algorithm's own, then `--config`, then `--set`, then `--seed`.

    Raises:
        ConfigError, TrainError: a key is unknown or a value unfit.
    """
    kind = config_class(given.algo)
    config = settings.from_yaml(kind, given.config) if given.config else kind()
    changes: dict[str, Any] = {}
    for text in given.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise TrainError(f"--set '{text}': expected key=value")
        try:
            changes[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise TrainError(f"--set '{text}': no YAML value ({one_line(error, 120)})") from error
    config = settings.from_mapping(kind, {**config.to_dict(), **changes}, "--set")
    if given.seed is not None:
        config = config.replace(seed=given.seed)
    if config.seed > _MOST_SEED:
        raise TrainError(f"--seed is {config.seed}, must lie in [0, {_MOST_SEED}]")
    if config.critic_view != "raw":
        raise TrainError(
            f"critic_view is '{config.critic_view}', which needs a robot's contract; "
            "without one only 'raw' can be had"
        )
    if config.image_features != "encoder":
        raise TrainError(
            f"image_features is '{config.image_features}', which needs a base of ours with "
            "keypoints; here only 'encoder' can be had"
        )
    return config


def _schedule(given: argparse.Namespace) -> Schedule:
    names = [field.name for field in dataclasses.fields(Schedule)]
    least = {"steps": 1, "eval_episodes": 1}
    for name in names:
        value = getattr(given, name)
        if value < least.get(name, 0):
            option = name.replace("_", "-")
            raise TrainError(f"--{option} is {value}, must be {least.get(name, 0)} or more")
    schedule = Schedule(**{name: getattr(given, name) for name in names})
    if len(schedule.eval_seeds) > 1_000_000 or schedule.eval_seeds.stop > 2**32:
        raise TrainError(
            f"--eval-seed {schedule.eval_seed} with {len(schedule.eval_seeds)} scenes: at most "
            "1000000 scenes and seeds below 2^32 can be used"
        )
    return schedule


def _check_out(out: Path, *, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise TrainError(f"--out '{out}' is a file; name a folder")
    progress = out / PROGRESS_FILE
    if not resume and progress.exists() and progress.stat().st_size:
        raise TrainError(
            f"--out '{out}' holds a run already; add --resume, or name another folder"
        )


def _open_run(out: Path, run: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """Write `run.json`, or compare with the one of the run that goes on."""
    file = out / RUN_FILE
    if resume and file.exists():
        try:
            before = json.loads(file.read_text())["arguments"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrainError(f"{file} is damaged ({error}); name another --out") from error
        for key in _FIXED:
            if before.get(key) != run["arguments"][key]:
                option = key.replace("_", "-")
                raise TrainError(
                    f"--resume: '{out}' was begun with --{option} {before.get(key)}, not "
                    f"{run['arguments'][key]}; give the same, or another --out"
                )
    text = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
    tensorfile.write_atomic(file, text.encode())
    return run
