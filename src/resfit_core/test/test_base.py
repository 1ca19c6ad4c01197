"""The base policy: chunk queue, frozen file, loaders, and errors that say what to do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from bag_maker import CONFIG, vega_contract

from resfit_core import tensorfile
from resfit_core.action_space import ActionSpace
from resfit_core.base.act import Act, ActConfig, fields_of
from resfit_core.base.action_space import load_action_space, write_range
from resfit_core.base.checkpoint import freeze, load_base
from resfit_core.base.protocol import BaseError, BasePolicy, ChunkedBase
from resfit_core.contract import ContractError

LIMITS = ActionSpace(np.array([-1.0, -2.0]), np.array([1.0, 2.0]))


class Planner:
    """Plans the chunk [n, n+.1, n+.2] on its n-th call, n counted in hundredths."""

    def __init__(self, length=3):
        self.calls = []
        self.length = length

    def __call__(self, observation, images):
        self.calls.append(float(observation[0]))
        steps = np.arange(self.length) / 10 + len(self.calls) / 100
        return np.stack([steps, -steps], axis=1)


def queue(planner, length=3):
    return ChunkedBase(planner, length, LIMITS, "b" * 64, "c" * 64)


def test_a_chunk_is_executed_open_loop_with_its_phase():
    planner = Planner()
    base = queue(planner)
    found = [base.act(np.array([float(i)])) for i in range(5)]
    assert planner.calls == [0.0, 3.0]
    assert [f.planned for f in found] == [True, False, False, True, False]
    np.testing.assert_allclose([f.chunk_phase for f in found], [0, 1 / 3, 2 / 3, 0, 1 / 3])
    np.testing.assert_allclose(
        [f.action_norm[0] for f in found], [0.01, 0.11, 0.21, 0.02, 0.12], atol=1e-6
    )


def test_a_reset_plans_anew_whatever_is_left_of_the_chunk():
    """The reference wrapper kept a stale action after some resets."""
    planner = Planner()
    base = queue(planner)
    base.act(np.zeros(1))
    base.reset(7)
    again = base.act(np.ones(1))
    assert again.planned and again.chunk_phase == 0 and planner.calls == [0.0, 1.0]


def test_actions_are_clipped_and_copies():
    base = queue(lambda o, i: np.array([[3.0, -3.0]]), 1)
    first = base.act(np.zeros(1)).action_norm
    np.testing.assert_array_equal(first, [1, -1])
    assert first.dtype == np.float32
    first[:] = 9
    np.testing.assert_array_equal(base.act(np.zeros(1)).action_norm, [1, -1])


def test_a_bad_plan_is_refused():
    with pytest.raises(BaseError, match=r"planned shape \(2, 2\), \(3, 2\) is needed"):
        queue(lambda o, i: np.zeros((2, 2))).act(np.zeros(1))
    with pytest.raises(BaseError, match=r"planned nan for joint 1 at step 2"):
        queue(lambda o, i: np.array([[0, 0], [0, 0], [0, np.nan]])).act(np.zeros(1))


@pytest.fixture(scope="module")
def contract():
    return vega_contract()


def fresh_net(contract, seed=0):
    torch.manual_seed(seed)
    cameras = len(contract.images)
    net = Act(ActConfig(fields_of(contract.layout), contract.action_dim, cameras, width=32))
    net.obs_mean += 0.1
    net.obs_std *= 2
    return net


@pytest.fixture
def frozen(tmp_path, contract):
    space = ActionSpace.from_demos(np.tile(contract.lower, (2, 1)) * [[0.1], [0.2]])
    path = tmp_path / "base.safetensors"
    sha = freeze(path, fresh_net(contract), space, contract, {"episodes": 30})
    return path, space, sha


def test_what_was_frozen_acts_the_same(frozen, contract):
    path, space, sha = frozen
    base = load_base(path, contract)
    assert isinstance(base, BasePolicy)
    assert (base.chunk_length, base.base_sha256, base.contract_sha256) == (
        20,
        sha,
        contract.sha256,
    )
    np.testing.assert_array_equal(base.action_space.low, space.low)
    observation = np.random.default_rng(0).normal(size=contract.obs_dim).astype(np.float32)
    with torch.no_grad():
        expected = fresh_net(contract).eval()(torch.from_numpy(observation[None]))[0].numpy()
    for step in range(20):
        found = base.act(observation).action_norm
        np.testing.assert_allclose(found, expected[step].clip(-1, 1), atol=1e-6)


def test_the_hash_covers_weights_and_normalisation_alone(tmp_path, contract, frozen):
    path, space, sha = frozen
    other = tmp_path / "other.safetensors"
    assert freeze(other, fresh_net(contract), space, contract, {"episodes": 99}) == sha
    assert freeze(other, fresh_net(contract, 1), space, contract) != sha
    net = fresh_net(contract)
    net.obs_mean[0] += 1e-3
    assert freeze(other, net, space, contract) != sha
    wider = ActionSpace(space.low - 0.1, space.high)
    assert freeze(other, fresh_net(contract), wider, contract) != sha
    assert path.read_bytes() != other.read_bytes()


def test_pixels_read_both_cameras_at_any_size(tmp_path):
    contract = vega_contract("pixels")
    path = tmp_path / "base.safetensors"
    freeze(path, fresh_net(contract), ActionSpace.from_limits(contract), contract)
    base = load_base(path, contract)
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 255, (168, 200, 3), np.uint8) for name in contract.images}
    observation = np.zeros(contract.obs_dim, np.float32)
    first = base.act(observation, images).action_norm
    base.reset()
    images["right"] = 255 - images["right"]
    assert np.abs(base.act(observation, images).action_norm - first).max() > 1e-4
    base.reset()
    with pytest.raises(BaseError, match="image of camera 'right' is missing"):
        base.act(observation, {"left": images["left"]})


def test_wrong_files_are_refused_in_one_line(frozen, tmp_path, contract):
    path, _, _ = frozen
    cases = {
        tmp_path / "none.safetensors": "cannot be read .* make one with 'make base'",
        tmp_path / "base.onnx": "of no known kind; give a file ending in .safetensors or .pt",
        "no such kind": "of no known kind",
        "nowhere.at_all:Base": "cannot import nowhere.at_all",
        "json:Base": "module json has no 'Base'",
    }
    for name, words in cases.items():
        with pytest.raises(BaseError, match=words) as error:
            load_base(name, contract)
        assert "\n" not in str(error.value)
    path.write_bytes(path.read_bytes()[:-100])
    for load in (load_base, load_action_space):
        with pytest.raises(BaseError, match="not a whole resfit safetensors file"):
            load(path, contract)


def test_another_contract_is_refused(frozen):
    path, _, _ = frozen
    for load in (load_base, load_action_space):
        with pytest.raises(ContractError, match=r"base.safetensors was made for contract"):
            load(path, vega_contract("pixels"))


def test_a_changed_tensor_is_noticed(frozen, contract):
    path, _, _ = frozen
    tensors, header = tensorfile.unpack(path.read_bytes())
    tensors["net.head.bias"] = tensors["net.head.bias"] + 1e-3
    path.write_bytes(tensorfile.pack(tensors, header))
    with pytest.raises(BaseError, match="does not match its base_sha256"):
        load_base(path, contract)
    del tensors["net.head.bias"]
    path.write_bytes(tensorfile.pack(tensors, header))
    with pytest.raises(BaseError, match="tensors do not fit the header"):
        load_base(path, contract)
    path.write_bytes(tensorfile.pack(tensors, {"format": "resfit-episode-1"}))
    with pytest.raises(BaseError, match="expected 'resfit-base-1'"):
        load_base(path, contract)


class Scripted(torch.nn.Module):
    """Two steps: joint targets proportional to the first observation value."""

    def __init__(self, joints: int):
        super().__init__()
        self.joints = joints

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        first = observation[:, :1].unsqueeze(1)
        return torch.cat([first, 2 * first], dim=1).expand(-1, -1, self.joints)


def test_torchscript_speaks_rad(tmp_path, contract):
    path = tmp_path / "theirs.pt"
    torch.jit.script(Scripted(contract.action_dim)).save(str(path))
    base = load_base(path, contract)
    assert base.chunk_length == 2
    np.testing.assert_array_equal(base.action_space.low, contract.lower)
    observation = np.full(contract.obs_dim, 0.05, np.float32)
    for expected in (0.05, 0.10):
        rad = base.action_space.to_rad(base.act(observation).action_norm)
        np.testing.assert_allclose(rad, expected, atol=1e-5)
    narrow = ActionSpace(contract.lower * 0.5, contract.upper * 0.5)
    write_range(path, narrow, contract)
    ranged = load_base(path, contract)
    np.testing.assert_array_equal(ranged.action_space.low, narrow.low)
    assert ranged.base_sha256 != base.base_sha256
    rad = ranged.action_space.to_rad(ranged.act(observation).action_norm)
    np.testing.assert_allclose(rad, 0.05, atol=1e-5)


def test_torchscript_of_another_shape_is_refused(tmp_path, contract):
    path = tmp_path / "theirs.pt"
    torch.jit.script(Scripted(7)).save(str(path))
    with pytest.raises(BaseError, match=r"must map \(1, 53\) to .*, but gave \(1, \*\(2, 7\)\)"):
        load_base(path, contract)
    torch.jit.script(torch.nn.Linear(5, 29)).save(str(path))
    with pytest.raises(BaseError, match=r"must map .* but failed"):
        load_base(path, contract)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BaseError, match="not a TorchScript file") as error:
        load_base(path, contract)
    assert "\n" not in str(error.value)


class Dummy(ChunkedBase):
    """A callable base, as the scripted expert is."""

    space = None

    def __init__(self, contract):
        space = Dummy.space or ActionSpace.from_limits(contract)
        plan = np.zeros((1, contract.action_dim))
        super().__init__(lambda o, i: plan, 1, space, "d" * 64, contract.sha256)


def test_a_callable_gets_the_contract(contract, monkeypatch):
    assert load_base("test_base:Dummy", contract).base_sha256 == "d" * 64
    monkeypatch.setattr(Dummy, "space", ActionSpace(contract.lower, contract.upper + 1))
    with pytest.raises(BaseError, match="action space is not the joint limits"):
        load_base("test_base:Dummy", contract)
    with pytest.raises(BaseError, match="'test_base:Silent' has no 'reset'"):
        load_base("test_base:Silent", contract)


class Silent:
    """No policy at all."""

    def __init__(self, contract):
        pass


def test_the_action_space_needs_no_torch(frozen, contract):
    """The driver reads it and must never load torch."""
    path, _, _ = frozen
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from resfit_core.base.action_space import load_action_space\n"
        "from resfit_core.contract import load_contract\n"
        f"c = load_contract({str(CONFIG / 'robot/vega_1.yaml')!r}, "
        f"{str(CONFIG / 'task/woolly_ball_pnp.yaml')!r})\n"
        f"print(load_action_space({str(path)!r}, c).low.shape)\n"
        "print(load_action_space('a.b:C', c).high[0])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["(29,)", "3.071"]
