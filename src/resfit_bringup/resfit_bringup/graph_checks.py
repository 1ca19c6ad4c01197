"""Values of a job's arguments that mean nothing without each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resfit_bringup.errors import UsageError


def check_reward(values: dict[str, Any]) -> None:
    """Join `reward` and `classifier`, which mean nothing without each other."""
    given, wanted = values["classifier"] != "none", values["reward"] == "classifier"
    if given != wanted:
        fix = "add reward:=classifier" if given else "give its file with classifier:="
        raise UsageError(
            f"reward:={values['reward']} with classifier:={values['classifier']}: {fix}"
        )
    if given and not Path(values["classifier"]).is_file():
        raise UsageError(
            f"classifier:={values['classifier']} does not exist: make one with "
            "'resfit train-classifier'"
        )
    if given:
        values["classifier"] = str(Path(values["classifier"]).resolve())
