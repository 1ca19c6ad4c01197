"""The collision model: worked out by hand on a small robot, then on the shipped one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from resfit_core.contract import Contract, load_contract
from resfit_core.control.collision import Box, CollisionModel
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.data.bag_reader import read_episodes
from resfit_core.strict_yaml import ContractError

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"

# Two arms of one joint, turning about z at x = +-0.3; each has one sphere of 5 cm at its tip,
# 30 cm out along x; the left arm's tip carries a finger of its own.
SMALL = """
robot: small
frames:
  left: {parent: base, joint: a, multiplier: 1, offset: 0, xyz: [-0.3, 0, 0],
         quat: [1, 0, 0, 0], axis: [0, 0, 1]}
  right: {parent: base, joint: b, multiplier: 1, offset: 3.14159265358979, xyz: [0.3, 0, 0],
          quat: [1, 0, 0, 0], axis: [0, 0, 1]}
  finger: {parent: left, joint: c, multiplier: 2, offset: 0, xyz: [0.3, 0, 0],
           quat: [1, 0, 0, 0], axis: [0, 1, 0]}
links:
  left_link: {frame: left, group: left, spheres: [[0.3, 0, 0, 0.05]]}
  right_link: {frame: right, group: right, spheres: [[0.3, 0, 0, 0.05]]}
  finger_link: {frame: finger, group: left, spheres: [[0, 0, -0.1, 0.01]]}
allowed:
  - [left_link, finger_link]
"""
APART = np.array([1.0, 1.0, 0.0])  # left tip up at +y, right tip at -y


@pytest.fixture
def small(tmp_path: Path):
    def make(text: str = SMALL, margins=None, boxes=()) -> CollisionModel:
        file = tmp_path / "small.collision.yaml"
        file.write_text(text)
        return CollisionModel(file, ["a", "b", "c"], margins or {"default": 0.02}, boxes)

    return make


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml")


@pytest.fixture(scope="module")
def vega(contract: Contract) -> CollisionModel:
    assert contract.safety is not None and contract.safety.collision is not None
    return contract.safety.collision


@pytest.fixture(scope="module")
def demos() -> list[np.ndarray]:
    episodes = read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos")
    return [episode.action_rad for episode in episodes]


def test_distance_is_between_the_surfaces(small) -> None:
    gaps = small().gaps(np.zeros(3))
    assert gaps["left_link", "right_link"] == pytest.approx(0.0 - 0.1)  # both tips at the origin
    assert ("left_link", "finger_link") not in gaps


def test_mimic_multiplies_and_offsets(small) -> None:
    # The finger points down; at c = pi/4 it has turned by pi/2 about y, and points to -x.
    gaps = small().gaps(np.array([0.0, np.pi / 2, np.pi / 4]))
    tip = np.array([-0.1, 0.0, 0.0])
    right = np.array([0.3, -0.3, 0.0])
    assert gaps["right_link", "finger_link"] == pytest.approx(np.linalg.norm(tip - right) - 0.06)


def test_apart_is_no_collision_and_close_is(small) -> None:
    model = small()
    assert model.check(APART, APART) is None
    hit = model.check(APART, np.zeros(3))
    assert hit is not None
    assert (hit.with_itself, hit.with_box) == (True, False)
    assert ("left_link", "right_link") in hit.pairs
    assert list(hit.joints[:2]) == [True, True]


def test_only_joints_between_the_two_are_to_blame(small) -> None:
    hit = small().check(APART, np.zeros(3))
    assert hit is not None
    assert hit.pairs == (("left_link", "right_link"),)
    assert list(hit.joints) == [True, True, False]


def test_margin_counts_from_the_surface(small) -> None:
    # Tips 0.1 + gap apart, in line: the left one at the origin, the right one turned away.
    def pose(gap: float) -> np.ndarray:
        return np.array([0.0, 2 * np.arcsin((0.1 + gap) / 0.6), 0.0])

    far = np.array([0.0, 1.5, 0.0])
    assert small(margins={"default": 0.02}).check(far, pose(0.021)) is None
    assert small(margins={"default": 0.02}).check(far, pose(0.019)) is not None
    overlap = {"default": 0.02, "left/right": -0.03}
    assert small(margins=overlap).check(far, pose(-0.029)) is None
    assert small(margins=overlap).check(far, pose(-0.031)) is not None


def test_links_that_pass_through_each_other_within_one_step_are_seen(small) -> None:
    side, other = np.array([0.4, 0.0, 0.0]), np.array([-0.4, 0.0, 0.0])
    for pose in (side, other):
        assert small().gaps(pose)["left_link", "right_link"] > 0.01
    assert small(margins={"default": 0.0}).check(side, other) is not None


def test_touching_links_may_move_apart_but_not_closer(small) -> None:
    model = small()
    near, nearer, away = (
        np.array([0.2, 0.0, 0.0]),
        np.array([0.19, 0.0, 0.0]),
        np.array([0.21, 0, 0]),
    )
    assert model.check(near, away) is None
    assert model.check(near, near) is None
    assert model.check(near, nearer) is not None


def test_box_is_kept_clear_by_the_groups_margin(small) -> None:
    # Its top lies 20 cm below the arms' plane; the finger's sphere hangs 11 cm down at most.
    def model(margins) -> CollisionModel:
        box = Box("table", (0.0, 0.0, -0.5), (2.0, 2.0, 0.3), margins)
        return small(boxes=[box])

    bent = APART + np.array([0.0, 0.0, 0.7])
    assert model({"default": 0.08}).check(bent, APART) is None
    hit = model({"default": 0.1}).check(bent, APART)
    assert hit is not None
    assert (hit.with_itself, hit.with_box, hit.pairs) == (False, True, (("finger_link", "table"),))
    assert list(hit.joints) == [True, False, True]
    assert model({"default": 0.1, "left": 0.05}).check(bent, APART) is None


def test_inside_a_box_is_below_zero(small) -> None:
    box = Box("cube", (0.0, 0.0, 0.0), (0.2, 0.2, 0.2), {"default": 0.0})
    heights = small(boxes=[box]).heights(np.zeros(3))
    assert heights["left_link"] == pytest.approx(-0.25)  # centre in the middle, radius 5 cm


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("parent: left,", "parent: elbow,"), "parent 'elbow'"),
        (("frame: finger,", "frame: thumb,"), "frame 'thumb'"),
        (("[left_link, finger_link]", "[left_link, toe]"), "toe"),
        (("multiplier: 2, ", ""), "multiplier"),
    ],
)
def test_wrong_files_are_refused_by_name(small, change, message) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        small(SMALL.replace(*change))


@pytest.mark.parametrize("margins", [{"left/right": 0.0}, {"default": 0.0, "left/toe": 0.0}])
def test_wrong_margins_are_refused(small, margins) -> None:
    with pytest.raises(ContractError, match=r"default|left/toe"):
        small(margins=margins)


# --- the shipped robot ---------------------------------------------------------------------------


def test_the_hand_is_where_the_contracts_own_kinematics_puts_it(contract, vega, demos) -> None:
    """Two descriptions of one arm: the chain of the robot YAML and the frames of this model."""
    chain = next(c for c in contract.hands if c.name == "right_hand")
    kinematics = ForwardKinematics(chain, contract.joint_names)
    spheres = np.flatnonzero(vega._link_of == vega.links.index("R_hand_base"))
    seen = []
    for pose in demos[0][::20]:
        tip, turn = kinematics.tip(pose)
        seen.append((vega._centers(pose[None])[0, spheres] - tip) @ turn)
    # In the hand's own frame the spheres stand still, whatever the arm does.
    np.testing.assert_allclose(seen, np.broadcast_to(seen[0], np.shape(seen)), atol=1e-4)


def test_fingers_do_not_pass_through_each_other(contract, vega, demos) -> None:
    """The vendor's SRDF allows it; here a finger bent into its neighbour's place is stopped."""
    names = list(contract.joint_names)
    pose = demos[0][0].copy()
    through = pose.copy()
    # The thumb turned under the palm and bent, the index closed onto it: their middles meet.
    for joint, value in (("R_th_j0", 1.25), ("R_th_j1", -0.32), ("R_ff_j1", -0.63)):
        through[names.index(joint)] = value
    hit = vega.check(pose, through)
    assert hit is not None and hit.with_itself
    assert any("R_th_" in a and "R_" in b for a, b in hit.pairs)
    moving = {names[i] for i in np.flatnonzero(hit.joints)}
    assert moving <= {n for n in names if n.startswith(("R_th", "R_ff", "R_mf", "R_rf", "R_lf"))}


def test_arm_into_the_chest_and_arms_into_each_other_are_seen(contract, vega, demos) -> None:
    names = list(contract.joint_names)
    pose = demos[0][0]
    chest, cross = pose.copy(), pose.copy()
    chest[names.index("R_arm_j4")], chest[names.index("R_arm_j3")] = -2.9, -1.6
    left, right = names.index("L_arm_j1"), names.index("R_arm_j1")
    cross[left : left + 7] = -cross[right : right + 7] * np.array([1, 1, 1, -1, 1, 1, 1])
    for joint, value in (("L_arm_j3", 0.9), ("R_arm_j3", -0.9)):
        cross[names.index(joint)] = value
    found = [hit.pairs for hit in (vega.check(pose, p) for p in (chest, cross)) if hit]
    assert found, "neither an arm bent into the chest nor arms that cross were seen"


def test_the_table_stops_a_hand_that_goes_down(contract, vega, demos) -> None:
    names = list(contract.joint_names)
    low = min(demos[0], key=lambda q: vega.heights(q)["R_hand_base"])
    down = low.copy()
    down[names.index("R_arm_j1")] += 0.25
    up = low.copy()
    up[names.index("R_arm_j1")] -= 0.25
    hits = [vega.check(low, pose) for pose in (down, up)]
    assert sum(hit is not None and hit.with_box for hit in hits) == 1


def test_no_demonstration_touches(vega, demos) -> None:
    for actions in demos:
        for before, after in zip(actions[:-1:3], actions[1::3], strict=False):
            assert vega.check(before, after) is None


def test_the_file_is_what_the_tool_writes(tmp_path: Path) -> None:
    """The shipped spheres come from the vendor's files by the shipped tool, not by hand."""
    pytest.importorskip("dexmate_urdf", reason="the vendor's URDF package is not installed")
    import subprocess
    import sys

    out = tmp_path / "made.yaml"
    command = [sys.executable, str(ROOT / "tools/collision_model.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert out.read_text() == (CONFIG / "robot/vega_1.collision.yaml").read_text()
