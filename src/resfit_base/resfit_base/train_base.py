"""Train the frozen base policy from demonstration bags: `make base`, or `train_base --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from resfit_core.base.checkpoint import freeze
from resfit_core.base.protocol import BaseError
from resfit_core.base.train import BaseTrainConfig, Trained, train
from resfit_core.contract import Contract, ContractError, load_contract
from resfit_core.data.bag_reader import RecordedEpisode, read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import list_episodes

REFUSED = 2
_WIDTH = 30  # of the progress bar, characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, freeze and say what came out; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        contract = load_contract(
            config_file("robot", options.robot),
            config_file("task", options.task),
            options.observation,
        )
        shipped = config_folder() / "shipped" / contract.task
        demos_folder = Path(options.demos or shipped / "demos")
        out = Path(options.out or shipped / f"base_{options.observation}.safetensors")
        if out.suffix != ".safetensors":
            raise BaseError(f"--out '{out}' must end in .safetensors")
        demos = read_demos(demos_folder, options.episodes)
        config = BaseTrainConfig(
            steps=options.steps,
            batch_size=options.batch,
            seed=options.seed,
            validation_share=options.validation,
            points=options.points,
        )
        trained = train(demos, contract, config, show_progress)
    except (BagError, BaseError, ContractError, OSError) as error:
        print(f"train_base: {error}", file=sys.stderr)
        return REFUSED
    sha256 = freeze(out, trained.net, trained.space, contract, _facts(trained, config, demos))
    _report(trained, contract, out, sha256)
    return 0


def read_demos(folder: Path, episodes: int) -> list[RecordedEpisode]:
    """Read the first `episodes` demos of a folder; 0: all.

    Raises:
        BagError: There are fewer, or one cannot be read.
    """
    paths = list_episodes(folder)
    if not paths or len(paths) < episodes:
        raise BagError(
            f"'{folder}' holds {len(paths)} demos, {episodes or 'some'} are wanted: record them "
            "with 'make demos', or give --demos and --episodes"
        )
    return [read_episode(path) for path in paths[: episodes or None]]


def config_folder() -> Path:
    """Return the `config` folder: of the working directory, else of the sourced workspace.

    Raises:
        ContractError: There is none.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for folder in (Path(), *(Path(p, "share", "resfit_bringup") for p in prefixes)):
        if (folder / "config" / "robot").is_dir():
            return (folder / "config").resolve()
    raise ContractError("no config/ folder here: start in the repository, or source the workspace")


def config_file(kind: str, name: str) -> Path:
    """Return `config/<kind>/<name>.yaml`, or `name` itself where it is a file."""
    given = Path(name)
    return given if given.suffix in (".yaml", ".yml") else config_folder() / kind / f"{name}.yaml"


def show_progress(step: int, steps: int, l1: float) -> None:
    """Draw the bar on a terminal; elsewhere say a line every tenth."""
    if sys.stdout.isatty():
        done = round(_WIDTH * step / steps)
        end = "\n" if step == steps else ""
        bar = "#" * done + "." * (_WIDTH - done)
        print(f"\rtraining the base [{bar}] {step}/{steps}  L1 {l1:.4f}", end=end, flush=True)
    elif step * 10 // steps != (step - 20) * 10 // steps:
        print(f"training the base: {step}/{steps}  L1 {l1:.4f}", flush=True)


def _facts(
    trained: Trained, config: BaseTrainConfig, demos: Sequence[RecordedEpisode]
) -> dict[str, float | int | str]:
    """Return what goes into the file's header; equal runs give equal bytes, so no times."""
    return {
        "demos": trained.episodes,
        "chunks": trained.samples,
        "first_demo_seed": min(d.seed for d in demos),
        "last_demo_seed": max(d.seed for d in demos),
        "steps": config.steps,
        "seed": config.seed,
        "l1": round(trained.l1, 6),
    }


def _report(trained: Trained, contract: Contract, out: Path, sha256: str) -> None:
    held = "" if trained.validation_l1 is None else f", held out {trained.validation_l1:.4f}"
    print(
        f"base policy for {contract.task} ({contract.variant}): {trained.episodes} demos, "
        f"{trained.samples} chunks, L1 {trained.l1:.4f}{held} (normalised), "
        f"{trained.wall_s:.0f} s\n"
        f"  {out}  {out.stat().st_size / 1e6:.2f} MB  sha256 {sha256[:12]}"
    )


def _parser() -> argparse.ArgumentParser:
    default = BaseTrainConfig()
    parser = argparse.ArgumentParser(prog="train_base", description=__doc__)
    add = parser.add_argument
    add("--demos", default="", help="folder of demo bags or a run; default: the task's shipped")
    add("--robot", default="vega_1", help="name in config/robot, or a YAML file")
    add("--task", default="woolly_ball_pnp", help="name in config/task, or a YAML file")
    add("--observation", default="state", help="the task's observation variant")
    add("--out", default="", help="file to write; default: the task's shipped base")
    add("--seed", type=int, default=0, help="of weights and batches")
    add("--steps", type=int, default=default.steps, help="optimiser steps")
    add("--batch", type=int, default=default.batch_size, help="chunks per optimiser step")
    add("--episodes", type=int, default=0, help="use the first so many demos; 0: all")
    add(
        "--points", type=int, default=default.points,
        help="keypoints per image; 0: a transformer over patches",
    )  # fmt: skip
    add("--validation", type=float, default=0.0, help="share of demos held out to report L1 on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
