"""The scripted expert in the base policy's place: through filter and twin, as recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from resfit_core.base.checkpoint import load_base
from resfit_core.base.protocol import BaseError, BasePolicy, observation_fields
from resfit_core.contract import load_contract
from resfit_core.control.observe import ObservationBuilder
from resfit_core.control.safety import SafetyFilter
from resfit_sim.expert import ExpertBase
from resfit_sim.factory import twin_for
from resfit_sim.tasks import episode_seed

CONFIG = Path(__file__).parents[3] / "config"
ROBOT = CONFIG / "robot/vega_1.yaml"


def _contract(task="woolly_ball_pnp", variant="state"):
    return load_contract(ROBOT, CONFIG / f"task/{task}.yaml", variant)


@pytest.fixture(scope="module", params=["woolly_ball_pnp", "package_handover"])
def contract(request):
    return _contract(request.param)


@pytest.fixture(scope="module")
def twin(contract):
    return twin_for(contract)


@pytest.fixture(scope="module")
def base(contract, twin):
    return ExpertBase(contract, twin.model)


def _observe(contract, twin):
    sensors = twin.sensors()
    wrenches = [sensors.wrench_left, sensors.wrench_right]
    return ObservationBuilder(contract).build(
        sensors.joint_position, None, wrenches, sensors.object_poses
    )


def _demonstrate(contract, twin, base, seed):
    """Play one episode as the graph does; return success and how many commands were altered."""
    safety = SafetyFilter(contract)
    twin.reset(seed)
    base.reset(seed)
    safety.reset(twin.sensors().joint_position)
    altered = 0
    for step in range(contract.horizon_steps):
        action = base.act(_observe(contract, twin))
        assert action.planned == (step == 0) and 0.0 <= action.chunk_phase < 1.0
        wanted = base.action_space.to_rad(action.action_norm)
        sent, reasons = safety.filter(wanted, twin.sensors().joint_position)
        altered += reasons != 0
        twin.step(sent)
        if twin.success:
            return True, altered
    return False, altered


def test_demonstrations_succeed_through_the_filter(contract, twin, base):
    results = [_demonstrate(contract, twin, base, episode_seed("demo", i)) for i in range(15)]
    assert sum(success for success, _ in results) >= 13
    assert sum(altered for _, altered in results) == 0, "the filter must not change a demo"


def test_loader_takes_it_by_name(contract):
    base = load_base("resfit_sim.expert:ExpertBase", contract)
    assert isinstance(base, BasePolicy)
    assert len(base.base_sha256) == 64


def _whole_plan(contract, twin, base, seed):
    twin.reset(3)
    base.reset(seed)
    seen = _observe(contract, twin)
    return np.stack([base.act(seen).action_norm for _ in range(contract.horizon_steps + 1)])


def test_same_seed_same_plan_other_seed_another(contract, twin, base):
    first = _whole_plan(contract, twin, base, 3)
    np.testing.assert_array_equal(first, _whole_plan(contract, twin, base, 3))
    assert not np.array_equal(first, _whole_plan(contract, twin, base, 4))


def test_planned_at_the_start_and_nowhere_else(contract, twin, base):
    base.reset(4)
    twin.reset(4)
    seen = _observe(contract, twin)
    phases = [base.act(seen) for _ in range(3)]
    assert [step.planned for step in phases] == [True, False, False]
    assert [round(step.chunk_phase * base.chunk_length) for step in phases] == [0, 1, 2]


def test_holds_still_where_the_arm_cannot_reach(contract, twin, base, caplog):
    twin.reset(3)
    base.reset(3)
    seen = _observe(contract, twin)
    seen[contract.layout["object_position"]] = np.tile((3.0, 0.0, 0.7), len(contract.objects))
    target = base.action_space.to_rad(base.act(seen).action_norm)
    np.testing.assert_allclose(target, twin.sensors().joint_position, atol=1e-6)
    assert "seed 3" in caplog.text


def test_order_of_joints_and_objects_is_the_contracts(contract, twin, base):
    turned = dataclasses.replace(
        contract, joints=contract.joints[::-1], objects=contract.objects[::-1]
    )
    other = ExpertBase(turned, twin.model)
    twin.reset(5)
    sensors = twin.sensors()
    base.reset(5)
    other.reset(5)
    expected = base.act(_observe(contract, twin)).action_norm
    seen = np.zeros(turned.obs_dim, np.float32)
    seen[turned.layout["joint_position"]] = sensors.joint_position[::-1]
    seen[turned.layout["object_position"]] = sensors.object_poses[::-1, :3].ravel()
    np.testing.assert_array_equal(other.act(seen).action_norm[::-1], expected)


def test_sees_the_objects_where_others_see_images(contract, twin, base):
    """`pixels` shows no objects: the expert asks for its own fields and plays the same."""
    pixels = _contract(contract.task, "pixels")
    expert = ExpertBase(pixels, twin.model)
    assert observation_fields(expert, pixels) == ("joint_position", "object_position")
    assert observation_fields(base, contract) == contract.fields
    twin.reset(6)
    own = ObservationBuilder(dataclasses.replace(pixels, fields=expert.observation_fields))
    sensors = twin.sensors()
    seen = own.build(sensors.joint_position, object_poses=sensors.object_poses)
    expert.reset(6)
    base.reset(6)
    expected = base.act(_observe(contract, twin)).action_norm
    np.testing.assert_allclose(expert.act(seen).action_norm, expected, atol=1e-5)


def test_another_contract_is_refused_in_words(contract):
    with pytest.raises(BaseError, match=r"folding.*woolly_ball_pnp"):
        ExpertBase(dataclasses.replace(contract, task="folding"))
    with pytest.raises(BaseError, match=r"20 Hz.*50"):
        ExpertBase(dataclasses.replace(contract, control_rate_hz=50.0))
    with pytest.raises(BaseError, match="object"):
        ExpertBase(dataclasses.replace(contract, objects=("tote",)))
