"""The scripted experts, by task, and the one node-ready base policy that plays them."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import ClassVar, Protocol

import mujoco
import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import BaseAction, BaseError, Images
from resfit_core.contract import Contract
from resfit_sim.errors import PlanFailed
from resfit_sim.handover_expert import HandoverExpert
from resfit_sim.joints import JOINT_NAMES
from resfit_sim.model import load_model
from resfit_sim.motion import RATE_HZ
from resfit_sim.tasks import make_task
from resfit_sim.woolly_ball_expert import WoollyBallExpert

_MISJUDGED_M = (0.03, 0.08)
_NEEDED = ("joint_position", "object_position")
_LOG = logging.getLogger(__name__)


class Expert(Protocol):
    """Plays one task; sees object poses and, at the start, joint positions.

    Attributes:
        task: Name in the task registry.
        objects: Names of the objects whose poses it wants, in that order.
    """

    task: ClassVar[str]
    objects: ClassVar[tuple[str, ...]]

    def __init__(self, model: mujoco.MjModel) -> None:
        """Prepare the kinematics of the compiled model's robot."""

    def reset(
        self, object_poses: np.ndarray, joint_position: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Plan from what is seen at the start; `rng` drives all variation.

        Args:
            object_poses: xyz, what follows is not read. Shape: (objects, 3 or more) [m].
            joint_position: Measured, order of `JOINT_NAMES`. Shape: (29,) [rad].
            rng: Drives all variation.

        Raises:
            PlanFailed: The arm cannot reach.
        """

    def act(self, step: int, object_poses: np.ndarray) -> np.ndarray:
        """Return the targets of control step `step`, from 0, order of `JOINT_NAMES` [rad].

        Raises:
            PlanFailed: It planned anew and the arm cannot reach.
        """


EXPERTS: dict[str, type[Expert]] = {e.task: e for e in (WoollyBallExpert, HandoverExpert)}
_SHARED_SOURCES = ("motion.py", "kinematics.py", "joints.py")


def make_expert(task: str, model: mujoco.MjModel) -> Expert:
    """Return a new expert of a task.

    Raises:
        BaseError: There is none.
    """
    if task not in EXPERTS:
        raise BaseError(f"no scripted expert plays task '{task}'; known: {', '.join(EXPERTS)}")
    return EXPERTS[task](model)


class ExpertBase:
    """The expert in the base policy's place, to record demonstrations through the topics.

    A `BasePolicy` whose one chunk is the whole episode. Where the arm cannot reach it holds still
    from there on, with a warning: the episode then ends as a time-out, which no demonstration is.

    Attributes:
        observation_fields: What it must see; more than the contract's where that shows no objects
            (`pixels`), so that demonstrations with images can be recorded as well.
    """

    def __init__(self, contract: Contract, model: mujoco.MjModel | None = None) -> None:
        """Check that an expert can serve the contract, and prepare its kinematics.

        Args:
            contract: Of a task with an expert, at the experts' rate.
            model: Compiled model of the task; None loads it.

        Raises:
            BaseError: No expert can play this contract.
        """
        _check_contract(contract)
        self.chunk_length = contract.horizon_steps + 1  # the last observation is answered too
        self.action_space = ActionSpace.from_limits(contract)
        self.base_sha256 = _identity(contract.task)
        self.contract_sha256 = contract.sha256
        seen = all(name in contract.fields for name in _NEEDED)
        self.observation_fields = contract.fields if seen else _NEEDED
        layout = dataclasses.replace(contract, fields=self.observation_fields).layout
        self._joints, self._objects = (layout[name] for name in _NEEDED)
        model = load_model(make_task(contract.task)) if model is None else model
        self._expert = make_expert(contract.task, model)
        self._object_order = [contract.objects.index(name) for name in self._expert.objects]
        self._to_ours = np.array([contract.joint_names.index(name) for name in JOINT_NAMES])
        self._to_contract = np.argsort(self._to_ours)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Drop the plan. The scene's seed gives the variation; None counts as 0."""
        self._seed = 0 if seed is None else seed
        self._step = 0
        self._held: np.ndarray | None = None

    def act(self, observation: np.ndarray, images: Images | None = None) -> BaseAction:
        """Return the next action; `observation` holds `observation_fields`."""
        del images
        step, self._step = self._step, self._step + 1
        if self._held is None:
            try:
                target = self._target(step, np.asarray(observation, np.float64))
            except PlanFailed as error:
                _LOG.warning(
                    "expert holds still from step %d in the scene of seed %d: %s",
                    step, self._seed, error,
                )  # fmt: skip
                self._held = np.asarray(observation[self._joints], np.float64)
        if self._held is not None:
            target = self._held
        phase = min(step, self.chunk_length - 1) / self.chunk_length
        return BaseAction(self.action_space.to_norm(target), phase, step == 0)

    def _target(self, step: int, observation: np.ndarray) -> np.ndarray:
        """Return the joint targets in the contract's order. Shape: (29,) [rad]."""
        objects = observation[self._objects].reshape(-1, 3)[self._object_order]
        if step == 0:
            # The seed alone drew the scene; a demonstrator's hand must not follow from it.
            rng = np.random.default_rng([self._seed, 1])
            self._expert.reset(objects, observation[self._joints][self._to_ours], rng)
        return self._expert.act(step, objects)[self._to_contract]


class ClumsyExpert(ExpertBase):
    """The expert that misjudges where things are in half of the scenes, and mostly fails there.

    For episodes that end as failures: a success classifier learns from both.
    """

    def _target(self, step: int, observation: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([self._seed, 2])
        if rng.random() < 0.5:
            angle = rng.uniform(0, 2 * np.pi)
            shift = rng.uniform(*_MISJUDGED_M) * np.array([np.cos(angle), np.sin(angle), 0.0])
            observation = observation.copy()
            seen = observation[self._objects].reshape(-1, 3)
            observation[self._objects] = (seen + shift).reshape(-1)
        return super()._target(step, observation)


def _check_contract(contract: Contract) -> None:
    if contract.task not in EXPERTS:
        raise BaseError(
            f"no scripted expert plays task '{contract.task}'; known: {', '.join(EXPERTS)}"
        )
    if contract.control_rate_hz != RATE_HZ:
        raise BaseError(
            f"the scripted experts play at {RATE_HZ:g} Hz, control_rate_hz is "
            f"{contract.control_rate_hz:g}"
        )
    for what, needed, given in (
        ("object", EXPERTS[contract.task].objects, contract.objects),
        ("joint", JOINT_NAMES, contract.joint_names),
    ):
        for name in needed:
            if name not in given:
                raise BaseError(
                    f"the scripted expert of '{contract.task}' needs {what} '{name}', which the "
                    "contract lacks; see config/task and config/robot"
                )


def _identity(task: str) -> str:
    """Return a hash of what makes the expert act as it does: its source."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    own = Path(EXPERTS[task].__module__.rpartition(".")[2] + ".py").name
    for name in (own, *_SHARED_SOURCES):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()
