"""Registry of the twin's tasks."""

from __future__ import annotations

from resfit_core.seeds import SPLITS, episode_seed
from resfit_sim.errors import UnknownTask
from resfit_sim.tasks.base import Task
from resfit_sim.tasks.package_handover import PackageHandover
from resfit_sim.tasks.woolly_ball_pnp import WoollyBallPnP

__all__ = ["SPLITS", "TASKS", "Task", "episode_seed", "make_task"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (WoollyBallPnP, PackageHandover)}


def make_task(name: str) -> Task:
    """Return a new task by name.

    Raises:
        UnknownTask: If no such task is registered.
    """
    try:
        return TASKS[name]()
    except KeyError:
        raise UnknownTask(f"task '{name}' is unknown; known: {', '.join(sorted(TASKS))}") from None
