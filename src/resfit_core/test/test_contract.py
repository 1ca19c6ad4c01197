"""What a contract's hash covers, and how a task names the hands that it looks from."""

import json
from pathlib import Path

import pytest
import yaml

from resfit_core.contract import ContractError, load_contract

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT = CONFIG / "robot" / "vega_1.yaml"


@pytest.mark.parametrize("task", ["woolly_ball_pnp", "package_handover"])
def test_shipped_demos_were_made_under_this_contract(task):
    """Whoever changes a hashed setting must record demos and train the base anew."""
    manifests = sorted((CONFIG / "shipped" / task / "demos").glob("*/manifest.json"))
    assert manifests
    contract = load_contract(ROBOT, CONFIG / "task" / f"{task}.yaml")
    for manifest in manifests:
        assert json.loads(manifest.read_text())["contract_sha256"] == contract.sha256, manifest


def _robot_without(chain, folder):
    robot = yaml.safe_load(ROBOT.read_text())
    del robot["chains"][chain]
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(robot, sort_keys=False))
    return path


def test_only_the_chains_that_a_task_looks_from_are_hashed(tmp_path):
    ball = CONFIG / "task" / "woolly_ball_pnp.yaml"
    one_armed = _robot_without("left_hand", tmp_path)
    assert load_contract(one_armed, ball).sha256 == load_contract(ROBOT, ball).sha256
    with pytest.raises(ContractError, match="left_hand"):
        load_contract(one_armed, CONFIG / "task" / "package_handover.yaml")


@pytest.mark.parametrize(("given", "hands"), [("null", 0), ("right_hand", 1), ("[left_hand]", 1)])
def test_a_task_names_no_hand_or_one_or_several(tmp_path, given, hands):
    task = (CONFIG / "task" / "woolly_ball_pnp.yaml").read_text()
    path = tmp_path / "task.yaml"
    path.write_text(task.replace("hand: right_hand", f"hand: {given}"))
    contract = load_contract(ROBOT, path, "pixels")
    assert len(contract.hands) == hands
    assert (contract.hand is None) == (hands == 0)


def test_hand_must_be_a_name_or_a_list_of_them(tmp_path):
    task = (CONFIG / "task" / "woolly_ball_pnp.yaml").read_text()
    path = tmp_path / "task.yaml"
    path.write_text(task.replace("hand: right_hand", "hand: [1]"))
    with pytest.raises(ContractError, match=r"'hand' is \[1\]"):
        load_contract(ROBOT, path)
