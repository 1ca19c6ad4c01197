"""Files from strangers: bags, verdicts, settings, checkpoints. Each is refused in words."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from bag_maker import CONFIG, vega_contract, write_demo
from test_learner_checkpoint import empty, half_way

from resfit_core import tensorfile
from resfit_core.algorithms.config import ConfigError, TrainConfig
from resfit_core.checkpoint import CheckpointError
from resfit_core.contract import ContractError, load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bag_types import BagError
from resfit_core.data.bags import read_manifest
from resfit_core.data.episode import EpisodeError
from resfit_core.data.recording import read_recording

DEEP = "[" * 200_000
REFUSED = (BagError, EpisodeError, ContractError)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut out, put in or exchange a few bytes."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, other = (int(rng.integers(len(out))) for _ in range(2))
        size = int(rng.integers(1, 64))
        kind = rng.integers(4)
        if kind == 0:
            out[at] = int(rng.integers(256))
        elif kind == 1 and len(out) > 2 * size:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = rng.bytes(size)
        else:
            out[at : at + size], out[other : other + size] = (
                out[other : other + size], out[at : at + size],
            )  # fmt: skip
    return bytes(out)


@pytest.fixture(scope="module", name="contract")
def _contract():
    return vega_contract()


@pytest.fixture(name="bag")
def _bag(tmp_path, contract):
    rng = np.random.default_rng(0)
    folder = write_demo(
        tmp_path / "run/episodes",
        contract,
        rng.normal(size=(7, contract.obs_dim)),
        rng.uniform(contract.lower, contract.upper, (6, contract.action_dim)),
        rng.uniform(-1, 1, (6, contract.action_dim)),
    )
    assert read_episode(folder).to_episode(contract).steps == 6
    return folder


def forge(bag: Path, data: bytes | None = None, **manifest) -> Path:
    """Change a bag and let its manifest vouch for it."""
    file = bag / "manifest.json"
    said = json.loads(file.read_text())
    if data is not None:
        (bag / said["bag_file"]).write_bytes(data)
        said["bag_sha256"] = hashlib.sha256(data).hexdigest()
    file.write_text(json.dumps({**said, **manifest}))
    return bag


def test_damaged_bags_whose_manifest_vouches_for_them(bag, contract):
    """Bug: what the reader of a forged MCAP raises (of struct, zstd, UTF-8 …) came out raw."""
    sound = next(bag.glob("*.mcap")).read_bytes()
    rng, refused = np.random.default_rng(1), 0
    for _ in range(60):
        forge(bag, damaged(sound, rng))
        for read in (lambda: read_episode(bag).to_episode(contract), lambda: read_recording(bag)):
            try:
                read()
            except REFUSED:
                refused += 1
    assert refused > 60


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, "x") for key in ("steps", "episode", "revision", "mode", "seed", "reward")),
        ("episode", 10**30), ("episode", -1), ("credited_step", -2), ("credited_step", 10**12),
        ("mode", 9), ("ended_by", 99), ("reward", 1e300), ("complete", "no"), ("run_id", 7),
        ("use_residual", 3), ("contract_sha256", None), ("base_sha256", [1]), ("reason", 3),
        ("bag_sha256", 7), ("bag_file", 7), ("bag_file", ""), ("bag_file", "."),
        ("bag_file", ".."), ("bag_file", "a\0b"), ("bag_file", "/etc/passwd"),
        ("bag_file", "../../x.mcap"),
    ],
)  # fmt: skip
def test_forged_manifests(bag, contract, key, value):
    with pytest.raises(REFUSED):
        read_episode(forge(bag, **{key: value})).to_episode(contract)


@pytest.mark.parametrize("data", [DEEP.encode(), b"\xff\xfe{}", b"null"])
def test_manifests_that_are_none(bag, data):
    (bag / "manifest.json").write_bytes(data)
    with pytest.raises(BagError, match=r"manifest\.json"):
        read_manifest(bag)


SOUND = {"run_id": "test", "episode": 1, "revision": 1, "ended_by": 1, "credited_step": 3,
         "reason": ""}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"revision": "x"}, {"revision": True}, {"ended_by": 77}, {"credited_step": "x"},
     {"credited_step": -5}, {"run_id": [1]}, {"episode": {}}, {"revision": 10**30}, None],
)  # fmt: skip
def test_forged_verdicts(bag, changes):
    file = bag.parents[1] / "verdicts.jsonl"
    file.write_text(json.dumps(SOUND) + "\n")
    assert read_episode(bag).steps == 4
    file.write_text((DEEP if changes is None else json.dumps({**SOUND, **changes})) + "}\n\n")
    with pytest.raises(BagError, match=r"verdicts\.jsonl, line 1"):
        read_episode(bag)


YAMLS = {
    "brackets without end": DEEP.encode(),
    "braces without end": b"{a: " * 5000,
    "no UTF-8": b"utd: \xff\xfe",
    "zero bytes": b"\0\1",
    "a key twice": b"utd: 1\nutd: 2\n",
    "an object": b"!!python/name:os.system",
    "a set": b"!!set {a, b}",
    "more digits than Python converts": b"utd: " + b"9" * 10_000,
}


@pytest.mark.parametrize("case", YAMLS)
def test_forged_yaml(tmp_path, case):
    file = tmp_path / "x.yaml"
    file.write_bytes(YAMLS[case])
    with pytest.raises(ConfigError):
        TrainConfig.from_yaml(file)
    with pytest.raises(ContractError):
        load_contract(file, CONFIG / "task/woolly_ball_pnp.yaml")


def places(tree, path=()):
    """Yield the path of every value; of a list that of its first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:1])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@pytest.mark.parametrize("kind", ["robot", "task"])
def test_no_value_of_a_contract_gets_through_raw(tmp_path, kind):
    """Bug: a wrong type anywhere gave a traceback that named neither file nor key."""
    names = {"robot": "robot/vega_1.yaml", "task": "task/woolly_ball_pnp.yaml"}
    tree = yaml.safe_load((CONFIG / names[kind]).read_text())
    file, refused = tmp_path / f"{kind}.yaml", 0
    files = {name: CONFIG / path for name, path in names.items()} | {kind: file}
    for number, path in enumerate(places(tree)):
        *stem, last = path
        place = tree
        for key in stem:
            place = place[key]
        sound = place[last]
        for value in ("x", float("inf"), [1]):
            place[last] = value
            file.write_text(yaml.safe_dump(tree, sort_keys=False))
            try:
                load_contract(files["robot"], files["task"], ("state", "pixels")[number % 2])
            except ContractError:
                refused += 1
        place[last] = sound
    assert refused > 30


@pytest.mark.parametrize(
    ("joint", "change"),
    [(0, float("-inf")), (1, float("inf")), (2, float("inf")), (2, float("nan"))],
)
def test_no_limit_is_infinite(tmp_path, joint, change):
    """Bug: a velocity of .inf passed for a limit."""
    robot = yaml.safe_load((CONFIG / "robot/vega_1.yaml").read_text())
    next(iter(robot["joints"].values()))[joint] = change
    file = tmp_path / "vega_1.yaml"
    file.write_text(yaml.safe_dump(robot, sort_keys=False))
    with pytest.raises(ContractError, match="three finite numbers"):
        load_contract(file, CONFIG / "task/woolly_ball_pnp.yaml")


@pytest.fixture(scope="module", name="saved")
def _saved(tmp_path_factory):
    """Folder and bytes of a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, half_way().save(folder).read_bytes()


def refuses(saved, data: bytes) -> None:
    """Load forged bytes; nothing may be changed by that."""
    folder, _ = saved
    (folder / "learner.safetensors").write_bytes(data)
    into = empty()
    before = into.weights_bytes(1), into.replay.sha256(), dict(into.seen)
    with pytest.raises(CheckpointError, match=r"learner\.safetensors"):
        into.load(folder)
    assert (into.weights_bytes(1), into.replay.sha256(), dict(into.seen)) == before


KEYS = (
    "actor_updates", "base_sha256", "config", "contract_sha256", "counters", "critic_updates",
    "format", "replay", "replay_sha256", "sampler", "seen",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [..., None, 7.5, "x", {}, [[1]], -1, 10**30])
def test_forged_checkpoints_change_nothing(saved, key, value):
    """Bug: a sealed but senseless one was half applied, and what it raised came out raw."""
    tensors, header = tensorfile.unpack_sealed(saved[1], "saved")
    assert set(header) == set(KEYS)
    header = {k: v for k, v in {**header, key: value}.items() if v is not ...}
    refuses(saved, tensorfile.pack_sealed(tensors, header))


TENSORS = {
    "a net's is gone": ("actor/", None),
    "a net's is not finite": ("critic/", np.nan),
    "an optimiser's has another shape": ("critic_optimizer/", np.zeros(3, np.float32)),
    "an optimiser's is gone": ("actor_optimizer/0/exp_avg", None),
    "the scale is gone": ("scale", None),
    "the generator is gone": ("generator", None),
    "the generator is short": ("generator", np.zeros(3, np.uint8)),
}


@pytest.mark.parametrize("case", TENSORS)
def test_forged_tensors_change_nothing(saved, case):
    prefix, value = TENSORS[case]
    tensors, header = tensorfile.unpack_sealed(saved[1], "saved")
    name = next(key for key in tensors if key.startswith(prefix))
    value = tensors[name] * value if isinstance(value, float) else value
    kept = {key: array for key, array in {**tensors, name: value}.items() if array is not None}
    refuses(saved, tensorfile.pack_sealed(kept, header))
