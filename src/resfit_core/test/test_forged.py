"""Input from strangers: each is refused in words, and what runs stays as it was."""

import json

import numpy as np
import pytest
from learning_cases import ACT, BASE, CONTRACT, OBS, episode, learner, small_config
from safetensors.numpy import save

from resfit_core import tensorfile
from resfit_core.algorithms.config import ConfigError, TrainConfig
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import read_manifest
from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.data.intake import EpisodeIntake
from resfit_core.residual import ResidualPolicy, WeightsError


def changed(data: bytes, tensors=(), **header) -> bytes:
    """Pack again with other tensors and header; None takes a key out."""
    arrays, head = tensorfile.unpack(data)
    head = {k: v for k, v in {**head, **header}.items() if v is not None}
    return tensorfile.pack({**arrays, **dict(tensors)}, head)


def with_header_text(data: bytes, text: str) -> bytes:
    """Put any text in the place of our header."""
    return save(tensorfile.unpack(data)[0], metadata={"resfit": text})


def huge_length(data: bytes) -> bytes:
    return (1 << 60).to_bytes(8, "little") + data[8:]


WEIGHTS = {
    "empty": lambda d: b"",
    "truncated": lambda d: d[: len(d) // 2],
    "longer": lambda d: d + b"\0" * 64,
    "header of 2^60 bytes": huge_length,
    "pickle": lambda d: b"\x80\x04\x95",
    "oversized": lambda d: bytes(1 << 28) + d,
    "another contract": lambda d: changed(d, contract_sha256="d" * 64),
    "another base": lambda d: changed(d, base_sha256="d" * 64),
    "no contract": lambda d: changed(d, contract_sha256=None),
    "contract is a number": lambda d: changed(d, contract_sha256=7),
    "no version": lambda d: changed(d, version=None),
    "version is a word": lambda d: changed(d, version="new"),
    "another format": lambda d: changed(d, format="resfit-learner-2"),
    "width of 10^9": lambda d: changed(d, actor_width=10**9),
    "negative size": lambda d: changed(d, obs_dim=-1),
    "size is a list": lambda d: changed(d, act_dim=[2]),
    "another scale": lambda d: changed(d, {"scale": np.ones(ACT, np.float32)}),
    "scale is missing": lambda d: tensorfile.pack(
        {k: v for k, v in tensorfile.unpack(d)[0].items() if k != "scale"},
        tensorfile.unpack(d)[1],
    ),
    "not finite": lambda d: changed(
        d, {k: v * np.nan for k, v in tensorfile.unpack(d)[0].items() if k.startswith("actor.")}
    ),
    "brackets without end": lambda d: with_header_text(d, "[" * 200_000),
    "header is a list": lambda d: with_header_text(d, "[]"),
    "negative version": lambda d: changed(d, version=-1),
    "version of 10^30": lambda d: changed(d, version=10**30),
    "version is not a number": lambda d: with_header_text(
        d, json.dumps({**tensorfile.unpack(d)[1], "version": float("nan")})
    ),
    "no clip": lambda d: changed(d, observation_clip=None),
    "clip is a word": lambda d: changed(d, observation_clip="x"),
    "clip of 0": lambda d: changed(d, observation_clip=0),
    "images are a list": lambda d: changed(d, image_shapes=[1]),
    "whole numbers": lambda d: changed(
        d, {k: v.astype(np.int64) for k, v in tensorfile.unpack(d)[0].items()}
    ),
    # Finite, and yet the action would not be a number.
    "1e30": lambda d: changed(
        d, {k: v * 1e30 for k, v in tensorfile.unpack(d)[0].items() if k.startswith("actor.")}
    ),
    "negative spread": lambda d: changed(d, {"normaliser.std": -np.ones(OBS, np.float32)}),
    "another shape": lambda d: changed(
        d, {k: v[..., :1] for k, v in tensorfile.unpack(d)[0].items() if k.startswith("actor.")}
    ),
}


@pytest.fixture(scope="module", name="sound")
def _sound():
    return learner().weights_bytes(3)


@pytest.mark.parametrize("case", WEIGHTS)
def test_forged_weights_leave_the_old_ones(sound, case):
    policy = ResidualPolicy(small_config(), np.array([0.2, 0.1]), CONTRACT, BASE, 20.0)
    policy.load(sound)
    policy.begin_episode(0, 2)
    seen = (np.ones(OBS, np.float32), np.zeros(ACT, np.float32), 0.0)
    before = policy.act(*seen, explore=False)[0]
    with pytest.raises(WeightsError, match="weights"):
        policy.load(WEIGHTS[case](sound))
    assert policy.version == 3
    np.testing.assert_array_equal(policy.act(*seen, explore=False)[0], before)


def test_weights_whose_hash_differs_are_refused(sound):
    policy = ResidualPolicy(small_config(), np.array([0.2, 0.1]), CONTRACT, BASE, 20.0)
    with pytest.raises(WeightsError, match="announced"):
        policy.load(sound, "0" * 64)


EPISODES = {
    "empty": lambda d: b"",
    "truncated": lambda d: d[:-9],
    "pickle": lambda d: b"\x80\x04\x95",
    "header of 2^60 bytes": huge_length,
    "another format": lambda d: changed(d, format="x"),
    "no reward": lambda d: tensorfile.pack(
        {k: v for k, v in tensorfile.unpack(d)[0].items() if k != "reward"},
        tensorfile.unpack(d)[1],
    ),
    "lengths differ": lambda d: changed(d, {"reward": np.zeros(99, np.float32)}),
    "not finite": lambda d: changed(
        d, {"observation": tensorfile.unpack(d)[0]["observation"] * np.nan}
    ),
    "no number": lambda d: changed(d, episode=None),
    "number is a word": lambda d: changed(d, episode="x"),
    "number of 10^30": lambda d: changed(d, episode=10**30),
    "revision is a word": lambda d: changed(d, revision="new"),
    "seed is a list": lambda d: changed(d, seed=[1]),
    "truth is a word": lambda d: changed(d, terminated="false"),
    "contract is a number": lambda d: changed(d, contract_sha256=7),
    "brackets without end": lambda d: with_header_text(d, "[" * 200_000),
    "reward of 1e30": lambda d: changed(d, {"reward": np.full(5, 1e30, np.float32)}),
    "whole numbers": lambda d: changed(d, {"reward": np.ones(5, np.int64)}),
}


@pytest.mark.parametrize("case", EPISODES)
def test_forged_episodes_are_refused(case):
    data = EPISODES[case](episode(1, 5).to_bytes())
    with pytest.raises(EpisodeError):
        Episode.from_bytes(data)
    intake = EpisodeIntake()
    with pytest.raises(EpisodeError):
        intake.add(1, 0, 0, 1, data, tensorfile.sha256(data))
    assert intake.add(1, 0, 0, 1, episode(1, 5).to_bytes(), episode(1, 5).sha256) is not None


@pytest.mark.parametrize(
    ("piece", "pieces", "size"),
    [(0, 0, 1), (2, 2, 1), (0, 5000, 1), (0, 2, (1 << 21) + 1), (-1, 2, 1)],
)
def test_pieces_out_of_bounds_are_refused(piece, pieces, size):
    with pytest.raises(EpisodeError, match="at most 4096 pieces"):
        EpisodeIntake().add(1, 0, piece, pieces, bytes(size), "0" * 64)


def test_pieces_that_never_become_whole_do_not_fill_the_memory():
    intake = EpisodeIntake()
    for number in range(100):
        intake.add(number, 0, 0, 2, bytes(10), "0" * 64)
    assert len(intake._pieces) <= 8


def test_pieces_of_another_sender_do_not_spoil_an_episode():
    intake, sent = EpisodeIntake(), episode(1, 5)
    data = sent.to_bytes()
    intake.add(1, 0, 0, 2, data[:100], sent.sha256)
    intake.add(1, 0, 1, 2, b"forged", "0" * 64)
    assert intake.add(1, 0, 1, 2, data[100:], sent.sha256).sha256 == sent.sha256


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", '{"format": "x"}', '{"format": "resfit-bag-1"}', "\x80\x04"]
)
def test_forged_manifests_are_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BagError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]", "utd: fast", "utd: -1", "nonsense: 1", "batch_size: 0",
        "!!python/object/apply:os.system ['true']", json.dumps({"critic_width": None}),
    ],
)  # fmt: skip
def test_forged_settings_are_refused(tmp_path, text):
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises((ConfigError, ValueError), match=r"."):
        TrainConfig.from_yaml(tmp_path / "train.yaml")
