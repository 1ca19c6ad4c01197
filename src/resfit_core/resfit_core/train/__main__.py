"""`python -m resfit_core.train`: residual RL on any Gymnasium environment, without ROS.

    python -m resfit_core.train --env module:factory --base base.pt --demos demos.npz --out DIR

Exit code 0: done; 1: learning diverged; 2: an input cannot be used, one line on stderr says which
and why; 130: interrupted, the report holds what there is, `--resume` goes on. docs/library.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from resfit_core.learner import LearnerError
from resfit_core.train.display import make_display
from resfit_core.train.errors import TrainError, one_line
from resfit_core.train.job import ALGORITHMS, Result, Schedule
from resfit_core.train.prepare import Prepared, prepare
from resfit_core.train.recorder import Recorder
from resfit_core.train.report import write_report

INTERRUPTED = "interrupted; the same command with --resume goes on"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other refused input does."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise TrainError(f"{message}; --help lists all options")


def parser() -> Parser:
    """Return the command line."""
    made = Parser(
        prog="python -m resfit_core.train",
        description="Residual off-policy RL on a frozen base policy, on any Gymnasium env.",
    )
    add = made.add_argument
    add("--env", required=True, metavar="MODULE:FACTORY", help="factory(seed) -> Gymnasium env")
    add("--base", required=True, help="TorchScript file (.pt) or module:callable")
    add("--demos", required=True, type=Path, help="npz with obs, actions, episode_ends")
    add("--out", required=True, type=Path, help="output folder")
    add("--algo", default="resfit", help=f"{', '.join(ALGORITHMS)} (default: resfit)")
    add("--config", type=Path, help="YAML with settings; default: the algorithm's own")
    add("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="of settings")
    add("--seed", type=int, help="of everything random in training (default: 0)")
    default = Schedule()
    for name, what in (
        ("steps", "environment steps of training, warm-up included"),
        ("eval-every", "environment steps between evaluations; 0: none on the way"),
        ("eval-episodes", "scenes of each evaluation"),
        ("eval-seed", "episode i of every evaluation is reset(seed=eval_seed + i)"),
        ("final-episodes", "scenes of the last evaluation, base and outcome alike"),
    ):
        value = getattr(default, name.replace("-", "_"))
        add(f"--{name}", type=int, default=value, metavar="N", help=f"{what} (default: {value})")
    add("--eval-once", action="store_true", help="judge an unchanged policy once on a scene")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _train(prepare(parser().parse_args(arguments)))
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except LearnerError as error:
        return _say(one_line(error, 600), 1)
    except (ValueError, OSError) as error:
        # Every error of ours is a ValueError that says value and fix; a bug is not, and shows.
        if type(error) is ValueError:
            raise
        return _say(one_line(error, 600), 2)
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(prepared: Prepared) -> int:
    out, run = prepared.out, prepared.run
    display = make_display(prepared.job_fields["schedule"].steps)
    recorder = Recorder(out, display.show)
    job = prepared.job(recorder)
    result: Result | None = None
    missing = ["training stopped with an error"]
    try:
        result = ALGORITHMS[job.algo](job)
        missing = []
    except KeyboardInterrupt:
        missing = [INTERRUPTED]
    finally:
        recorder.close()
        report = write_report(out, run, recorder.records, result, missing)
        display.close()
        prepared.close()
    if result is None:
        return _say(missing[0], 130)
    print(_summary(report, out), file=sys.stderr)
    return 0


def _summary(report: dict[str, Any], out: Path) -> str:
    def words(side: str) -> str:
        rate = report[side]
        if not rate["n"]:
            return f"{side}: not evaluated"
        low, high = rate["ci95"]
        return f"{side} {rate['success']:.1%} [{low:.1%}, {high:.1%}] of {rate['n']}"

    return f"{words('base')}; {words('residual')}; report: {out / 'report.json'}"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(words: str, code: int) -> int:
    print(f"resfit_core.train: {words}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
