"""Relabelling: what the frozen base would have done along a recorded episode."""

import numpy as np
import pytest
from bag_maker import vega_contract, write_demo

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase
from resfit_core.base.relabel import relabel, relabel_folder
from resfit_core.contract import ContractError
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.verdicts import Verdict, append_verdict

STEPS, CHUNK = 7, 3


@pytest.fixture
def contract():
    return vega_contract()


@pytest.fixture
def demo(tmp_path, contract):
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(STEPS + 1, contract.obs_dim))
    observation[:, 0] = np.arange(STEPS + 1) / 10
    action_rad = rng.uniform(contract.lower, contract.upper, (STEPS, contract.action_dim))
    norm = ActionSpace.from_limits(contract).to_norm(action_rad)
    return write_demo(tmp_path / "episodes", contract, observation, action_rad, norm)


class CountingBase(ChunkedBase):
    """Plans the first observation value, plus hundredths over the chunk; counts its plans."""

    def __init__(self, contract, base_sha256="a" * 64):
        self.plans = 0

        def plan(observation, images):
            del images
            self.plans += 1
            steps = float(observation[0]) + np.arange(CHUNK)[:, None] / 100
            return np.tile(steps, contract.action_dim)

        space = ActionSpace(contract.lower * 0.9, contract.upper * 0.9)
        super().__init__(plan, CHUNK, space, base_sha256, contract.sha256)


def test_chunks_run_open_loop_along_the_recorded_observations(demo, contract):
    base = CountingBase(contract)
    base.act(np.ones(contract.obs_dim))  # a chunk of something else is still open
    episode = relabel(read_episode(demo), base, contract)
    # Planned at observations 0, 3 and 6; the last observation, 7, is still in the third chunk.
    expected = [0.0, 0.01, 0.02, 0.3, 0.31, 0.32, 0.6, 0.61]
    np.testing.assert_allclose(episode.base_action[:, 5], expected, atol=1e-6)
    np.testing.assert_allclose(
        episode.chunk_phase, np.array([0, 1, 2, 0, 1, 2, 0, 1]) / 3, atol=1e-6
    )
    assert base.plans == 1 + 3
    assert episode.base_sha256 == "a" * 64 and episode.success
    assert base.act(np.ones(contract.obs_dim)).planned, "the base must be left reset"


def test_actions_come_from_rad_and_are_clipped_to_the_new_range(demo, contract):
    recorded = read_episode(demo)
    base = CountingBase(contract)
    episode = relabel(recorded, base, contract)
    back = base.action_space.to_rad(episode.action)
    inside = (recorded.action_rad > base.action_space.low) & (
        recorded.action_rad < base.action_space.high
    )
    assert 0 < inside.sum() < inside.size
    np.testing.assert_allclose(back[inside], recorded.action_rad[inside], atol=1e-6)
    assert np.abs(episode.action[~inside]).min() == 1.0


def test_another_contract_is_refused(demo, contract):
    with pytest.raises(ContractError, match="the base policy was made for contract"):
        relabel(read_episode(demo), CountingBase(vega_contract("pixels")), contract)


def test_the_cache_is_read_and_belongs_to_base_and_revision(demo, tmp_path, contract):
    cache = tmp_path / "cache"
    base = CountingBase(contract)
    seen = []
    first = relabel_folder(tmp_path, base, contract, cache, lambda *a: seen.append(a))
    assert seen == [(1, 1)] and base.plans == 3
    again = relabel_folder(tmp_path, base, contract, cache)
    assert base.plans == 3 and again[0].sha256 == first[0].sha256
    other = CountingBase(contract, "e" * 64)
    relabel_folder(tmp_path, other, contract, cache)
    assert other.plans == 3
    append_verdict(tmp_path, Verdict("test", 1, 1, 2, STEPS - 1))
    assert not relabel_folder(tmp_path, base, contract, cache)[0].success
    for kept in cache.rglob("*.safetensors"):
        kept.write_bytes(kept.read_bytes()[:-20])
    assert relabel_folder(tmp_path, other, contract, cache)[0].base_sha256 == "e" * 64
    assert other.plans == 3 + 3, "a damaged file of the cache must be made anew"


def test_an_empty_folder_is_refused(tmp_path, contract):
    with pytest.raises(BagError, match=r"no episode_\* folder in it; record some"):
        relabel_folder(tmp_path, CountingBase(contract), contract)
