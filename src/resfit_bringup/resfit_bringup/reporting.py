"""`resfit report`: run what evaluation is left, make the video, write the report.

torch, the simulator and the plots are imported here only, when they are needed.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from resfit_bringup.errors import UsageError


def console() -> Console:
    """Return where reports are spoken of."""
    return Console(highlight=False, soft_wrap=True)


def report(folder: Path, evaluate: bool = True, video: bool = True) -> None:
    """Write the report of the run in `folder`; what cannot be done is said in it, with the reason.

    Args:
        folder: of the run, finished or not.
        evaluate: run the evaluation seeds that did not run through the nodes, in-process.
        video: make the video.

    Raises:
        UsageError: If the folder is no run or a file in it is damaged.
    """
    from resfit_bringup import blind, evaluating
    from resfit_core import report as core
    from resfit_core.run_log import RunLogError

    out = console()
    if blind.is_evaluation(folder):
        if not blind.finish(folder, out):
            raise UsageError(f"the seal does not hold: 'resfit verify-seal {folder}' says why")
        return
    missing = []
    try:
        if evaluate:
            missing += evaluating.evaluate_rest(folder, out)
        if video:
            missing += evaluating.make_video(folder, out)
        content = core.write_report(folder, missing)
    except RunLogError as error:
        raise UsageError(str(error)) from error
    from resfit_core.report_page import lead

    out.print(lead(content))
    for line in content["missing"]:
        out.print(f"missing: {line}", style="yellow", markup=False)
    out.print(f"report: {folder / 'report.html'}", markup=False)
