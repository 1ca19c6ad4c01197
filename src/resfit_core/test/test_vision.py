"""Pixels: the shift, the encoder, what its gradients reach, and learning from an image alone."""

import dataclasses

import numpy as np
import pytest
import torch
from learning_cases import ACT, BASE, CONTRACT, OBS, episode, small_config

from resfit_core import machine
from resfit_core.algorithms.resfit import ResFiT
from resfit_core.data.episode import DEMO, TRAIN
from resfit_core.data.replay import ReplayBuffer
from resfit_core.learner import Learner
from resfit_core.nets.encoder import (
    Encoders,
    VisionSizes,
    random_shift,
    shift_at_once,
    token_count,
)
from resfit_core.nets.vision import Seen, SpatialCritic, embed, embed_at_once
from resfit_core.residual import ResidualPolicy

SHAPES = {"left": (20, 24, 3), "right": (16, 16, 3)}
SIZES = VisionSizes(8, 2, 16, 8)
SCALE = np.array([0.2, 0.1], np.float32)


def config(**changes):
    sizes = {"vision_width": 8, "vision_heads": 2, "vision_embedding": 16}
    sizes |= {"vision_actor_width": 8, "image_shift": 2, "critic_warmup_updates": 0}
    return small_config(**{**sizes, **changes})


def pixels(number, rows):
    rng = np.random.default_rng(number)
    return {c: rng.integers(0, 256, (rows, *shape), dtype=np.uint8) for c, shape in SHAPES.items()}


def with_images(number, steps, success, **options):
    plain = episode(number, steps, success, **options)
    return dataclasses.replace(plain, images=pixels(number, steps + 1))


def windows(size=12):
    replay = ReplayBuffer(OBS, ACT, 200, SHAPES)
    replay.add(with_images(1, 20, True))
    return replay.windows(replay.draw(np.random.default_rng(0), size), 3, 0.9)


def rule(**changes):
    return ResFiT(config(**changes), OBS, ACT, SCALE, image_shapes=SHAPES)


def learner(**changes):
    made = Learner(config(**changes), OBS, ACT, SCALE, CONTRACT, BASE, image_shapes=SHAPES)
    made.add_demos([with_images(n, 20, True, mode=DEMO) for n in (1, 2)])
    return made


def snapshot(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(before, net):
    return all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_shift_is_a_crop_of_the_padded_image():
    image = torch.arange(2 * 5 * 6 * 3, dtype=torch.uint8).reshape(2, 5, 6, 3)
    padded = np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), "edge")
    seen = set()
    for seed in range(60):
        shifted = random_shift(image, 2, torch.Generator().manual_seed(seed))
        assert shifted.shape == (2, 3, 5, 6)
        assert shifted.dtype == torch.uint8
        for i in range(2):
            crops = [
                (i, down, right)
                for down in range(5)
                for right in range(5)
                if np.array_equal(
                    shifted[i].permute(1, 2, 0), padded[i, down : down + 5, right : right + 6]
                )
            ]
            assert len(crops) == 1
            seen.add(crops[0])
    # 25 places for each of two images, drawn 60 times: nearly all must come up.
    assert len(seen) > 35
    assert torch.equal(random_shift(image, 0, torch.Generator()), image.permute(0, 3, 1, 2))


def test_shift_on_a_cpu_equals_that_of_a_gpu():
    image = torch.randint(0, 256, (40, 9, 7, 3), dtype=torch.uint8)
    for pad in (1, 3, 12):  # the last one: larger than the image
        shifts = torch.randint(0, 2 * pad + 1, (2, 40), generator=torch.Generator().manual_seed(3))
        made = random_shift(image, pad, torch.Generator().manual_seed(3))
        assert torch.equal(made.permute(0, 2, 3, 1), shift_at_once(image, pad, shifts))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_encoders_in_pieces_equal_the_one_piece(dtype, tolerance):
    """Stated tolerances, of tokens and each gradient: norm of the difference over the norm."""
    generator = torch.Generator().manual_seed(0)
    net = Encoders({"a": (40, 40, 3), "b": (40, 40, 3)}, SIZES, generator)
    images = {
        camera: torch.randint(0, 256, (70, 3, 40, 40), generator=generator, dtype=torch.uint8)
        for camera in ("a", "b")
    }
    answers = []
    for way, products in ((net, "float32"), (net.in_pieces, dtype)):
        with machine.products(products, torch.device("cpu")):
            tokens = way(images)
            weight = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
            gradients = torch.autograd.grad((tokens * weight).sum(), list(net.parameters()))
            answers.append([tokens, *gradients])
    for exact, found in zip(*answers, strict=True):
        assert found.dtype == torch.float32
        assert (found - exact).norm() <= tolerance * exact.norm()


def test_token_counts():
    assert token_count((84, 84, 3)) == 81
    assert token_count((16, 16, 3)) == 1
    for shape in ((15, 84, 3), (84, 84, 1)):
        with pytest.raises(ValueError, match="image shape"):
            token_count(shape)


def test_encoder_by_torchs_own_layer():
    """The written-out attention equals torch's transformer layer with the same weights."""
    generator = torch.Generator().manual_seed(0)
    net = Encoders({"a": (40, 40, 3)}, SIZES, generator).nets[0]
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 32, 0.0, torch.nn.functional.gelu, batch_first=True, norm_first=True
    )
    own = {
        "self_attn.in_proj": net.attend,
        "self_attn.out_proj": net.join,
        "linear1": net.widen,
        "linear2": net.narrow,
        "norm1": net.norm1,
        "norm2": net.norm2,
    }
    state = {}
    for name, module in own.items():
        joint = "_" if name.endswith("in_proj") else "."
        state |= {f"{name}{joint}{key}": value for key, value in module.state_dict().items()}
    layer.load_state_dict(state)
    image = torch.randint(0, 256, (3, 3, 40, 40), generator=generator, dtype=torch.uint8)
    x = net.merge(net.patch(image / 255.0 - 0.5).relu())
    x = net.norm3(layer(x.flatten(2).transpose(1, 2) + net.place))
    torch.testing.assert_close(net(image), x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
def test_embedding_in_chunks_equals_the_one_piece(frozen):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).requires_grad_()

    given = [draw(40, 5, 8), draw(40, 16), draw(5, 16), draw(16), draw(16), draw(8, 16)]
    if frozen:  # gradients for the action's share alone
        given = [x if i == 1 else x.detach() for i, x in enumerate(given)]
    wanted = [x for x in given if x.requires_grad]
    answers = []
    for way in (embed, embed_at_once):
        z = way(*given)
        weight = torch.linspace(-1, 1, z.numel()).reshape(z.shape)
        answers.append([z, *torch.autograd.grad((z * weight).sum(), wanted)])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_embedding_is_one_layer_over_tokens_state_and_action():
    """The split first layer equals the whole one, with the side input repeated per channel."""
    generator = torch.Generator().manual_seed(0)
    critic = SpatialCritic(5, SIZES, OBS, ACT, 16, 3, generator=generator, output_init=0.5)
    observation, phase, action = (torch.randn(4, n, generator=generator) for n in (OBS, 1, ACT))
    tokens = torch.randn(4, 5, 8, generator=generator)
    side = torch.cat((observation, phase, action), 1)
    x = torch.cat((tokens.transpose(1, 2), side[:, None].expand(-1, 8, -1)), 2)
    whole = torch.cat((critic.project, critic.side.weight.T))
    y = critic.norm(x @ whole + critic.side.bias).relu()
    z = (y * critic.weight).sum(1)
    expected = critic.ensemble(torch.cat((z, observation), 1), phase, action)
    got = critic(Seen(observation, tokens), phase, action)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_critic_alone_trains_the_encoders():
    made = rule()
    for _ in range(3):  # the actor's last layer must leave 0 before anything could flow back
        made.update(windows())
    before = snapshot(made.encoder)
    batch = made.batch(windows())
    made.update_critic(batch)
    assert not same(before, made.encoder)
    before, critic, actor = snapshot(made.encoder), snapshot(made.critic), snapshot(made.actor)
    made.update_actor(batch)
    assert same(before, made.encoder)
    assert same(critic, made.critic)
    assert not same(actor, made.actor)


def test_targets_follow_the_critic_and_not_the_encoders():
    made = rule(tau=0.25)
    before = snapshot(made.target_critic)
    made.update_critic(made.batch(windows()))
    for name, value in made.target_critic.state_dict().items():
        expected = before[name] + 0.25 * (made.critic.state_dict()[name] - before[name])
        torch.testing.assert_close(value, expected)


def test_bfloat16_products_stay_near():
    """Stated tolerance: one update's loss within 1 % of float32's, as the products are rounded."""
    rules = [rule(matmul_dtype=dtype) for dtype in ("float32", "bfloat16")]
    for _ in range(3):
        exact, low = (made.update(windows())["critic_loss"].item() for made in rules)
        assert low == pytest.approx(exact, rel=0.01)
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"


def test_checkpoint_and_weights_with_images(tmp_path):
    going_on = learner()
    for number in (1, 2, 3):
        going_on.add_episode(with_images(number, 20, number == 2, mode=TRAIN))
    going_on.train(max_updates=6)
    going_on.save(tmp_path)
    resumed = Learner(config(), OBS, ACT, SCALE, CONTRACT, BASE, image_shapes=SHAPES)
    resumed.load(tmp_path)
    assert going_on.train(max_updates=6) == resumed.train(max_updates=6)
    data = going_on.weights_bytes(1)
    assert data == resumed.weights_bytes(1)
    policy = ResidualPolicy(config(), SCALE, CONTRACT, BASE, 20.0)
    policy.load(data)
    policy.begin_episode(0, 2)
    observation, base = np.ones(OBS, np.float32), np.zeros(ACT, np.float32)
    images = {camera: image[0] for camera, image in pixels(7, 1).items()}
    action, _ = policy.act(observation, base, 0.5, explore=False, images=images)
    made = going_on.algorithm
    shown = {c: torch.from_numpy(i)[None].permute(0, 3, 1, 2) for c, i in images.items()}
    seen = Seen(made.normaliser(torch.from_numpy(observation)[None]), made.encoder(shown))
    residual = made.actor(seen, torch.from_numpy(base)[None], torch.full((1, 1), 0.5))
    expected = SCALE * np.tanh(residual[0].detach().numpy())
    np.testing.assert_allclose(action, expected, atol=1e-6)
    with pytest.raises(ValueError, match="images lack"):
        policy.act(observation, base, 0.5, explore=False)


def test_products_are_rounded_only_meanwhile():
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    with pytest.raises(RuntimeError), machine.products("bfloat16", torch.device("cpu")):
        assert backend.fp32_precision == "bf16"
        raise RuntimeError
    assert backend.fp32_precision == before
