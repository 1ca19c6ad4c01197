"""The player without ROS: what it shows when, what is the same, who is said to be silent."""

import types

import numpy as np
import pytest
from bag_maker import (
    PERIOD_NS,
    START_NS,
    header,
    vega_contract,
    write_demo,
)

from resfit_core.control.records import Phase
from resfit_core.data.bag_types import BagError, type_store
from resfit_core.data.recording import read_recording
from resfit_core.data.sensor_log import NUMBERS, sensor_topics
from resfit_core.playing.bags import find_episodes
from resfit_core.playing.comparison import Comparison
from resfit_core.playing.player import Player, PlayError, Timing

STEPS = 4
TIMING = Timing(PERIOD_NS, 400_000_000, 0)
JOINTS = "sensor_msgs/msg/JointState"


def serialize(msgtype, /, **fields):
    store = type_store()
    return bytes(store.serialize_cdr(store.types[msgtype](**fields), msgtype))


@pytest.fixture
def contract():
    return vega_contract()


@pytest.fixture
def recordings(tmp_path, contract):
    rng = np.random.default_rng(0)
    found = []
    for episode in (1, 2):
        rad = rng.uniform(contract.lower, contract.upper, (STEPS, contract.action_dim))
        extra = [
            ("joint_states", START_NS + n * PERIOD_NS, serialize(
                JOINTS, header=header(n), name=[], position=np.full(29, float(n)),
                velocity=np.zeros(0), effort=np.zeros(0)))
            for n in range(STEPS + 1)
        ]  # fmt: skip
        press = serialize(
            "resfit_interfaces/msg/OperatorEvent", header=header(STEPS), kind=2, source="oracle",
            reason="", episode=episode,
        )  # fmt: skip
        extra.append(("operator_event", START_NS + STEPS * PERIOD_NS, press))
        path = write_demo(
            tmp_path / "episodes", contract, np.zeros((STEPS + 1, contract.obs_dim)), rad,
            np.clip(rad, -1, 1), episode=episode, extra=extra,
            more_topics=sensor_topics(contract, NUMBERS),
        )  # fmt: skip
        found.append(read_recording(path))
    return found


class Graph:
    """The nodes: they answer what they are shown as it was recorded, or not quite."""

    def __init__(self, contract, recordings, bend=None):
        self.comparison = Comparison(contract.joint_names)
        self.states, self.shown, self.versions = [], [], []
        self.now, self.bend = 0, bend or (lambda kind, message: None)
        self.player = Player(recordings, self.comparison, self, TIMING)
        self.player.start(0)

    def state(self, state):
        self.states.append(state)

    def weights(self, version):
        self.versions.append(version)
        return True

    def show(self, messages):
        sec, nanosec = np.frombuffer(messages["joint_states"], "<u4", 2, 4)
        self.shown.append(int(sec) * 1_000_000_000 + int(nanosec))

    def play(self):
        while not self.player.finished:
            self.now += 1_000_000
            stamp, player, step = self.shown[-1], self.player, self.player._step
            recorded = player.recording.steps[step]
            head = types.SimpleNamespace(
                stamp=types.SimpleNamespace(
                    sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
                )
            )
            answer = types.SimpleNamespace(**{**vars(recorded), "header": head})
            self.bend("step", answer)
            done = player.recording.executed.get(
                START_NS + step * PERIOD_NS, types.SimpleNamespace()
            )
            executed = types.SimpleNamespace(**{**vars(done), "header": head})
            player.on_policy_step(answer, self.now)
            player.on_command(stamp, self.now + 1000)
            # The driver's answer may overtake the residual's account.
            player.on_executed(executed, self.now + 2000)
            player.on_step(answer, self.now + 3000)


def test_the_same_answers_are_the_same(contract, recordings):
    graph = Graph(contract, recordings)
    graph.play()
    found = graph.comparison.summary()
    assert found["same"] and (found["episodes"], found["steps"]) == (2, 2 * STEPS)
    assert found["stages"]["base"]["steps"] == 2 * (STEPS + 1)
    assert set(found["latency_ms"]) == {"base", "residual", "driver", "whole"}
    phases = [state.phase for state in graph.states]
    one = [Phase.RESETTING, Phase.READY, Phase.RUNNING, Phase.ENDED]
    assert phases == [*one, *one, Phase.FINISHED]
    ended = [state for state in graph.states if state.phase == Phase.ENDED]
    assert [(e.credited_step, e.reward, e.terminated) for e in ended] == [(3, 1.0, True)] * 2
    # Both were recorded under the same stamps; played, they rise, and with a gap in between.
    assert graph.shown == sorted(set(graph.shown))
    assert graph.shown[STEPS + 1] - graph.shown[STEPS] >= TIMING.gap_ns


def test_weights_that_came_with_the_last_observation_did_not_act(contract, recordings):
    """Newer weights were there when the episode's end was passed on: they were replayed."""
    recording = recordings[0]
    assert not any(step.weights_version for step in recording.steps)
    newer = types.SimpleNamespace(**{**vars(recording.steps[-1]), "weights_version": 1})
    assert newer.is_last
    object.__setattr__(recording, "steps", (*recording.steps[:-1], newer))
    graph = Graph(contract, [recording])
    graph.play()
    assert graph.versions == []


def test_a_difference_is_found_and_named_by_joint(contract, recordings):
    def bend(kind, message):
        message.action_norm = np.array(message.action_norm)
        if message.step == 2:
            message.action_norm[7] += 0.25

    graph = Graph(contract, recordings[:1], bend)
    graph.play()
    found = graph.comparison.summary()
    assert not found["same"]
    proposed = found["stages"]["proposed"]
    assert proposed["differ"] == 1 and proposed["first"] == "episode 1, step 2, index 7"
    assert proposed["joints"] == {
        contract.joint_names[7]: {"max": pytest.approx(0.25), "mean": pytest.approx(0.0625)}
    }
    assert found["stages"]["base"]["differ"] == found["stages"]["executed"]["differ"] == 0
    assert any(contract.joint_names[7] in line for line in graph.comparison.table())


def test_not_a_number_is_never_the_same(contract):
    comparison = Comparison(contract.joint_names, tolerance=1e9)
    comparison.add("base", "episode 1, step 0", np.full(29, np.nan), np.zeros(29))
    assert not comparison.same


def test_silence_is_shown_again_and_then_named(contract, recordings):
    graph = Graph(contract, recordings)
    graph.player.tick(TIMING.again_ns + 1)
    assert graph.shown == [START_NS] * 2
    with pytest.raises(PlayError, match=r"episode 1, step 0: no answer for 60 s: base_policy"):
        graph.player.tick(TIMING.patience_ns + 1)


def test_a_bag_without_sensors_is_refused_in_words(tmp_path, contract):
    rad = np.zeros((STEPS, 29))
    path = write_demo(tmp_path, contract, np.zeros((STEPS + 1, contract.obs_dim)), rad, rad)
    with pytest.raises(BagError, match=r"episode 1: no sensor topics .* record it again"):
        read_recording(path)
    with pytest.raises(BagError, match="holds no recorded episode"):
        find_episodes(f"{path}, {tmp_path / 'nothing'}")


def test_a_camera_comes_back_under_the_name_that_the_contract_gives_it(tmp_path, contract):
    rad = np.zeros((1, 29))
    path = write_demo(
        tmp_path, contract, np.zeros((2, contract.obs_dim)), rad, rad,
        extra=[("/eye", START_NS, b"\0" * 8)], more_topics={"/eye": "sensor_msgs/msg/Image"},
    )  # fmt: skip
    assert list(read_recording(path, ["/eye"]).sensors) == ["/eye"]


def test_small_images_stand_in_for_a_camera(tmp_path):
    contract = vega_contract("pixels")
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 255, (2, 84, 84, 3), dtype=np.uint8) for _ in contract.images]
    observation = np.zeros((2, contract.obs_dim))
    extra = [("joint_states", START_NS, serialize(
        JOINTS, header=header(0), name=[], position=np.zeros(29), velocity=np.zeros(0),
        effort=np.zeros(0)))]  # fmt: skip
    path = write_demo(
        tmp_path, contract, observation, np.zeros((1, 29)), np.zeros((1, 29)), images=frames,
        extra=extra, more_topics=sensor_topics(contract, NUMBERS),
    )  # fmt: skip
    topics = [contract.camera(name).topic for name in contract.images]
    shown = read_recording(path, topics).sensor_set(1)
    image = type_store().deserialize_cdr(shown[topics[1]], "sensor_msgs/msg/Image")
    np.testing.assert_array_equal(image.data.reshape(84, 84, 3), frames[1][1])
    assert (image.header.stamp.sec, image.encoding) == (10, "rgb8")
