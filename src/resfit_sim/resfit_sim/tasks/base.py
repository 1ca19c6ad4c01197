"""What the twin needs to know of a task."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from pathlib import Path

import mujoco
import numpy as np


class Task(ABC):
    """Objects, random starts and the success oracle of one task.

    A task instance belongs to one twin; it may remember facts of the current episode.

    Attributes:
        name: Name in the registry and in `config/task/`.
        object_names: Bodies whose poses the twin reports, in order.
        horizon_steps: Control steps until an episode is truncated.
    """

    name: str
    object_names: tuple[str, ...]
    horizon_steps: int

    @classmethod
    def source(cls) -> Path:
        """Return the file that defines the task; the model cache depends on its content."""
        return Path(inspect.getfile(cls))

    @abstractmethod
    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Add the task's bodies to the specification of robot and room."""

    @abstractmethod
    def reset(
        self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> np.ndarray:
        """Place all objects at random and return the joints' start pose.

        `data` was reset before. The task may edit `model` (sizes, masses) as long as the result
        depends on `rng` alone.

        Returns:
            Joint positions in the order of `JOINT_NAMES`. Shape: (29,) [rad].
        """

    @abstractmethod
    def observe(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        """Look at the state once per control step and say whether the task is done."""
