"""Behaviour cloning: it learns, it repeats itself, it masks what lies past an episode's end."""

import dataclasses

import numpy as np
import pytest
import torch
from bag_maker import vega_contract, write_demo

from resfit_core.base.act import ActConfig
from resfit_core.base.checkpoint import freeze, load_base
from resfit_core.base.places import hand_places
from resfit_core.base.protocol import BaseError
from resfit_core.base.train import BaseTrainConfig, train
from resfit_core.contract import ContractError
from resfit_core.data.bag_reader import read_episodes

STEPS = 30
SMALL = BaseTrainConfig(steps=150, batch_size=32, width=32, learning_rate=2e-3)


@pytest.fixture
def contract():
    return vega_contract()


@pytest.fixture
def demos(tmp_path, contract):
    """Six demos: every joint goes to a target that the ball's place tells."""
    rng = np.random.default_rng(0)
    ball = contract.layout["object_position"].start
    for number in range(1, 7):
        observation = rng.normal(scale=0.05, size=(STEPS + 1, contract.obs_dim))
        goal = rng.uniform(-1, 1)
        observation[:, ball] = goal
        rad = np.full((STEPS, contract.action_dim), 0.3 * goal)
        norm = np.zeros((STEPS, contract.action_dim))
        write_demo(
            tmp_path / "episodes", contract, observation, rad, norm, number, success=number != 6
        )
    return read_episodes(tmp_path)


def test_it_learns_and_what_is_frozen_knows_it(demos, contract, tmp_path):
    seen = []
    trained = train(demos, contract, SMALL, lambda *a: seen.append(a))
    assert trained.episodes == 5, "the demo that failed must be left out"
    assert trained.samples == 5 * STEPS
    assert trained.l1 < 0.3 * seen[0][2] and seen[-1][0] == SMALL.steps
    # Range: min and max of the successful demos, widened by .3.
    goals = [0.3 * d.observation[0, contract.layout["object_position"].start] for d in demos[:5]]
    half = (max(goals) - min(goals)) / 2 * 1.3
    np.testing.assert_allclose((trained.space.high - trained.space.low) / 2, half, rtol=1e-5)
    freeze(tmp_path / "base.safetensors", trained.net, trained.space, contract)
    base = load_base(tmp_path / "base.safetensors", contract)
    for demo, goal in zip(demos[:5], goals, strict=True):
        base.reset()
        rad = base.action_space.to_rad(base.act(demo.observation[3]).action_norm)
        assert np.abs(rad - goal).mean() < 0.05


def test_same_seed_same_bytes_whatever_the_threads(demos, contract, tmp_path):
    config = dataclasses.replace(SMALL, steps=12)
    files = []
    for name, threads in (("a", 1), ("b", 2)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            trained = train(demos, contract, config)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        path = tmp_path / f"{name}.safetensors"
        freeze(path, trained.net, trained.space, contract)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    other = train(demos, contract, dataclasses.replace(config, seed=1))
    assert freeze(tmp_path / "c.safetensors", other.net, other.space, contract)
    assert (tmp_path / "c.safetensors").read_bytes() != files[0]


def test_nothing_past_the_end_is_learnt(demos, contract):
    """Steps after the last one have no target: any action there costs nothing."""
    from resfit_core.base.train import _chunks, _losses

    trained = train(demos, contract, dataclasses.replace(SMALL, steps=1))
    data = _chunks(demos[:1], trained.space, 20)
    assert data.mask.sum(dim=(1, 2)).tolist() == [20.0] * 11 + [
        float(20 - k) for k in range(1, 20)
    ]
    index = torch.tensor([STEPS - 1])
    before = _losses(trained.net, data, index)[0]
    data.action[STEPS - 1, 1:] = 99.0
    assert _losses(trained.net, data, index)[0] == before


def test_held_out_demos_are_not_trained_on(demos, contract):
    trained = train(demos, contract, dataclasses.replace(SMALL, steps=5, validation_share=0.4))
    assert trained.episodes == 3 and trained.validation_l1 > 0


def test_pixels_train_too(tmp_path):
    contract = vega_contract("pixels")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (5, 84, 84, 3), np.uint8) for _ in range(2)]
    write_demo(
        tmp_path, contract, rng.normal(size=(5, contract.obs_dim)),
        rng.normal(size=(4, 29)), np.zeros((4, 29)), images=images,
    )  # fmt: skip
    demos = read_episodes(tmp_path)
    for points, places in ((0, 0), (4, 2)):
        config = BaseTrainConfig(steps=2, width=16, points=points)
        trained = train(demos, contract, config)
        net = trained.net
        assert (net.config.cameras, net.config.places) == (2, places) and np.isfinite(trained.l1)
        freeze(tmp_path / "base.safetensors", net, trained.space, contract)
        base = load_base(tmp_path / "base.safetensors", contract)
        shown = {name: camera[0] for name, camera in zip(contract.images, images, strict=True)}
        chunk = net(torch.from_numpy(demos[0].observation[:1]), _both(images)[:1])
        acted = base.act(demos[0].observation[0], shown).action_norm
        np.testing.assert_allclose(acted, chunk[0, 0].clamp(-1, 1), atol=1e-6)
        assert (base.locate is None) == (not points)
        if points:
            found = base.locate(_both(images).numpy())
            assert found.shape == (5, 2, 3)
            assert np.abs(found[0] - found[1]).max() > 0, "it must tell one image from another"


def test_a_net_without_keypoints_keeps_its_hash(demos, contract):
    """Bases that were frozen before there were keypoints name neither of their settings."""
    header = train(demos, contract, dataclasses.replace(SMALL, steps=1)).net.config.to_header()
    assert "points" not in header and "places" not in header
    assert ActConfig.from_header(header).points == 0


def test_keypoints_learn_what_the_image_alone_tells(tmp_path):
    """The hand goes, and closes, where the square is; joints tell nothing of it at the start."""
    contract = vega_contract("pixels")
    rng = np.random.default_rng(0)
    joints, steps = contract.layout["joint_position"], 12
    arm, hand = (
        [i for i, group in enumerate(contract.groups()) if group == name]
        for name in ("right_arm", "right_hand")
    )
    for number in range(1, 13):
        side = rng.uniform(-1, 1)
        column = round(38 + 30 * side)
        image = np.zeros((steps + 1, 84, 84, 3), np.uint8)
        image[:, 40:48, column : column + 8] = 255
        rad = np.zeros((steps, contract.action_dim))
        rad[:, arm[0]] = 0.4 * side
        rad[6:9, hand] = -0.5
        observation = np.zeros((steps + 1, contract.obs_dim))
        observation[1:, joints] = rad
        write_demo(
            tmp_path / "episodes", contract, observation, rad, np.zeros_like(rad), number,
            images=[image, image],
        )  # fmt: skip
    demos = read_episodes(tmp_path)
    config = BaseTrainConfig(
        steps=250, batch_size=16, width=32, points=4, learning_rate=3e-3, validation_share=0.25
    )
    trained = train(demos, contract, config)
    held = demos[-3:]
    first = torch.from_numpy(np.stack([d.images[0][0] for d in held]))
    found = trained.net.locate(torch.stack((first, first), 1)).numpy()
    told = np.stack(
        [hand_places(contract, d.observation[:, joints], d.action_rad)[0, 0] for d in demos]
    )
    guess = np.abs(told[-3:] - told[:-3].mean(0)).max()
    assert np.abs(found[:, 0] - told[-3:]).max() < 0.35 * guess


def _both(images):
    return torch.from_numpy(np.stack(images, axis=1))


def test_refusals(demos, contract):
    with pytest.raises(BaseError, match="none of 1 demos is a success"):
        train(demos[5:], contract, SMALL)
    with pytest.raises(ContractError, match="demo 1 was made for contract"):
        train(demos, vega_contract("pixels"), SMALL)
    with pytest.raises(BaseError, match="steps is 0, must be above 0"):
        BaseTrainConfig(steps=0)
