"""Episodes to LeRobotDataset v3 and back, robomimic files, and what is refused."""

import json

import numpy as np
import pytest
from bag_maker import CONFIG, vega_contract, write_demo

from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bags import list_episodes
from resfit_core.formats import lerobot_export, lerobot_layout
from resfit_core.formats.bag_writing import write_trajectory
from resfit_core.formats.lerobot_import import LeRobotReader
from resfit_core.formats.robomimic import RobomimicReader
from resfit_core.formats.trajectory import Column, FieldMap, FormatError, read_map
from resfit_core.strict_yaml import ContractError

pq = pytest.importorskip("pyarrow.parquet")
h5py = pytest.importorskip("h5py")
STEPS = 12


def numbers(contract, seed, rows):
    rng = np.random.default_rng(seed)
    observation = rng.standard_normal((rows, contract.obs_dim)).astype(np.float32)
    action = rng.uniform(contract.lower, contract.upper, (rows - 1, contract.action_dim))
    return observation, action.astype(np.float32).astype(np.float64)


def smooth_images(contract, rows):
    """A square that wanders over a ramp: what a codec keeps."""
    size = contract.image_size
    frames = np.zeros((rows, size, size, 3), np.uint8)
    frames[..., 0] = np.arange(size)[:, None] * 2
    frames[..., 1] = np.arange(size) * 2
    for index in range(rows):
        frames[index, 4 * index : 4 * index + 12, 20:40] = 200
    return frames


def demos(folder, contract, count=3, success=True):
    """Record a few episodes; return observations and actions of each."""
    made = []
    for number in range(1, count + 1):
        observation, action = numbers(contract, number, STEPS + number)
        images = [smooth_images(contract, len(observation)) for _ in contract.images]
        norm = np.zeros_like(action)
        write_demo(
            folder, contract, observation, action, norm, number, success=success, images=images
        )
        made.append((observation, action, images))
    return made


@pytest.mark.parametrize("variant", ["state", "pixels"])
def test_there_and_back(tmp_path, variant):
    contract = vega_contract(variant)
    made = demos(tmp_path / "demos", contract)
    seen = []
    paths = list_episodes(tmp_path / "demos")
    info = lerobot_export.export(paths, contract, tmp_path / "lerobot", lambda *n: seen.append(n))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (info["total_episodes"], info["total_frames"]) == (3, sum(len(a) for _, a, _ in made))
    reader = LeRobotReader(tmp_path / "lerobot", contract)
    assert len(reader) == 3
    for number, (trajectory, source) in enumerate(zip(reader, made, strict=True), 1):
        observation, action, images = source
        write_trajectory(tmp_path / "back", number, trajectory, contract)
        back = read_episode(list_episodes(tmp_path / "back")[-1])
        # The row of the last action has no observation after it.
        np.testing.assert_array_equal(back.observation, observation[:-1])
        np.testing.assert_allclose(back.action_rad, action[:-1], atol=1e-6)
        assert back.verdict.success
        assert back.images[0].shape[0] == len(back.observation) if images else not back.images
        for ours, theirs in zip(back.images, images, strict=True):
            assert np.abs(ours.astype(int) - theirs[:-1]).mean() < 4  # H.264 is lossy


def test_rows_and_descriptions_agree(tmp_path):
    contract = vega_contract("pixels")
    made = demos(tmp_path / "demos", contract, success=False)
    root = tmp_path / "lerobot"
    lerobot_export.export(list_episodes(tmp_path / "demos"), contract, root)
    rows = pq.read_table(root / lerobot_layout.DATA.format(chunk_index=0, file_index=0))
    episodes = pq.read_table(
        root / lerobot_layout.EPISODES.format(chunk_index=0, file_index=0)
    ).to_pylist()
    info = json.loads((root / lerobot_layout.INFO).read_text())
    stats = json.loads((root / lerobot_layout.STATS).read_text())
    columns = {k for k, f in info["features"].items() if f["dtype"] != "video"}
    assert set(rows.column_names) == columns
    assert rows["index"].to_pylist() == list(range(info["total_frames"]))
    at = 0
    for row, (_, action, _) in zip(episodes, made, strict=True):
        assert (row["dataset_from_index"], row["length"]) == (at, len(action))
        at = row["dataset_to_index"]
        key = "videos/observation.images.left/"
        seconds = row[f"{key}to_timestamp"] - row[f"{key}from_timestamp"]
        assert seconds == pytest.approx(len(action) / 20)
    actions = np.concatenate([action for _, action, _ in made])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["action"]["q50"], np.median(actions, 0), atol=1e-5)
    assert np.shape(stats["observation.images.left"]["std"]) == (3, 1, 1)
    assert not any(rows["next.success"].to_pylist())


def broken(root, name, how):
    path = root / name
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_text(path.read_text().replace(*how))


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        (lerobot_layout.INFO, ("v3.0", "v2.1"), ["info.json", "v2.1", "convert"]),
        (lerobot_layout.INFO, ('"fps": 20', '"fps": 30'), ["fps is 30", "resample"]),
        (lerobot_layout.INFO, "cut", ["info.json", "cannot be read"]),
        (lerobot_layout.INFO, ("joint_position.L_arm_j1", "x"), ["joint_position", "28", "29"]),
        ("data/chunk-000/file-000.parquet", "cut", ["file-000.parquet", "no readable parquet"]),
        ("data/chunk-000/file-000.parquet", "missing", ["file-000.parquet", "no readable"]),
        ("videos/observation.images.left/chunk-000/file-000.mp4", "missing", ["episode 0", "mp4"]),
        ("videos/observation.images.left/chunk-000/file-000.mp4", "cut", ["episode", "mp4"]),
    ],
)
def test_bad_datasets_are_named(tmp_path, name, how, words):
    contract = vega_contract("pixels")
    demos(tmp_path / "demos", contract, 2)
    root = tmp_path / "lerobot"
    lerobot_export.export(list_episodes(tmp_path / "demos"), contract, root)
    broken(root, name, how)
    with pytest.raises(FormatError) as error:
        list(LeRobotReader(root, contract))
    assert all(word in str(error.value) for word in words), error.value


def test_export_leaves_nothing_half_done(tmp_path):
    contract = vega_contract()
    demos(tmp_path / "demos", contract, 2)
    second = list_episodes(tmp_path / "demos")[1]
    bag = next(second.glob("*.mcap"))
    bag.write_bytes(bag.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        lerobot_export.export(list_episodes(tmp_path / "demos"), contract, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["demos"]
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError, match="exists"):
        lerobot_export.export(list_episodes(tmp_path / "demos"), contract, tmp_path / "out")


def robomimic_file(path, contract, next_obs=True, change=None):
    """Write two demonstrations in degrees, arms in another order."""
    with h5py.File(path, "w") as file:
        for number in (10, 2):  # read in the order of their numbers
            observation, action = numbers(contract, number, STEPS + 1)
            position = observation[:, contract.layout["joint_position"]]
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.rad2deg(action)[:, ::-1]
            demo["rewards"] = np.r_[np.zeros(STEPS - 1), float(number == 2)]
            rows = slice(0, -1)
            demo["obs/q"] = position[rows]
            demo["obs/eye"] = smooth_images(contract, STEPS + 1)[rows]
            if next_obs:
                demo["next_obs/q"] = position[1:]
                demo["next_obs/eye"] = smooth_images(contract, STEPS + 1)[1:]
            if change is not None:
                change(demo)


def robomimic_map(contract):
    backwards = tuple(range(contract.action_dim))[::-1]
    return FieldMap(
        Column("actions", indices=backwards, unit="deg"),
        {"joint_position": Column("q")},
        dict.fromkeys(contract.images, "eye"),
        "reward",
    )


@pytest.mark.parametrize("next_obs", [True, False])
def test_robomimic(tmp_path, next_obs):
    contract = vega_contract("pixels")
    robomimic_file(tmp_path / "a.hdf5", contract, next_obs)
    reader = RobomimicReader(tmp_path / "a.hdf5", contract, robomimic_map(contract))
    found = list(reader)
    assert [t.success for t in found] == [True, False]
    assert [t.source.rsplit(" ", 1)[1] for t in found] == ["demo_2", "demo_10"]
    steps = STEPS if next_obs else STEPS - 1
    observation, action = numbers(contract, 2, STEPS + 1)
    np.testing.assert_allclose(found[0].action_rad, action[:steps], atol=1e-9)
    wanted = observation[: steps + 1, contract.layout["joint_position"]]
    np.testing.assert_array_equal(found[0].observation, wanted)
    assert found[0].images[0].shape == (steps + 1, 84, 84, 3)


def test_bad_robomimic_files_are_named(tmp_path):
    contract = vega_contract("pixels")

    def nan(demo):
        demo["actions"][3, 0] = np.nan

    def beyond(demo):
        demo["actions"][3, 0] = 1e4

    def short(demo):
        del demo["obs/q"]
        demo["obs/q"] = np.zeros((3, contract.action_dim))

    def blind(demo):
        del demo["obs/eye"]

    for change, words in (
        (nan, ["demo_2", "action[3, 28] is nan"]),
        (beyond, ["demo_2", "action[3] of 'head_j3'", "rad"]),
        (short, ["demo_2", "obs/q has 3 rows"]),
        (blind, ["demo_2", "obs/eye", "there are"]),
    ):
        path = tmp_path / f"{change.__name__}.hdf5"
        robomimic_file(path, contract, change=change)
        with pytest.raises(FormatError) as error:
            list(RobomimicReader(path, contract, robomimic_map(contract)))
        assert all(word in str(error.value) for word in words), error.value
    (tmp_path / "text.hdf5").write_text("no HDF5")
    with pytest.raises(FormatError, match="no robomimic file"):
        RobomimicReader(tmp_path / "text.hdf5", contract, robomimic_map(contract))
    with pytest.raises(FormatError, match="mapping:=FILE"):
        RobomimicReader(tmp_path / "nan.hdf5", contract, None)


def test_mappings(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(
        "action: {key: action, unit: deg}\n"
        "fields: {joint_position: observation.state}\n"
        "images: {left: observation.images.top}\n"
    )
    found = read_map(path)
    assert found.action == Column("action", unit="deg")
    assert found.fields == {"joint_position": Column("observation.state")}
    with pytest.raises(FormatError, match=r"images 'right'"):
        found.check(vega_contract("pixels"), str(path))
    for text, words in (
        ("fields: {}", "missing key 'action'"),
        ("action: a\nimage: {}", "did you mean 'images'"),
        ("action: {key: a, unit: turn}", "expected one of"),
        ("action: {key: a, indices: [-1]}", "numbers from 0"),
    ):
        path.write_text(text)
        with pytest.raises(ContractError, match=words):
            read_map(path)


def test_shipped_mapping_examples_are_sound():
    files = sorted((CONFIG / "formats").glob("*.yaml"))
    assert files
    for file in files:
        read_map(file)
