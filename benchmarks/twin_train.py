"""`python -m resfit_core.train` for a task of the twin: the same algorithms, schedule and report.

    python -m benchmarks.twin_train --task woolly_ball_pnp --out DIR [--algo ...] [--set ...]

What differs from a Gymnasium environment: the contract names joints, groups and the critic's view,
the safety filter stands between policy and twin, the base is the shipped checkpoint and the demos
are the shipped bags. Options are those of `resfit_core.train`, but `--task` for `--env`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning import TwinEnv

from resfit_core import machine
from resfit_core.algorithms import settings
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.checkpoint import load_base
from resfit_core.base.relabel import relabel_folder
from resfit_core.base.sight import sight_of
from resfit_core.build import build_view, image_shapes
from resfit_core.contract import load_contract
from resfit_core.learner import LearnerError
from resfit_core.train import __main__ as command
from resfit_core.train.display import make_display
from resfit_core.train.errors import TrainError
from resfit_core.train.job import ALGORITHMS, Job, Result, Schedule, config_class
from resfit_core.train.prepare import read_config
from resfit_core.train.recorder import Recorder
from resfit_core.train.report import write_report

ROOT = Path(__file__).resolve().parents[1]


def read_settings(given: argparse.Namespace) -> TrainConfig:
    """Return the settings as `resfit_core.train` reads them; here every `critic_view` is fit.

    Raises:
        ConfigError, TrainError: a key is unknown or a value unfit.
    """
    views = [text for text in given.set if text.split("=")[0].strip() == "critic_view"]
    rest = [text for text in given.set if text not in views]
    kind = config_class(given.algo)
    config = settings.from_yaml(kind, given.config) if given.config else kind()
    view = views[-1].partition("=")[2].strip() if views else config.critic_view
    # The front end refuses the task-space view, having no contract; it is put back below.
    plain = argparse.Namespace(
        **{**vars(given), "set": [*rest, "critic_view=raw"]},
    )
    return read_config(plain).replace(critic_view=view)


def make_job(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load everything; return the fields of `Job` and the facts for the report."""
    config = read_settings(given)
    machine.prepare(config.torch_threads)
    shipped = ROOT / "config" / "shipped" / given.task
    task = ROOT / "config" / "task" / f"{given.task}.yaml"
    contract = load_contract(ROOT / "config" / "robot" / "vega_1.yaml", task, given.observation)
    base_file = given.base or shipped / f"base_{given.observation}.safetensors"
    demo_folder = shipped / "demos"
    base = load_base(base_file, contract)
    demos = relabel_folder(given.demos or demo_folder, base, contract)
    scale = resolve_scale(config.residual_scale, contract.groups())
    sight = sight_of(base, contract, config.image_features)
    if sight and given.algo != "resfit":
        raise TrainError(
            f"image_features is 'base', which --algo {given.algo} does not know; "
            "take resfit, or image_features: encoder"
        )
    hashes = {"contract_sha256": contract.sha256, "base_sha256": base.base_sha256}
    names = [field.name for field in dataclasses.fields(Schedule)]
    schedule = Schedule(**{name: getattr(given, name) for name in names})
    fields = {
        "algo": given.algo,
        "env": TwinEnv(contract, base.action_space),
        "eval_env": TwinEnv(contract, base.action_space),
        "base": base,
        "demos": demos,
        "config": config,
        "schedule": schedule,
        "obs_dim": (sight.contract if sight else contract).obs_dim,
        "act_dim": contract.action_dim,
        "image_shapes": {} if sight else image_shapes(contract),
        "sight": sight,
        "scale": scale,
        "control_rate_hz": contract.control_rate_hz,
        "out": given.out,
        "resume": given.resume,
        "view": build_view(config, contract, base, sight),
        **hashes,
    }
    arguments = {key: getattr(given, key) for key in ("task", "observation", "algo", "set")}
    run = {
        "task": given.task,
        "algo": given.algo,
        "arguments": {**arguments, "seed": config.seed, **dataclasses.asdict(schedule)},
        "settings": config.to_dict(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        **hashes,
    }
    return fields, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit codes as `resfit_core.train`."""
    given = parse(arguments)
    try:
        fields, run = make_job(given)
    except (ValueError, OSError) as error:
        print(f"twin_train: {error}", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(given.out, make_display(given.steps).show)
    job = Job(**fields, record=recorder, records=recorder.records, keep_records=recorder.keep)
    result: Result | None = None
    try:
        result = ALGORITHMS[given.algo](job)
    except LearnerError as error:
        print(f"twin_train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        recorder.close()
        write_report(given.out, run, recorder.records, result, [] if result else ["cut short"])
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line: the front end's, with `--task` in place of what the task gives."""
    first = argparse.ArgumentParser(description=__doc__.splitlines()[0], add_help=False)
    first.add_argument("--task", required=True, help="name in config/task")
    first.add_argument("--observation", default="state", help="the task's observation variant")
    first.add_argument("--base", type=Path, help="checkpoint; default: the shipped one")
    first.add_argument("--demos", type=Path, help="folder of bags; default: the shipped ones")
    own, rest = first.parse_known_args(arguments)
    given = command.parser().parse_args(["--env", own.task, "--base", "", "--demos", "", *rest])
    return argparse.Namespace(**{**vars(given), **vars(own)})


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
