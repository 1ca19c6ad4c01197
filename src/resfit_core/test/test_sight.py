"""What the base sees becomes numbers of the observation: where it is told, joined and refused."""

import dataclasses

import numpy as np
import pytest
import torch
from bag_maker import vega_contract

from resfit_core.action_space import ActionSpace
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.places import hand_places, place_count
from resfit_core.base.protocol import BaseError, ChunkedBase
from resfit_core.base.sight import Sight, sight_of
from resfit_core.build import build_learner, build_policy
from resfit_core.control.kinematics import ForwardKinematics
from resfit_core.data.episode import DEMO, EVALUATE, TRAIN, Episode
from resfit_core.nets.points import Keypoints

BASE = "b" * 64
CONFIG = TrainConfig.from_mapping(
    {
        "image_features": "base",
        "critic_view": "relative",
        "critic_width": 32,
        "actor_width": 32,
        "batch_size": 16,
        "warmup_episodes": 1,
        "critic_warmup_updates": 4,
        "residual_scale": 0.1,
    }
)


@pytest.fixture
def contract():
    return vega_contract("pixels")


def told(images):
    """Tell places out of the first pixels: (n, 2, 3)."""
    n = len(images)
    return images[:, :, 0, 0].reshape(n, 2, 3).astype(np.float64) / 255.0


def make_base(contract, locate=told):
    space = ActionSpace.from_limits(contract)
    return ChunkedBase(
        lambda observation, images: np.zeros((5, contract.action_dim), np.float32),
        5, space, BASE, contract.sha256, locate,
    )  # fmt: skip


def make_episode(contract, number, steps=20, mode=TRAIN):
    rng = np.random.default_rng(number)
    n, size = contract.action_dim, contract.image_size
    reward = np.zeros(steps)
    reward[-1] = 1
    return Episode(
        observation=rng.normal(size=(steps + 1, contract.obs_dim)) * 0.1,
        base_action=np.zeros((steps + 1, n)),
        chunk_phase=np.arange(steps + 1) % 5 / 5,
        action=rng.uniform(-0.1, 0.1, (steps, n)),
        reward=reward,
        terminated=True,
        truncated=False,
        intervention=np.zeros(steps),
        explored=np.zeros(steps),
        episode=number,
        mode=mode,
        success=True,
        contract_sha256=contract.sha256,
        base_sha256=BASE,
        images={
            name: rng.integers(0, 255, (steps + 1, size, size, 3), np.uint8)
            for name in contract.images
        },
    )


def test_a_keypoint_is_where_the_brightness_is():
    net = Keypoints(1, 84)
    with torch.no_grad():
        for layer, at in ((net.layers[0], 2), (net.layers[2], 1), (net.layers[4], 1)):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, 0, at, at] = 1.0
        net.sharpness.fill_(50.0)
        for column, row in ((20, 40), (60, 8), (82, 82)):
            image = np.zeros((1, 84, 84, 3), np.uint8)
            image[0, row, column] = 255
            x, y = net(torch.from_numpy(image))[0].tolist()
            wanted = np.array([column, row]) / 2 / 41 * 2 - 1
            np.testing.assert_allclose([x, y], wanted, atol=1e-4)


def test_places_of_a_demonstration(contract):
    steps, rng = 30, np.random.default_rng(0)
    fingers = [i for i, group in enumerate(contract.groups()) if group == "right_hand"]
    joints = np.cumsum(rng.normal(scale=0.02, size=(steps + 1, contract.action_dim)), 0)
    actions = np.zeros((steps, contract.action_dim))
    actions[12:21, fingers] = -0.8
    found = hand_places(contract, joints, actions)
    hand = ForwardKinematics(contract.hands[0], contract.joint_names)
    tips = np.stack([hand.tip(row)[0] for row in joints])
    assert found.shape == (steps + 1, place_count(contract), 3) == (31, 2, 3)
    np.testing.assert_array_equal(found[:12, 0], np.tile(tips[12], (12, 1)))
    np.testing.assert_array_equal(found[12:20, 0], tips[12:20])
    np.testing.assert_array_equal(found[20:, 0], np.tile(tips[20], (11, 1)))
    np.testing.assert_array_equal(found[:, 1], np.tile(tips[20], (31, 1)))
    with pytest.raises(BaseError, match="'right_hand' never closes"):
        hand_places(contract, joints, np.zeros_like(actions))
    renamed = tuple(dataclasses.replace(j, group="all") for j in contract.joints)
    with pytest.raises(BaseError, match="has no joint group of that name"):
        hand_places(dataclasses.replace(contract, joints=renamed), joints, actions)


def test_extended_observation(contract):
    sight, episode = Sight(contract, told), make_episode(contract, 1)
    layout = sight.contract.layout
    seen = sight.extend(episode.observation, episode.images)
    np.testing.assert_array_equal(seen[:, : contract.obs_dim], episode.observation)
    places = told(np.stack([episode.images[name] for name in contract.images], 1))
    np.testing.assert_allclose(
        seen[:, layout["object_position"]], places.reshape(21, 6), atol=1e-6
    )
    hand = ForwardKinematics(contract.hands[0], contract.joint_names)
    tip = hand.tip(episode.observation[3, contract.layout["joint_position"]])[0]
    np.testing.assert_allclose(
        seen[3, layout["hand_to_object"]], (places[3] - tip).ravel(), atol=1e-6
    )


def test_refusals(contract):
    episode = make_episode(contract, 1)
    with pytest.raises(BaseError, match="image of camera 'right' is missing"):
        Sight(contract, told).extend(episode.observation, {"left": episode.images["left"]})
    with pytest.raises(BaseError, match=r"observes \['object_position', 'hand_to_object'\]"):
        Sight(vega_contract(), told)
    blind = make_base(contract, locate=None)
    with pytest.raises(BaseError, match="this base tells no places"):
        sight_of(blind, contract, "base")
    assert sight_of(blind, contract, "encoder") is None


@pytest.mark.parametrize("last", [False, True])
def test_learner_and_policy_see_the_same(contract, tmp_path, last):
    """The replay holds the places and no image; acting on images finds the same numbers."""
    config, base = CONFIG.replace(observe_last_action=last), make_base(contract)
    learner = build_learner(config, contract, base)
    learner.add_demos([make_episode(contract, 1, mode=DEMO)])
    for number in (1, 2):
        learner.add_episode(make_episode(contract, number))
    assert learner.train()["updates"] == 4 + 20
    sight, episode = Sight(contract, told), make_episode(contract, 2)
    held = learner.replay.online.get((False, 2))
    assert not held.images
    seen = sight.extend(episode.observation, episode.images)
    np.testing.assert_array_equal(held.observation, seen)
    # Weights move the actor off zero; then the way over the images must give what it gives.
    torch.nn.init.normal_(learner.algorithm.actor.net[-1].weight)
    policy = build_policy(config, contract, base)
    policy.load(learner.weights_bytes(1))
    policy.begin_episode(0, EVALUATE)
    images = {name: camera[0] for name, camera in episode.images.items()}
    action, _ = policy.act(episode.observation[0], episode.base_action[0], 0.0, images=images)
    index = np.flatnonzero((learner.replay.online.observations()[:, :6] == seen[0, :6]).all(1))
    row = torch.from_numpy(learner.replay.online.observations()[index[:1]])
    algorithm, view = learner.algorithm, learner.algorithm.view
    zero = torch.zeros(1, contract.action_dim)
    with torch.no_grad():
        z = view.actor_observation(algorithm.normaliser(row), row, zero)
        raw = algorithm.actor(z, zero, torch.zeros(1, 1))
    np.testing.assert_allclose(action, 0.1 * np.tanh(raw[0].numpy()), atol=1e-5)
    assert np.abs(action).max() > 0
    # A checkpoint holds episodes as the replay does; what comes back is not extended twice.
    learner.save(tmp_path)
    again = build_learner(config, contract, base)
    again.load(tmp_path)
    assert again.replay.sha256() == learner.replay.sha256()
