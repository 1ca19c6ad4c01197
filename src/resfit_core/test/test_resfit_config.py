"""Settings: unknown keys, types, ranges and the scale per joint group; noise of a stated size."""

from pathlib import Path

import numpy as np
import pytest

from resfit_core.algorithms.config import NOISE_KINDS, TrainConfig, resolve_scale
from resfit_core.algorithms.exploration import ExplorationNoise
from resfit_core.algorithms.settings import ConfigError

CONFIG = Path(__file__).resolve().parents[3] / "config" / "train"


def test_yaml_and_its_one_e_minus_four(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("critic_lr: 1e-4\nheads: 5\nresidual_scale: {right_arm: 0.1, default: 0}\n")
    config = TrainConfig.from_yaml(path)
    assert (config.critic_lr, config.heads) == (1e-4, 5)
    assert config.residual_scale == {"right_arm": 0.1, "default": 0.0}
    assert TrainConfig.from_mapping(config.to_dict()) == config
    (tmp_path / "empty.yaml").write_text("")
    assert TrainConfig.from_yaml(tmp_path / "empty.yaml") == TrainConfig()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crtic_lr": 1}, "unknown key 'crtic_lr'; did you mean critic_lr"),
        ({"gamma": 1.5}, "gamma is 1.5, must be <= 1"),
        ({"tau": 0}, "tau is 0.0, must be > 0"),
        ({"heads": 2.5}, "heads is 2.5, expected int"),
        ({"layer_norm": 1}, "layer_norm is 1, expected bool"),
        ({"critic_lr": "fast"}, "critic_lr is 'fast', expected float"),
        ({"critic_lr": float("nan")}, "critic_lr is nan"),
        ({"exploration_kind": "pink"}, "exploration_kind is 'pink', expected one of"),
        ({"heads": 2, "target_heads": 3}, "more than heads"),
        ({"actor_bc_min": 0.5}, "above actor_bc_weight"),
        ({"residual_scale": -0.1}, r"must lie in \[0, 2\]"),
        ({"residual_scale": "all"}, "expected a number"),
    ],
)
def test_refusals_name_the_key(values, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig.from_mapping(values, "train.yaml")


def test_files_that_are_no_settings(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list"):
        TrainConfig.from_yaml(tmp_path / "list.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainConfig.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_settings_load(path):
    TrainConfig.from_yaml(path)


def test_every_setting_says_what_it_is():
    for name, field in TrainConfig.__dataclass_fields__.items():
        assert field.metadata["doc"], name


def test_scale_per_group():
    groups = ["arm", "arm", "hand", "head"]
    np.testing.assert_allclose(resolve_scale(0.2, groups), [0.2] * 4)
    scale = resolve_scale({"arm": 0.1, "hand": 0.3, "default": 0.0}, groups)
    np.testing.assert_allclose(scale, [0.1, 0.1, 0.3, 0.0])
    assert scale.dtype == np.float32
    with pytest.raises(ConfigError, match=r"names the joint groups \['leg'\]"):
        resolve_scale({"leg": 0.1, "default": 0.0}, groups)
    with pytest.raises(ConfigError, match=r"lacks \['hand', 'head'\]"):
        resolve_scale({"arm": 0.1}, groups)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_has_the_stated_deviation_and_repeats(kind):
    std = np.array([0.1, 0.0, 0.3])
    noise = ExplorationNoise(kind, std, 5.0)
    samples = []
    for episode in range(600):
        noise.begin(np.random.default_rng(episode))
        samples.append([noise.step() for _ in range(10)])
    samples = np.array(samples)
    np.testing.assert_allclose(samples.std((0, 1)), std, rtol=0.1)
    np.testing.assert_allclose(samples.std(0)[[0, 9], 2], 0.3, rtol=0.15)  # stationary
    noise.begin(np.random.default_rng(3))
    np.testing.assert_array_equal([noise.step() for _ in range(10)], samples[3])


def test_ou_forgets_63_percent_over_its_correlation():
    noise = ExplorationNoise("ou", np.ones(4000), 5.0)
    steps = np.array([noise.step() for _ in range(6)])
    assert np.corrcoef(steps[0], steps[5])[0, 1] == pytest.approx(np.exp(-1), abs=0.05)


def test_pessimism_fades_as_data_comes_in():
    config = TrainConfig(
        actor_pessimism=2.0, actor_pessimism_half_updates=100, critic_warmup_updates=50
    )
    seen = [config.pessimism(updates) for updates in (0, 50, 150, 250)]
    assert seen == [2.0, 2.0, 1.0, pytest.approx(2 / 3)]
    assert config.replace(actor_pessimism_half_updates=0).pessimism(10_000) == 2.0
