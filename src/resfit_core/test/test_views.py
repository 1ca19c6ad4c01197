"""Task-space view: torch kinematics equal numpy's, and distances are what they say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_core.action_space import ActionSpace
from resfit_core.contract import load_contract
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.control.observe import ObservationBuilder
from resfit_core.nets.actor import ResidualActor
from resfit_core.nets.views import FINE_M, RawView, TaskSpaceView, TorchKinematics, make_view

CONFIG = Path(__file__).resolve().parents[3] / "config"


def contract(variant="state", task="woolly_ball_pnp"):
    return load_contract(
        CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / f"{task}.yaml", variant
    )


def right_scale(c):
    return np.array([0.1 if j.group in ("right_arm", "right_hand") else 0.0 for j in c.joints])


def test_torch_and_numpy_kinematics_agree():
    c = contract()
    poses = np.random.default_rng(0).uniform(c.lower, c.upper, (50, c.action_dim))
    numpy_tips = np.stack(
        [ForwardKinematics(c.hand, c.joint_names).tip(pose)[0] for pose in poses]
    )
    torch_tips = TorchKinematics(c.hand, c.joint_names)(torch.tensor(poses, dtype=torch.float32))
    np.testing.assert_allclose(torch_tips.numpy(), numpy_tips, atol=1e-5)


def test_commanded_hand_on_the_ball_has_distance_zero():
    c = contract()
    space = ActionSpace.from_limits(c)
    view = TaskSpaceView(c, space, right_scale(c))
    pose = np.zeros(c.action_dim)
    pose[13:20] = [-1.062, -0.311, 0.281, -1.596, -0.397, 0.549, 0.542]
    tip = ForwardKinematics(c.hand, c.joint_names).tip(pose)[0]
    raw = torch.zeros(1, c.obs_dim)
    raw[0, c.layout["object_position"]] = torch.tensor(
        np.r_[tip, tip + [FINE_M, 0, 0]], dtype=torch.float32
    )
    action = torch.from_numpy(space.to_norm(pose)[None])
    seen = view.critic_action(view.anchor(raw), action)
    assert seen.shape == (1, view.critic_act_dim)
    fingers = len(view.moved)
    assert fingers == 6
    np.testing.assert_allclose(seen[0, fingers : fingers + 3], 0, atol=1e-3)
    # One centimetre is asinh(1) / 3 by definition of the scale.
    assert seen[0, fingers + 3].item() == pytest.approx(np.arcsinh(1) / 3, abs=1e-3)


def test_gradient_reaches_every_joint_the_residual_moves():
    c = contract()
    view = TaskSpaceView(c, ActionSpace.from_limits(c), right_scale(c))
    action = torch.zeros(1, c.action_dim, requires_grad=True)
    view.critic_action(torch.zeros(1, 6), action).square().sum().backward()
    moved = action.grad[0] != 0
    # The last arm joint's axis may pass near the grasp site, but never through it.
    assert moved[13:20].all()
    assert not moved[:13].any()
    assert not moved[26:].any()


def test_sizes_match_what_comes_out():
    c = contract()
    for kind in ("raw", "task_space", "relative", "relative_wrench", "lean"):
        view = make_view(kind, c, ActionSpace.from_limits(c), right_scale(c))
        raw, action = torch.randn(4, c.obs_dim), torch.zeros(4, c.action_dim)
        assert view.critic_observation(raw, raw).shape == (4, view.critic_obs_dim)
        assert view.critic_action(view.anchor(raw), action).shape == (4, view.critic_act_dim)
        assert view.actor_observation(raw, raw, action).shape == (4, view.actor_obs_dim)


@pytest.mark.parametrize(
    ("kind", "places", "wrenches"),
    [
        ("task_space", True, True),
        ("relative_wrench", False, True),
        ("relative", False, False),
        ("lean", False, False),
    ],
)
def test_what_the_critic_sees_beside_distances(kind, places, wrenches):
    c = contract()
    view = make_view(kind, c, ActionSpace.from_limits(c), right_scale(c))
    raw = torch.randn(4, c.obs_dim)
    for field, seen in (("object_position", places), ("wrench", wrenches)):
        other = raw.clone()
        other[:, c.layout[field]] += 1
        one, two = view.critic_observation(raw, raw), view.critic_observation(other, other)
        assert torch.equal(one, two) is not seen


def test_a_lean_actor_does_not_see_what_the_residual_cannot_move():
    c, generator = contract(), torch.Generator().manual_seed(0)
    view = make_view("lean", c, ActionSpace.from_limits(c), right_scale(c))
    options = {"generator": generator, "base_columns": view.base_columns}
    actor = ResidualActor(view.actor_obs_dim, c.action_dim, 16, **options)
    actor.net[-1].weight.data.normal_(generator=generator)
    raw, base, phase = torch.randn(4, c.obs_dim), torch.randn(4, c.action_dim), torch.zeros(4, 1)
    before = actor(view.actor_observation(raw, raw, base), base, phase)
    for joint, seen in ((0, False), (13, True)):
        other, moved = raw.clone(), base.clone()
        other[:, joint] += 1
        assert (
            torch.equal(actor(view.actor_observation(other, other, base), base, phase), before)
            is not seen
        )
        moved[:, joint] += 1
        assert (
            torch.equal(actor(view.actor_observation(raw, raw, moved), moved, phase), before)
            is not seen
        )


def test_last_action_is_seen_by_actor_and_critic():
    c = contract()
    for kind in ("raw", "task_space"):
        view = make_view(kind, c, ActionSpace.from_limits(c), right_scale(c), last_action=True)
        plain = make_view(kind, c, ActionSpace.from_limits(c), right_scale(c))
        raw = torch.randn(4, c.obs_dim + c.action_dim)
        other, base = raw.clone(), torch.zeros(4, c.action_dim)
        other[:, c.obs_dim + 13] += 1  # the right arm's first joint
        for one, two, width, before in (
            (
                view.critic_observation(raw, raw),
                view.critic_observation(other, other),
                view.critic_obs_dim,
                plain.critic_obs_dim,
            ),
            (
                view.actor_observation(raw, raw, base),
                view.actor_observation(other, other, base),
                view.actor_obs_dim,
                plain.actor_obs_dim,
            ),
        ):
            assert one.shape == (4, width)
            assert width > before
            assert ((one != two).sum(1) == 1).all()


def test_two_hands_see_every_object_in_the_observation_s_order():
    c = contract(task="package_handover")
    space = ActionSpace.from_limits(c)
    scale = np.array([0.0 if j.group == "head" else 0.1 for j in c.joints])
    view = TaskSpaceView(c, space, scale)
    rng = np.random.default_rng(1)
    pose, poses = rng.uniform(c.lower, c.upper), rng.normal(size=(3, 7))
    seen = ObservationBuilder(c).build(pose, None, np.zeros((2, 6)), poses)
    raw = torch.from_numpy(seen[None])
    # Commanding the pose that is there gives the distances that are observed: hands in one order.
    action = torch.from_numpy(space.to_norm(pose)[None])
    commanded = view.critic_action(view.anchor(raw), action)[0, len(view.moved) :]
    observed = view.critic_observation(raw, raw)[0, -18:]
    np.testing.assert_allclose(commanded, observed, atol=1e-3)
    assert len(view.moved) == 12 and len(commanded) == 2 * 3 * 3
    actor = view.actor_observation(raw, raw, action)
    np.testing.assert_allclose(actor[0, -36:-18], observed, atol=1e-3)
    assert actor.shape == (1, view.actor_obs_dim)


def test_two_hands_gradient_reaches_both_arms():
    c = contract(task="package_handover")
    scale = np.array([0.0 if j.group == "head" else 0.1 for j in c.joints])
    view = TaskSpaceView(c, ActionSpace.from_limits(c), scale)
    action = torch.full((1, c.action_dim), 0.1, requires_grad=True)
    view.critic_action(torch.zeros(1, 9), action).square().sum().backward()
    moved = action.grad[0] != 0
    assert moved[:26].all()
    assert not moved[26:].any()


def test_pixels_have_no_object_positions_to_look_from():
    c = contract("pixels")
    with pytest.raises(ValueError, match="critic_view"):
        make_view("task_space", c, ActionSpace.from_limits(c), right_scale(c))
    assert isinstance(make_view("raw", c, ActionSpace.from_limits(c), right_scale(c)), RawView)
