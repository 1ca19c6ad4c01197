"""`resfit run <job>`: check, start, watch, stop, report."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from resfit_bringup import blind, checks, paths, run_dir, run_file, security
from resfit_bringup.graph import Node, Plan
from resfit_bringup.live import View
from resfit_bringup.processes import Command
from resfit_bringup.progress import Progress
from resfit_bringup.rules import Limits, Outcome
from resfit_bringup.supervisor import Supervisor


def run(plan: Plan, limits: Limits | None = None) -> Outcome:
    """Run one job to its end.

    Raises:
        UsageError: If something is wrong before anything was started.
    """
    hashes = checks.check(plan)
    folder = run_dir.open_run(plan, hashes)
    view = View([n.name for n in plan.nodes], Progress(folder, planned(plan, folder)))
    supervisor = Supervisor(commands(plan, folder), folder / "logs", view, plan.finisher, limits)
    view.event("run", f"{plan.job} in {folder}")
    view.start()
    try:
        return supervisor.run()
    finally:
        view.stop()


def commands(plan: Plan, folder: Path) -> list[Command]:
    """Return how to start each node of a plan whose run folder was made."""
    return [
        Command(
            node.name,
            [*program(node), *ros_arguments(plan, node, folder)],
            node.required,
            node.console,
            environment(folder),
        )
        for node in plan.nodes
    ]


def program(node: Node) -> list[str]:
    """Return how to start the executable of a node.

    Python scripts run under this very interpreter: the wheels of ROS need the one they were
    installed for.
    """
    path = paths.executable(node.package, node.executable)
    with open(path, "rb") as file:
        first = file.readline()
    return [sys.executable, str(path)] if b"python" in first else [str(path)]


def ros_arguments(plan: Plan, node: Node, folder: Path) -> list[str]:
    """Return the ROS arguments that name, configure and log a node."""
    return [
        "--ros-args",
        "-r", f"__node:={node.name}",
        "--params-file", str(folder / "config" / "nodes" / f"{node.name}.yaml"),
        "--log-level", plan.log_level,
        *security.enclave_arguments(node.name),
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Return the nodes' environment: the user's, with what it leaves open filled in."""
    env = dict(os.environ)
    env["PYTHONUNBUFFERED"] = "1"
    for name, value in extra_environment(str(folder)).items():
        env.setdefault(name, value)
    return env


def extra_environment(folder: str) -> dict[str, str]:
    """Return what both front ends set where the user did not.

    One thread per process for numpy and torch: eight processes share the cores, and the learner
    sets its own number. One for Mesa's software renderer as well, which is no faster with more.
    """
    return {"ROS_LOG_DIR": f"{folder}/logs/ros", "OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}


def planned(plan: Plan, folder: Path) -> int:
    """Return how many episodes the run plans; each evaluation seed is run by both policies."""
    if plan.job == blind.JOB:
        return blind.episodes(plan)
    values = {**run_file.read(folder)["arguments"], **plan.values}
    return values.get("episodes", 0) + 2 * values.get("evaluate_episodes", 0)


def what_next(outcome: Outcome, folder: Path) -> str:
    """Say why a run was not finished and what to do about it."""
    return (
        f"run ended: {outcome.reason}\n"
        f"continue it with run_dir:={folder}, report what there is with "
        f"'resfit report {folder}', logs lie in {folder / 'logs'}"
    )
