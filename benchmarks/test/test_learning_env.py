"""The environment of in-process training judges as the driver does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from resfit_core.action_space import ActionSpace
from resfit_core.contract import load_contract

CONFIG = Path(__file__).parents[2] / "config"


def test_force_limit_holds_in_process_training_too() -> None:
    """Bug: training in one process never passed the wrists on, training through nodes did."""
    pytest.importorskip("resfit_sim.factory")
    from benchmarks.learning import TwinEnv

    contract = load_contract(
        CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml", "state"
    )
    space = ActionSpace.from_limits(contract)
    env = TwinEnv(contract, space)
    env.reset(0)
    measured = env._sensors.joint_position
    wanted = space.to_norm(measured + 0.02)
    env._sensors = dataclasses.replace(env._sensors, wrenches=np.full((2, 6), 500.0))
    _, _, _, executed = env.step(wanted)
    np.testing.assert_allclose(executed, space.to_norm(measured), atol=1e-6)
    _, _, _, executed = env.step(wanted)  # the load is gone
    assert np.abs(executed - space.to_norm(measured)).max() > 1e-3
