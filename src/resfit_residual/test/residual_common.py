"""What the node tests of this package share."""

import pathlib

import numpy as np

from resfit_core.contract import load_contract
from resfit_core.control.records import EpisodeState, ExecutedCommand, PolicyStep, Step
from resfit_ros import conversions as c

CONFIG = pathlib.Path(__file__).parents[3] / "config"
ROBOT, TASK = CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "woolly_ball_pnp.yaml"
CONTRACT = load_contract(ROBOT, TASK, "state")
BASE_SHA256 = "b" * 64
T = 50_000_000
SITE = {"robot_file": str(ROBOT), "task_file": str(TASK)}


def state(phase, episode=1, **kw):
    """Return an EpisodeState message."""
    record = EpisodeState(phase=phase, episode=episode, run_id="run", seed=100 * episode, **kw)
    return c.episode_state_to_msg(record)


def _seen(episode, step, is_last):
    rng = np.random.default_rng([episode, step])
    return {
        "stamp_ns": (1000 * episode + step) * T,
        "episode": episode,
        "step": step,
        "is_first": step == 0,
        "is_last": is_last,
        "observation": rng.normal(size=CONTRACT.obs_dim).astype(np.float32),
        "base_action": rng.uniform(-0.9, 0.9, CONTRACT.action_dim).astype(np.float32),
        "chunk_phase": (step % 4) / 4,
        "contract_sha256": CONTRACT.sha256,
        "base_sha256": BASE_SHA256,
    }


def policy_step(episode, step, is_last=False):
    """Return a PolicyStep message whose numbers follow from episode and step."""
    return c.policy_step_to_msg(PolicyStep(**_seen(episode, step, is_last)))


def step(episode, number, is_last=False):
    """Return the Step message that follows from `policy_step`, without a residual."""
    seen = _seen(episode, number, is_last)
    action = np.zeros(0) if is_last else seen["base_action"]
    return c.step_to_msg(Step(**seen, action=action, weights_version=0, explored=False))


def executed(episode, number):
    """Return the driver's answer to it."""
    seen = _seen(episode, number, is_last=False)
    norm = seen["base_action"] * 0.5  # the filter slowed it
    return c.executed_to_msg(
        ExecutedCommand(seen["stamp_ns"], 0, norm.astype(np.float64), norm, True, 2)
    )
