"""A run's report: `report.json`, `report.html`, `learning_curve.png` and TensorBoard scalars.

Works on whatever a run left, also on one that was stopped half-way, and then says what is missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.machine import versions
from resfit_core.report_numbers import Run, numbers, read_run, windowed
from resfit_core.report_page import CURVE_FILE, render
from resfit_core.report_plots import learning_curve
from resfit_core.run_log import EpisodeLine

JSON_FILE, HTML_FILE = "report.json", "report.html"


def write_report(folder: Path, missing: Sequence[str] = ()) -> dict[str, Any]:
    """Write all parts of the report of a run, from its files, and return `report.json`.

    Args:
        folder: the run's.
        missing: what the caller could not do and why, in words.

    Raises:
        RunLogError: The folder is no run or a file is damaged.
    """
    run = read_run(folder)
    report = {**numbers(run), "versions": versions()}
    report["missing"] = [*missing, *_missing(run, report)]
    _write(folder / JSON_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    learning_curve(run.episodes, report, folder / CURVE_FILE)
    write_scalars(run, folder / "tensorboard" / "success")
    _write(folder / HTML_FILE, render(report, folder))
    return report


def _missing(run: Run, report: Mapping[str, Any]) -> list[str]:
    arguments = run.described.get("arguments", {})
    found = []
    wanted = arguments.get("episodes")
    if wanted and report["episodes"] < wanted:
        found.append(
            f"training: {report['episodes']} of {wanted} episodes; "
            f"continue with run_dir:={run.folder}"
        )
    if not run.learner and arguments.get("demos"):
        found.append("the learner's numbers: learner.jsonl is missing")
    wanted = arguments.get("evaluate_seeds")
    found += [
        f"evaluation: {report[side]['n']} of {wanted} scenes with the {side}; "
        f"'resfit report {run.folder}' runs the others"
        for side in ("base", "residual")
        if wanted and report[side]["n"] < wanted
    ]
    return found


# --- TensorBoard ---------------------------------------------------------------------------------


def write_scalars(run: Run, folder: Path) -> None:
    """Write success as TensorBoard scalars, in place of those of an earlier report."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    practice: list[EpisodeLine] = [e for e in run.practice if e.rated]
    with SummaryWriter(str(folder)) as writer:
        for e in practice:
            writer.add_scalar("success/episode", float(e.success), e.episode, walltime=e.end_s)
        window = min(20, len(practice))
        curve = windowed([e.success for e in practice], window) if practice else []
        for e, value in zip(practice[max(window - 1, 0) :], curve, strict=True):
            writer.add_scalar(f"success/last_{window}", value, e.episode, walltime=e.end_s)


def _write(path: Path, text: str) -> None:
    tensorfile.write_atomic(path, text.encode())
