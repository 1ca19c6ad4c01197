"""The learner's node over DDS: takes episodes, asks for missing ones, publishes weights."""

import array

import numpy as np
import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from residual_common import BASE_SHA256, CONTRACT, SITE, state

from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.control.records import Phase
from resfit_core.data.episode import Episode
from resfit_core.residual import ResidualPolicy
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetEpisode
from resfit_residual.learner_node import LearnerNode
from resfit_ros import qos

SMALL = """
warmup_episodes: 1
critic_warmup_updates: 3
critic_width: 16
actor_width: 16
batch_size: 16
"""


def episode(number, steps=10):
    rng = np.random.default_rng(number)
    return Episode(
        observation=rng.normal(size=(steps + 1, CONTRACT.obs_dim)),
        base_action=rng.uniform(-1, 1, (steps + 1, CONTRACT.action_dim)),
        chunk_phase=np.zeros(steps + 1),
        action=rng.uniform(-1, 1, (steps, CONTRACT.action_dim)),
        reward=np.eye(steps)[-1], terminated=True, truncated=False, success=True,
        intervention=np.zeros(steps), explored=np.zeros(steps), episode=number,
        contract_sha256=CONTRACT.sha256, base_sha256=BASE_SHA256,
    )  # fmt: skip


class Graph:
    """Plays recorder, manager and residual policy."""

    def __init__(self, ros, folder):
        self.ros, self.folder = ros, folder
        (folder / "train.yaml").write_text(SMALL)
        self.probe = probe = ros.probe()
        self.steps = probe.create_publisher(ours.RecordedSteps, "recorded_steps", 100)
        self.recorded = probe.create_publisher(ours.EpisodeRecorded, "episode_recorded", 100)
        self.states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.weights, self.told, self.asked, self.gone = [], [], [], []
        probe.create_subscription(
            ours.PolicyWeights, "policy_weights", self.weights.append, qos.LATCHED_IN
        )
        probe.create_subscription(
            ours.LearnerStatus, "learner_status", self.told.append, qos.LATCHED_IN
        )
        probe.create_service(GetEpisode, "recorder/get_episode", self.serve)
        self.start()

    def start(self):
        self.node = self.ros.add(
            LearnerNode,
            {
                **SITE,
                "base": "fixed_base:make",
                "run_dir": str(self.folder / "run"),
                "train_config": str(self.folder / "train.yaml"),
            },
        )
        self.node._intake._patience_s = 0.1
        assert self.ros.connected(
            self.probe, "recorded_steps", "episode_recorded", "policy_weights", "learner_status"
        )

    def serve(self, request, response):
        self.asked.append(request.episode)
        response.success = request.episode not in self.gone
        if response.success:
            self.send(episode(request.episode))
        return response

    def send(self, sent, sha256=None, size=20_000):
        data = sent.to_bytes()
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        for number, part in enumerate(parts):
            msg = ours.RecordedSteps(run_id="run", piece=number, pieces=len(parts))
            msg.episode, msg.revision = sent.episode, sent.revision
            msg.data, msg.sha256 = array.array("B", part), sha256 or sent.sha256
            self.steps.publish(msg)

    def told_of(self, number):
        return self.ros.spin_until(lambda: self.told and self.told[-1].last_episode >= number)


@pytest.fixture(name="graph")
def _graph(ros, tmp_path):
    return Graph(ros, tmp_path)


def test_an_episode_becomes_weights_that_the_residual_takes(graph):
    graph.send(episode(1))
    assert graph.ros.spin_until(lambda: graph.weights and graph.told_of(1))
    weights, data = graph.weights[0], bytes(graph.weights[0].data)
    assert (weights.version, weights.updates, weights.sha256) == (1, 3, tensorfile.sha256(data))
    assert graph.ros.spin_until(lambda: graph.told[-1].weights_version == 1)
    told = graph.told[-1]
    assert (told.state, told.updates, told.updates_owed, told.env_steps) == (
        ours.LearnerStatus.WAITING, 3, 0, 10,
    )  # fmt: skip
    config = TrainConfig.from_yaml(graph.folder / "train.yaml")
    scale = resolve_scale(config.residual_scale, CONTRACT.groups())
    policy = ResidualPolicy(config, scale, CONTRACT.sha256, BASE_SHA256, 20.0)
    assert policy.load(data, weights.sha256) == 1


def test_it_trains_while_the_scene_is_reset(graph):
    """The person beside the robot needs half a minute; the learner needs no word to go on."""
    resetting = ours.EpisodeState(phase=ours.EpisodeState.RESETTING, episode=2, run_id="run")
    graph.states.publish(resetting)
    graph.ros.spin_until(lambda: False, 0.2)
    graph.send(episode(1))
    assert graph.told_of(1)
    assert graph.ros.spin_until(lambda: graph.told[-1].updates and not graph.told[-1].updates_owed)
    assert graph.ros.spin_until(lambda: graph.weights)


def test_a_damaged_episode_is_refused_and_asked_for_again(graph):
    graph.send(episode(1), sha256="0" * 64)
    assert graph.told_of(1)
    assert graph.asked == [1]


def test_an_announced_episode_that_does_not_come_is_asked_for(graph):
    graph.recorded.publish(ours.EpisodeRecorded(run_id="run", episode=2, complete=True))
    assert graph.told_of(2)
    # One that is not fit for training is not asked for, but counts as seen.
    graph.recorded.publish(ours.EpisodeRecorded(run_id="run", episode=3, complete=False))
    assert graph.told_of(3)
    assert graph.asked == [2]


def test_an_episode_that_cannot_be_had_holds_nobody_up(graph):
    """The manager waited for ever for an evaluation: the learner never claimed the episode."""
    graph.gone = [2]
    graph.recorded.publish(ours.EpisodeRecorded(run_id="run", episode=2, complete=True))
    assert graph.told_of(2)
    assert (graph.asked, graph.told[-1].episodes) == ([2], 0)


def test_an_episode_of_another_run_is_left_alone(graph):
    graph.recorded.publish(ours.EpisodeRecorded(run_id="other", episode=7, complete=False))
    graph.send(episode(1))
    assert graph.told_of(1)
    assert graph.told[-1].last_episode == 1


def test_coming_up_within_a_run_it_asks_for_what_was_closed_before(graph):
    graph.states.publish(state(Phase.RUNNING, 3))
    assert graph.told_of(2)
    assert graph.ros.spin_until(lambda: graph.told[-1].episodes == 2)
    assert sorted(graph.asked) == [1, 2]


def test_at_the_end_of_a_run_it_asks_for_all_and_saves(graph):
    """Bug: a learner that came up at the end did not ask for the last episode."""
    graph.states.publish(state(Phase.IDLE, 2))
    saved = ours.LearnerStatus.SAVED
    assert graph.ros.spin_until(lambda: graph.told and graph.told[-1].state == saved)
    assert (sorted(graph.asked), graph.told[-1].episodes) == ([1, 2], 2)
    assert (graph.folder / "run" / "checkpoints" / "learner.safetensors").is_file()


def test_a_restart_goes_on_where_it_stopped(graph):
    graph.send(episode(1))
    assert graph.ros.spin_until(lambda: graph.weights)
    graph.ros.stop(graph.node)
    graph.told.clear()
    graph.start()
    assert graph.told_of(1)
    assert (graph.told[-1].updates, graph.told[-1].env_steps) == (3, 10)
    assert graph.ros.spin_until(lambda: graph.weights[-1].version == 2)
