"""The `resfit` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resfit_bringup.arguments import split_pairs
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import JOBS, resolve
from resfit_bringup.rules import DIFFERENT, FINISHED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 the run failed, 2 bad input."""
    options = _parser().parse_args(argv)
    try:
        return options.handler(options)
    except UsageError as error:
        print(f"resfit: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resfit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser(
        "run",
        help="start a job's nodes: " + ", ".join(JOBS),
        epilog=_jobs_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("job", help=f"one of {', '.join(JOBS)}")
    run.add_argument("pairs", nargs="*", metavar="name:=value", help="arguments of the job")
    run.set_defaults(handler=_run)
    report = commands.add_parser("report", help="write a run's report, finished or not")
    report.add_argument("run_dir", type=Path, help="folder of the run, for example runs/latest")
    report.add_argument(
        "--as-is", action="store_true", help="run no further evaluation and make no video"
    )
    report.add_argument("--no-video", action="store_true", help="make no video")
    report.set_defaults(handler=_report)
    doctor = commands.add_parser(
        "doctor",
        help="check robot, task, base and demos before a run, and a run while it goes or after",
        epilog=_doctor_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("pairs", nargs="*", metavar="name:=value", help="what is to be checked")
    doctor.add_argument("--json", action="store_true", help="write the findings as JSON")
    doctor.set_defaults(handler=_doctor)
    learn = commands.add_parser(
        "train-classifier",
        help="learn from recorded pictures what success looks like: episodes:=DIR out:=FILE",
    )
    learn.add_argument("pairs", nargs="*", metavar="name:=value", help="see docs/classifier.md")
    learn.set_defaults(handler=_train_classifier)
    offline = commands.add_parser(
        "offline", help="train from recorded bags alone, into a run that other jobs go on with"
    )
    offline.add_argument(
        "pairs", nargs="*", metavar="name:=value",
        help="bags:=RUN[,RUN…] updates:=N, and arguments of 'run train': task:= run_dir:= …",
    )  # fmt: skip
    offline.set_defaults(handler=_offline)
    for name, handler, words in (
        ("reveal", _reveal, "end a blind evaluation for good: open its seal and report"),
        ("verify-seal", _verify_seal, "check an opened seal against all that its run left"),
    ):
        ends = commands.add_parser(name, help=words)
        ends.add_argument("run_dir", type=Path, help="folder of the evaluation")
        ends.set_defaults(handler=handler)
    info = commands.add_parser("info", help="say what a checkpoint, recorded episode or run is")
    info.add_argument("path", type=Path)
    info.set_defaults(handler=_info)
    keys = commands.add_parser("security-keys", help="make an SROS2 keystore for all nodes")
    keys.add_argument("folder", type=Path, help="new folder for the keystore; it holds secrets")
    keys.add_argument("--policies", type=Path, help="SROS2 policy file; default: the shipped one")
    keys.set_defaults(handler=_security_keys)
    _add_formats(commands)
    return parser


def _add_formats(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    given = "robot, task, observation: the contract, as for 'resfit run train'"
    words = {
        "import": "make episodes of ours from a LeRobotDataset v3 or a robomimic HDF5 file",
        "export": "make a LeRobotDataset v3 from a run, its episodes, or a set of demos",
    }
    for name, text in words.items():
        command = commands.add_parser(name, help=text, epilog=given)
        command.add_argument("source", type=Path, help="what is read")
        command.add_argument("out", type=Path, help="new folder")
        command.add_argument("pairs", nargs="*", metavar="name:=value")
        command.set_defaults(handler=_formats, direction=name)


def _jobs_help() -> str:
    lines = []
    for job in JOBS.values():
        lines.append(f"{job.name}: {job.help}")
        for a in job.arguments:
            choices = f" [{'|'.join(a.choices)}]" if a.choices else ""
            lines.append(f"  {a.name}:={a.as_text()}{choices}  {a.help}")
        lines.append("")
    return "\n".join(lines)


def _doctor_help() -> str:
    given = "name:=value, as for 'resfit run train': robot, task, observation, base, demos, "
    return given + "train_config; run_dir:=runs/latest checks a run; newest:=40 of its episodes"


def _run(options: argparse.Namespace) -> int:
    from resfit_bringup import run

    plan = resolve(options.job, split_pairs(options.pairs))
    outcome = run.run(plan)
    folder = Path(plan.values["run_dir"])
    if outcome.code not in (FINISHED, DIFFERENT):
        print(run.what_next(outcome, folder), file=sys.stderr)
    elif plan.values.get("report"):
        from resfit_bringup import reporting

        reporting.report(folder, video=plan.values.get("video", False))
    return outcome.code


def _offline(options: argparse.Namespace) -> int:
    from resfit_bringup import offline

    return offline.run(split_pairs(options.pairs))


def _report(options: argparse.Namespace) -> int:
    from resfit_bringup import reporting

    folder = options.run_dir.resolve()
    video = not (options.as_is or options.no_video)
    reporting.report(folder, evaluate=not options.as_is, video=video)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from resfit_bringup import doctor

    return doctor.run(split_pairs(options.pairs), options.json)


def _formats(options: argparse.Namespace) -> int:
    from resfit_bringup import formats

    way = formats.import_episodes if options.direction == "import" else formats.export_episodes
    print(way(options.source, options.out, split_pairs(options.pairs)))
    return 0


def _train_classifier(options: argparse.Namespace) -> int:
    from resfit_bringup import classifier

    return classifier.run(split_pairs(options.pairs))


def _reveal(options: argparse.Namespace) -> int:
    from resfit_bringup import blind, reporting

    return 0 if blind.finish(options.run_dir.resolve(), reporting.console(), now=True) else 1


def _verify_seal(options: argparse.Namespace) -> int:
    from resfit_bringup import blind, reporting

    return 0 if blind.verify(options.run_dir.resolve(), reporting.console()) else 1


def _security_keys(options: argparse.Namespace) -> int:
    from resfit_bringup import security

    nodes = security.make_keys(options.folder.resolve(), options.policies)
    print(f"{options.folder}: keys of {', '.join(nodes)}; docs/security.md says how to use them")
    return 0


def _info(options: argparse.Namespace) -> int:
    from resfit_bringup import info

    print(info.describe(options.path.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
