"""The recorder's node over DDS: episodes on disk, announced, corrected, sent again."""

import hashlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from rclpy.serialization import deserialize_message, serialize_message
from residual_common import CONTRACT, SITE, T, executed, state, step
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState

from resfit_core.control.records import EndedBy, Mode, Phase
from resfit_core.data import closing
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bag_types import topic_of
from resfit_core.data.episode import Episode
from resfit_core.data.recording import read_recording
from resfit_core.weights import newest_version, newest_weights, weights_path
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetEpisode, GetSteps
from resfit_residual import recorder_node
from resfit_residual.recorder_node import RecorderNode
from resfit_ros import conversions as c
from resfit_ros import qos

SUCCESS = {
    "mode": Mode.TRAIN, "ended_by": EndedBy.SUCCESS, "reward": 1.0, "terminated": True,
    "reason": "oracle",
}  # fmt: skip


class Graph:
    """Plays everybody else."""

    def __init__(self, ros, run_dir, **parameters):
        self.ros, self.run_dir, self.parameters = ros, run_dir, parameters
        self.probe = probe = ros.probe()
        self.states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.steps = probe.create_publisher(ours.Step, "step", 400)
        self.answers = probe.create_publisher(ours.ExecutedCommand, "executed_command", 400)
        self.recorded, self.pieces, self.events, self.asked = [], [], [], []
        probe.create_subscription(
            ours.EpisodeRecorded, "episode_recorded", self.recorded.append, 100
        )
        probe.create_subscription(ours.RecordedSteps, "recorded_steps", self.pieces.append, 100)
        probe.create_subscription(ours.OperatorEvent, "operator_event", self.events.append, 100)
        self.kept = []
        probe.create_service(GetSteps, "residual_policy/get_steps", self.serve)
        self.start()

    def start(self):
        given = {**SITE, "run_dir": str(self.run_dir), "patience_s": 0.2, **self.parameters}
        self.node = self.ros.add(RecorderNode, given)
        topics = (
            "episode_state",
            "step",
            "executed_command",
            "episode_recorded",
            "recorded_steps",
        )
        assert self.ros.connected(self.probe, *topics)
        assert self.ros.spin_until(self.node._get_steps.service_is_ready)

    def serve(self, request, response):
        self.asked.append(list(request.steps))
        response.found = [s for s in self.kept if s.step in request.steps]
        return response

    def play(self, episode, count, without=(), last=True):
        self.states.publish(state(Phase.RUNNING, episode, mode=Mode.TRAIN))
        for number in range(count):
            if number not in without:
                self.steps.publish(step(episode, number))
            self.answers.publish(executed(episode, number))
        if last:
            self.steps.publish(step(episode, count, is_last=True))

    def end(self, episode, credited, **kw):
        self.states.publish(
            state(Phase.ENDED, episode, credited_step=credited, **{**SUCCESS, **kw})
        )

    def hear(self, count):
        assert self.ros.spin_until(lambda: len(self.recorded) >= count), "nothing was announced"
        return self.recorded[-1]

    def payload(self, episode, revision=0):
        pieces = [p for p in self.pieces if (p.episode, p.revision) == (episode, revision)]
        data = b"".join(bytes(p.data) for p in sorted(pieces, key=lambda p: p.piece))
        assert hashlib.sha256(data).hexdigest() == pieces[0].sha256
        return Episode.from_bytes(data)


@pytest.fixture(name="graph")
def _graph(ros, tmp_path):
    return Graph(ros, tmp_path / "run")


def test_an_episode_is_closed_announced_and_sent(graph):
    graph.play(1, 5)
    graph.end(1, 4)
    told = graph.hear(1)
    assert (told.episode, told.steps, told.dropped, told.complete) == (1, 5, 0, True)
    assert (told.reward, told.terminated, told.seed, told.run_id) == (1.0, True, 100, "run")
    assert told.contract_sha256 == CONTRACT.sha256 and told.base_sha256 == "b" * 64
    recorded = read_episode(graph.run_dir / "episodes" / "episode_000001")
    assert told.uri.endswith("episodes/episode_000001")
    episode = graph.payload(1)
    assert episode.sha256 == recorded.to_episode(CONTRACT).sha256
    assert episode.success and episode.steps == 5
    # What was executed is what is learned from, not what was proposed.
    done = np.array(executed(1, 2).action_norm)
    np.testing.assert_array_equal(episode.action[2], done)
    assert not np.array_equal(done, np.array(step(1, 2).action_norm))


def test_bytes_that_are_no_message_are_dropped(graph):
    """Bug: whoever published a few bytes on a recorded topic ended the recorder."""
    joints = graph.probe.create_publisher(JointState, "joint_states", 100)
    assert graph.ros.connected(graph.probe, "joint_states")
    sound = serialize_message(step(1, 0))
    for out in (graph.steps, graph.answers, joints):
        for data in (b"\0\1\0\0", sound[:13], b"\0\1\0\0" + b"\xff" * 40):
            out.publish(data)
    graph.play(1, 3)
    graph.end(1, 2)
    assert (graph.hear(1).steps, graph.recorded[0].complete) == (3, True)


def test_sensors_and_presses_go_into_the_bag(graph):
    """They are what makes a bag playable; without them only the policies' own words were kept."""
    joints = graph.probe.create_publisher(JointState, "joint_states", 100)
    presses = graph.probe.create_publisher(ours.OperatorEvent, "operator_event", 100)
    assert graph.ros.connected(graph.probe, "joint_states", "operator_event")
    for number in range(7):  # the last one lies after the episode
        stamp_ns = (1000 + number) * T
        names = CONTRACT.joint_names
        joints.publish(c.joint_state_to_msg(stamp_ns, names, np.full(29, number), np.zeros(29)))
    presses.publish(ours.OperatorEvent(header=c.header(1005 * T), kind=2, source="oracle"))
    assert graph.ros.spin_until(lambda: len(graph.node._sensors._kept["operator_event"]) == 1)
    assert graph.ros.spin_until(lambda: len(graph.node._sensors._kept["joint_states"]) == 7)
    graph.play(1, 5)
    graph.end(1, 4)
    graph.hear(1)
    recording = read_recording(graph.run_dir / "episodes" / "episode_000001")
    stamps = [stamp for stamp, _ in recording.sensors["joint_states"]]
    assert stamps == [(1000 + number) * T for number in range(6)]
    assert [press.kind for press in recording.presses] == [2]
    message = deserialize_message(recording.sensor_set(3)["joint_states"], JointState)
    assert c.stamp_from_msg(message.header.stamp) == 1003 * T and message.position[0] == 3.0
    moved = deserialize_message(recording.sensor_set(3, 7 * T)["joint_states"], JointState)
    assert c.stamp_from_msg(moved.header.stamp) == 7 * T and moved.position == message.position


def test_a_late_press_cuts_and_the_next_observation_is_the_last(graph):
    graph.play(1, 6, last=False)
    assert graph.ros.spin_until(lambda: len(graph.node._assembler._steps.get(1, ())) == 6)
    graph.end(1, 2)
    told = graph.hear(1)
    assert (told.steps, told.dropped) == (3, 3)
    episode = graph.payload(1)
    np.testing.assert_array_equal(episode.observation[3], np.array(step(1, 3).observation))
    np.testing.assert_array_equal(episode.reward, [0, 0, 1])


def test_a_gap_is_asked_for_once_and_filled(graph):
    graph.kept = [step(1, 1)]
    graph.play(1, 4, without=[1])
    graph.end(1, 3)
    assert (graph.hear(1).steps, graph.recorded[0].complete) == (4, True)
    assert graph.asked == [[1]]


def test_a_gap_that_stays_is_said_and_the_verdict_does_not_move(graph):
    graph.play(1, 4, without=[2])
    graph.end(1, 3)
    told = graph.hear(1)
    assert (told.steps, told.complete, told.reward, told.terminated) == (1, False, 0.0, False)
    assert told.ended_by == EndedBy.ABORTED
    assert "the observation after step 1 never arrived; 3 of 4 steps are left out" in told.reason
    assert not graph.pieces


def test_an_abort_before_the_first_step_leaves_no_bag(graph):
    graph.states.publish(state(Phase.RUNNING, 1))
    graph.end(1, -1, ended_by=EndedBy.ABORTED, reward=0.0, terminated=False, truncated=True)
    told = graph.hear(1)
    assert (told.uri, told.steps, told.complete, told.reason) == ("", 0, False, "no complete step")


def test_a_corrected_verdict_is_one_more_line_and_the_episode_is_sent_again(graph):
    graph.play(1, 5)
    graph.end(1, 4)
    graph.hear(1)
    graph.end(1, 4, ended_by=EndedBy.FAILURE, reward=0.0, revision=1, reason="corrected")
    told = graph.hear(2)
    assert (told.revision, told.reward, told.ended_by) == (1, 0.0, EndedBy.FAILURE)
    assert not graph.payload(1, revision=1).success
    assert len((graph.run_dir / "verdicts.jsonl").read_text().splitlines()) == 1
    # The next episode is not disturbed by it.
    graph.states.publish(state(Phase.RESETTING, 2))
    graph.play(2, 3)
    graph.end(2, 2)
    assert graph.hear(3).episode == 2


def test_a_correction_that_comes_while_the_bag_is_written_is_kept(graph, monkeypatch):
    """Between closing and the bag's final name a correction belonged to nobody and was lost."""
    go, close = threading.Event(), recorder_node.close_episode
    monkeypatch.setattr(recorder_node, "close_episode", lambda *a: go.wait(5) and close(*a))
    graph.play(1, 3)
    graph.end(1, 2)
    assert graph.ros.spin_until(lambda: graph.node._closing == 1)
    graph.end(1, 2, ended_by=EndedBy.FAILURE, reward=0.0, revision=1, reason="corrected")
    assert graph.ros.spin_until(lambda: graph.node._disk._worker._work_queue.qsize())
    go.set()
    assert (graph.hear(2).revision, graph.recorded[1].reward) == (1, 0.0)


def test_a_closed_episode_is_sent_again_when_asked_for(graph):
    graph.play(1, 3)
    graph.end(1, 2)
    graph.hear(1)
    client = graph.probe.create_client(GetEpisode, "recorder/get_episode")
    assert graph.ros.spin_until(client.service_is_ready)
    for number, good in ((1, True), (7, False)):
        future = client.call_async(GetEpisode.Request(episode=number))
        assert graph.ros.spin_until(future.done)
        assert future.result().success is good
    assert "episode 7 left no bag" in future.result().message
    assert graph.hear(2).episode == 1
    assert len(graph.pieces) == 2


def test_a_restart_after_the_end_announces_what_is_on_disk(graph):
    graph.play(1, 3)
    graph.end(1, 2)
    graph.hear(1)
    graph.ros.stop(graph.node)
    graph.start()
    assert (graph.hear(2).episode, graph.recorded[1].bag_sha256) == (
        1, graph.recorded[0].bag_sha256,
    )  # fmt: skip


def test_a_restart_within_an_episode_asks_for_abort(graph):
    graph.ros.stop(graph.node)
    graph.states.publish(state(Phase.RUNNING, 3))
    graph.start()
    graph.steps.publish(step(3, 5))
    assert graph.ros.spin_until(lambda: graph.events)
    assert (graph.events[0].source, graph.events[0].episode) == ("recorder", 3)


def test_a_full_disk_is_said_and_the_episode_is_closed_when_there_is_room(graph, monkeypatch):
    """The episode stays in memory, nothing half written is left, and nothing is lost."""
    room = [1000]
    monkeypatch.setattr(
        closing.shutil, "disk_usage", lambda _: SimpleNamespace(free=room[0], total=0, used=0)
    )
    monkeypatch.setattr(graph.node._disk, "_retry_s", 0.05)
    graph.play(1, 5)
    graph.end(1, 4)
    told = graph.hear(2)
    assert (told.episode, told.pending, told.complete, told.uri) == (1, True, False, "")
    assert "0.0 MB are free" in told.reason and "100.0 MB kept free" in told.reason
    assert list((graph.run_dir / "episodes").iterdir()) == []
    room[0] = 10**12
    assert graph.ros.spin_until(lambda: not graph.recorded[-1].pending)
    told = graph.recorded[-1]
    assert (told.episode, told.steps, told.complete, told.revision) == (1, 5, True, 0)
    assert graph.payload(1).steps == 5


def test_who_asks_again_is_told_again(graph):
    """A manager that was started anew ends the episode it finds open, which is closed already."""
    graph.play(1, 5)
    graph.end(1, 4)
    graph.hear(1)
    graph.states.publish(
        state(Phase.ENDED, 1, mode=Mode.TRAIN, ended_by=EndedBy.ABORTED, truncated=True)
    )
    told = graph.hear(2)
    assert (told.episode, told.ended_by, told.steps) == (1, EndedBy.SUCCESS, 5)


def test_who_did_not_hear_of_an_episode_without_a_bag_is_told_again(graph):
    """Bug: a manager started anew waited for a word on it that was said once and never again."""
    aborted = {"ended_by": EndedBy.ABORTED, "reward": 0.0, "terminated": False, "truncated": True}
    graph.states.publish(state(Phase.RUNNING, 1))
    for count in (1, 2):
        graph.end(1, -1, **aborted)
        told = graph.hear(count)
        assert (told.episode, told.uri, told.complete) == (1, "", False)


def test_a_bag_holds_the_states_of_its_own_episode(graph):
    """Bug: RESETTING of a manager just started anew was not heard; the states before it stayed."""
    for episode in (1, 2):
        graph.play(episode, 3)
        graph.end(episode, 2)
        graph.hear(episode)
    with Reader(graph.run_dir / "episodes/episode_000002/episode_000002.mcap") as reader:
        episodes = [
            deserialize_message(data, ours.EpisodeState).episode
            for connection, _, data in reader.messages()
            if topic_of(connection.topic) == "episode_state"
        ]
    assert episodes == [2, 2]


def test_weights_of_a_learner_elsewhere_are_kept(ros, tmp_path):
    """With the learner on another machine a restarted residual would find none here."""
    ros.add(RecorderNode, {**SITE, "run_dir": str(tmp_path), "store_weights": True})
    out = ros.probe().create_publisher(ours.PolicyWeights, "policy_weights", qos.LATCHED)
    data = b"weights"

    def publish(version, **changed):
        sound = {
            "data": data, "sha256": hashlib.sha256(data).hexdigest(),
            "contract_sha256": CONTRACT.sha256,
        }  # fmt: skip
        out.publish(ours.PolicyWeights(version=version, **{**sound, **changed}))

    assert ros.spin_until(lambda: out.get_subscription_count())
    publish(1, sha256="0" * 64)
    publish(2, contract_sha256="0" * 64)
    publish(3)
    assert ros.spin_until(lambda: newest_version(tmp_path) == 3)
    assert newest_weights(tmp_path) == (3, data)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [
        weights_path(tmp_path, 3).name
    ]


def test_it_appears_only_when_steps_and_answers_reach_it(ros, tmp_path):
    """Else the manager begins an episode whose first answer the driver sends to nobody."""
    probe = ros.probe()
    probe.create_publisher(ours.Step, "step", 400)
    heard = probe.create_subscription(ours.EpisodeRecorded, "episode_recorded", print, 100)
    node = ros.add(RecorderNode, {**SITE, "run_dir": str(tmp_path / "run")})
    assert ros.spin_until(lambda: node.count_publishers("step"))
    assert not ros.spin_until(lambda: probe.count_publishers(heard.topic_name), timeout_s=1.0)
    probe.create_publisher(ours.ExecutedCommand, "executed_command", 400)
    assert ros.spin_until(lambda: probe.count_publishers(heard.topic_name))
