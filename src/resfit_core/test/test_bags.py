"""Bags: whole or absent, readable by other tools, damaged ones refused in one line."""

import json

import numpy as np
import pytest
from bag_maker import START_NS, vega_contract, write_demo
from rosbags.highlevel import AnyReader

from resfit_core.contract import ContractError
from resfit_core.data import bags
from resfit_core.data.bag_reader import read_episode, read_episodes
from resfit_core.data.bag_types import TOPICS, BagError, definitions_folder, type_store
from resfit_core.data.bags import list_episodes, read_manifest, remove_partial
from resfit_core.data.verdicts import FILE, Verdict, append_verdict, read_verdicts

STEPS = 5


@pytest.fixture
def contract():
    return vega_contract()


@pytest.fixture
def arrays(contract):
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(STEPS + 1, contract.obs_dim)).astype(np.float32)
    action_rad = rng.uniform(contract.lower, contract.upper, (STEPS, contract.action_dim))
    action_norm = rng.uniform(-1, 1, (STEPS, contract.action_dim)).astype(np.float32)
    return observation, action_rad, action_norm


def test_a_run_that_goes_on_lists_its_closed_episodes(tmp_path, contract, arrays):
    """`episode_open.json` lies where a set of demos has its folders: it was taken for one."""
    write_demo(tmp_path / "episodes", contract, *arrays)
    (tmp_path / "episode_open.json").write_text("{}")
    assert [path.parent.name for path in list_episodes(tmp_path)] == ["episodes"]


def test_what_was_written_is_read(tmp_path, contract, arrays):
    observation, action_rad, action_norm = arrays
    path = write_demo(tmp_path / "episodes", contract, observation, action_rad, action_norm)
    recorded = read_episode(path)
    np.testing.assert_array_equal(recorded.observation, observation)
    np.testing.assert_array_equal(recorded.action_rad, action_rad)
    assert recorded.action_rad.dtype == np.float64
    np.testing.assert_array_equal(recorded.action_norm, action_norm)
    assert recorded.stamp_ns[0] == START_NS
    episode = recorded.to_episode(contract)
    assert episode.success and episode.terminated and not episode.truncated
    np.testing.assert_array_equal(episode.reward, [0, 0, 0, 0, 1])
    assert episode.seed == 2_000_001 and episode.mode == 3


def test_it_is_a_rosbag2_folder_with_its_definitions(tmp_path, contract, arrays):
    path = write_demo(tmp_path, contract, *arrays)
    assert sorted(p.name for p in path.iterdir()) == [
        "episode_000001.mcap",
        "manifest.json",
        "metadata.yaml",
    ]
    with AnyReader([path]) as reader:
        found = {c.topic: c for c in reader.connections}
        # As ROS resolves them: `ros2 bag play --topics` finds no others.
        assert {topic: c.msgtype for topic, c in found.items()} == {
            f"/{topic}": name for topic, name in TOPICS.items()
        }
        assert "float32[] base_action_norm" in found["/step"].msgdef.data
        kinds = [c.topic for c, _, _ in reader.messages()]
        assert kinds.count("/step") == STEPS + 1
        connection, _, data = next(reader.messages([found["/executed_command"]]))
        message = reader.deserialize(data, connection.msgtype)
        np.testing.assert_array_equal(message.action_rad, arrays[1][0])


def test_bags_of_before_hold_relative_names_and_are_read(tmp_path, contract, arrays, monkeypatch):
    new = write_demo(tmp_path / "new", contract, *arrays)
    monkeypatch.setattr(bags, "name_in_bag", lambda topic: topic)
    old = write_demo(tmp_path / "old", contract, *arrays)
    with AnyReader([old]) as reader:
        assert {c.topic for c in reader.connections} == set(TOPICS)
    read = [read_episode(path).to_episode(contract) for path in (old, new)]
    assert read[0].to_bytes() == read[1].to_bytes()


def test_two_types_under_one_topic_are_refused(tmp_path, contract, arrays):
    more = {"/step": "sensor_msgs/msg/JointState"}
    path = write_demo(
        tmp_path, contract, *arrays, extra=[("/step", 1, b"\0" * 64)], more_topics=more
    )
    with pytest.raises(BagError, match=r"'step' is resfit_interfaces/msg/Step and sensor_msgs/m"):
        read_episode(path)


def test_nothing_partial_is_left_and_an_episode_is_never_overwritten(tmp_path, contract, arrays):
    write_demo(tmp_path, contract, *arrays)
    with pytest.raises(BagError, match=r"episode 1 is recorded already"):
        write_demo(tmp_path, contract, *arrays)
    with pytest.raises(BagError, match=r"topic 'joint_states' is not one of"):
        write_demo(tmp_path, contract, *arrays, episode=2, extra=[("joint_states", 1, b"\0" * 8)])
    assert [p.name for p in tmp_path.iterdir()] == ["episode_000001"]


def test_a_crash_before_the_rename_leaves_no_episode(tmp_path, contract, arrays, monkeypatch):
    def crash(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(bags, "sync_folder", crash)
    monkeypatch.setattr(bags.shutil, "rmtree", lambda *a, **k: None)  # killed: nothing cleans up
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path, contract, *arrays)
    monkeypatch.undo()
    assert list_episodes(tmp_path) == []
    assert remove_partial(tmp_path) == 1
    write_demo(tmp_path, contract, *arrays)
    assert len(list_episodes(tmp_path)) == 1


@pytest.mark.parametrize("cut", [1, 200, -40])
def test_a_truncated_bag_names_file_episode_and_fix(tmp_path, contract, arrays, cut):
    path = write_demo(tmp_path, contract, *arrays)
    bag = path / "episode_000001.mcap"
    bag.write_bytes(bag.read_bytes()[:cut])
    with pytest.raises(BagError) as error:
        read_episode(path)
    text = str(error.value)
    assert "episode_000001.mcap" in text and "episode 1" in text and "truncated" in text
    assert "copy it anew" in text and "\n" not in text


def test_foreign_folders_are_refused(tmp_path, contract, arrays):
    with pytest.raises(BagError, match=r"no episode_\* folder"):
        read_episodes(tmp_path)
    (tmp_path / "episode_000009").mkdir()
    with pytest.raises(BagError, match=r"manifest.json: missing"):
        read_episodes(tmp_path)
    path = write_demo(tmp_path, contract, *arrays)
    (path / "manifest.json").write_text('{"format": "x"}')
    with pytest.raises(BagError, match="expected 'resfit-bag-1'"):
        read_episode(path)
    (path / "manifest.json").write_text('{"form')
    with pytest.raises(BagError, match="damaged"):
        read_episode(path)


def test_another_contract_is_refused(tmp_path, contract, arrays):
    path = write_demo(tmp_path, contract, *arrays)
    with pytest.raises(ContractError, match="episode 1 was made for contract"):
        read_episode(path).to_episode(vega_contract("pixels"))


def test_corrections_override_the_bag(tmp_path, contract, arrays):
    path = write_demo(tmp_path / "episodes", contract, *arrays)
    append_verdict(tmp_path, Verdict("test", 1, 1, 2, STEPS - 1, "looked wrong"))
    append_verdict(tmp_path, Verdict("another run", 1, 9, 1, 0))
    episode = read_episode(path).to_episode(contract)
    assert episode.revision == 1 and episode.terminated and not episode.success
    assert episode.reward.sum() == 0
    append_verdict(tmp_path, Verdict("test", 1, 2, 1, 2, "it was in at step 2"))
    episode = read_episode(path).to_episode(contract)
    assert episode.steps == 3 and episode.success and episode.revision == 2
    np.testing.assert_array_equal(episode.reward, [0, 0, 1])
    np.testing.assert_array_equal(episode.observation, arrays[0][:4])
    append_verdict(tmp_path, Verdict("test", 1, 3, 1, STEPS))
    with pytest.raises(BagError, match="6 steps are to be credited, but 5 complete"):
        read_episode(path)


def test_half_a_line_of_corrections_is_left_out_and_not_glued(tmp_path):
    first, second = Verdict("r", 1, 1, 1, 3), Verdict("r", 2, 1, 2, 3)
    append_verdict(tmp_path, first)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"run_id": "r", "epi')
    assert read_verdicts(tmp_path) == {("r", 1): first}
    append_verdict(tmp_path, second)
    assert read_verdicts(tmp_path) == {("r", 1): first, ("r", 2): second}
    with (tmp_path / FILE).open("a") as file:
        file.write('{"run_id": "r"}\n')
    with pytest.raises(BagError, match=r"verdicts.jsonl, line 4: not a verdict"):
        read_verdicts(tmp_path)


def test_images_come_back_per_camera(tmp_path, arrays):
    contract = vega_contract("pixels")
    rng = np.random.default_rng(1)
    observation = rng.normal(size=(STEPS + 1, contract.obs_dim))
    images = [rng.integers(0, 255, (STEPS + 1, 84, 84, 3), np.uint8) for _ in range(2)]
    path = write_demo(tmp_path, contract, observation, *arrays[1:], images=images)
    episode = read_episode(path).to_episode(contract)
    np.testing.assert_array_equal(episode.images["left"], images[0])
    np.testing.assert_array_equal(episode.images["right"], images[1])


def test_manifest_says_what_the_message_says(tmp_path, contract, arrays):
    path = write_demo(tmp_path, contract, *arrays, reason="the oracle saw it", dropped=2)
    manifest = read_manifest(path)
    assert manifest.reason == "the oracle saw it" and manifest.dropped == 2
    assert len(manifest.bag_sha256) == 64 and manifest.bag_file == "episode_000001.mcap"
    assert json.loads((path / "manifest.json").read_text())["steps"] == STEPS


def test_a_step_without_its_answer_ends_what_counts(tmp_path, contract, arrays):
    """An executed command that is missing in the middle must not shift later ones."""
    observation, action_rad, action_norm = arrays
    with pytest.raises(BagError, match="5 steps are to be credited, but 4 complete"):
        read_episode(
            write_demo(
                tmp_path, contract, observation[:5], action_rad[:4], action_norm[:4],
                steps=5, credited_step=4,
            )
        )  # fmt: skip


def test_type_hashes_are_those_of_ros():
    """Other tools match a bag's types to installed ones by this hash."""
    built = [definitions_folder() / f"{name.rsplit('/', 1)[1]}.json" for name in TOPICS.values()]
    if not all(path.is_file() for path in built):
        pytest.skip("resfit_interfaces is not built, so ROS has not told its hashes")
    for name, path in zip(TOPICS.values(), built, strict=True):
        hashes = {
            h["type_name"]: h["hash_string"] for h in json.loads(path.read_text())["type_hashes"]
        }
        assert type_store().hash_rihs01(name) == hashes[name]


def test_a_persons_steps_are_interventions_with_the_proposals_beside_them(tmp_path):
    """From the driver's `source` in the bag to what the learner takes in."""
    contract, steps = vega_contract(), 4
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.5, 0.5, (steps, contract.action_dim)).astype(np.float32)
    observation = rng.normal(size=(steps + 1, contract.obs_dim))
    path = write_demo(
        tmp_path, contract, observation, action, action, sources=[0, 1, 1, 2], mode=1
    )
    episode = read_episode(path).to_episode(contract)
    assert episode.intervention.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(episode.proposed, action)
    copy = type(episode).from_bytes(episode.to_bytes())
    np.testing.assert_array_equal(copy.proposed, action)
    alone = write_demo(tmp_path, contract, observation, action, action, episode=2, mode=1)
    assert read_episode(alone).to_episode(contract).proposed is None
