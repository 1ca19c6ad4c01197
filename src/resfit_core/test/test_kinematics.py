"""Forward kinematics from the contract's chain."""

from pathlib import Path

import numpy as np
import pytest

from resfit_core.contract import ContractError, load_contract
from resfit_core.control.kinematics import ForwardKinematics, rotation_rpy

CONFIG = Path(__file__).resolve().parents[3] / "config"


def contract():
    return load_contract(
        CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "woolly_ball_pnp.yaml"
    )


def test_grasp_pose_of_the_reference_expert_puts_the_tip_on_the_ball():
    """VEGA.md: this arm pose grasps a ball of radius 35 mm at (.5, -.25) on a table at z .70."""
    c = contract()
    q = np.zeros(c.action_dim)
    q[13:20] = [-1.062, -0.311, 0.281, -1.596, -0.397, 0.549, 0.542]
    position, rotation = ForwardKinematics(c.hand, c.joint_names).tip(q)
    np.testing.assert_allclose(position, [0.5, -0.25, 0.735], atol=2e-3)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


def test_one_turned_joint_worked_by_hand():
    """A quarter turn of the first shoulder joint about -y swings what lay ahead (+x) to +z."""
    c = contract()
    fk = ForwardKinematics(c.hand, c.joint_names)
    zero, turned = np.zeros(c.action_dim), np.zeros(c.action_dim)
    turned[13] = np.pi / 2
    shoulder = np.array(c.hand.links[0].xyz)
    tilt = rotation_rpy(c.hand.links[0].rpy)
    local = tilt.T @ (fk.tip(zero)[0] - shoulder)
    expected = tilt @ np.array([-local[2], local[1], local[0]]) + shoulder
    np.testing.assert_allclose(fk.tip(turned)[0], expected, atol=1e-9)


def test_rpy_is_urdf_order():
    np.testing.assert_allclose(
        rotation_rpy((np.pi / 2, 0, np.pi / 2)) @ [0, 1, 0], [0, 0, 1], atol=1e-12
    )


def test_unknown_chain_is_refused(tmp_path):
    task = (CONFIG / "task" / "woolly_ball_pnp.yaml").read_text()
    wrong = tmp_path / "task.yaml"
    wrong.write_text(task.replace("hand: right_hand", "hand: third_hand"))
    with pytest.raises(ContractError, match="third_hand"):
        load_contract(CONFIG / "robot" / "vega_1.yaml", wrong)
