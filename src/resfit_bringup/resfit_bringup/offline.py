"""`resfit offline`: a run of the job `train` whose learner sees bags alone, and no nodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from resfit_bringup import checks, run_dir, run_file
from resfit_bringup.arguments import Argument
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import resolve
from resfit_core import offline
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.checkpoint import load_base
from resfit_core.contract import load_contract
from resfit_core.learner import LearnerError

UPDATES = Argument("updates", 0, "critic updates in all; 0: what the steps owe", least=0)


def run(given: Mapping[str, str]) -> int:
    """Make the run's folder and learn into it; return the exit code.

    Args:
        given: `bags`, `updates`, and arguments of the job `train`.

    Raises:
        UsageError: An argument or an input is wrong.
    """
    given = dict(given)
    bags, updates = given.pop("bags", ""), UPDATES.parse(given.pop("updates", "0"))
    if not bags:
        raise UsageError("bags:=<run or folder of episodes>[,…] is needed")
    plan = resolve("train", given)
    folder = run_dir.open_run(plan, checks.check(plan))
    values = plan.values
    robot, task, train = (run_file.config_copy(folder, k) for k in ("robot", "task", "train"))
    try:
        contract = load_contract(robot, task, values["observation"])
        config = TrainConfig.from_yaml(train).replace(seed=values["seed"])
        base = load_base(values["base"], contract)
        offline.run(Path(folder), contract, base, config, bags, values["demos"], updates)
    except LearnerError as error:
        print(f"resfit: {error}", file=sys.stderr)
        return 1
    except ValueError as error:  # all our typed errors are
        raise UsageError(str(error)) from error
    return 0
