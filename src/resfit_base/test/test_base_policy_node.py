"""The base policy's node over DDS: one answer per set, the same one for a set sent again."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from geometry_msgs.msg import PoseArray, WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from resfit_base.base_policy_node import BasePolicyNode
from resfit_base.sensors import observer, streams
from resfit_core.contract import ContractError, load_contract
from resfit_core.control.records import EndedBy, EpisodeState, Phase
from resfit_interfaces import msg as ours
from resfit_ros import conversions as c
from resfit_ros import qos
from resfit_ros.node import REFUSED

CONFIG = pathlib.Path(__file__).parents[3] / "config"
ROBOT, TASK = CONFIG / "robot" / "vega_1.yaml", CONFIG / "task" / "woolly_ball_pnp.yaml"
T = 50_000_000


class Twin:
    """Sends sensor sets and states; hears what the node answers."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        self.contract = load_contract(ROBOT, TASK, "state")
        self.probe = probe = ros.probe("fake_twin")
        self.outs = {
            "joint_states": probe.create_publisher(JointState, "joint_states", 10),
            "object_poses": probe.create_publisher(PoseArray, "object_poses", 10),
        }
        for name in self.contract.wrenches:
            topic = f"{name}/wrench"
            self.outs[topic] = probe.create_publisher(WrenchStamped, topic, 10)
        self.states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.steps, self.events = [], []
        probe.create_subscription(ours.PolicyStep, "policy_step", self.steps.append, 10)
        probe.create_subscription(ours.OperatorEvent, "operator_event", self.events.append, 10)
        self.node = ros.add(
            BasePolicyNode,
            {
                "robot_file": str(ROBOT),
                "task_file": str(TASK),
                "base": "counting_base:make",
                **parameters,
            },
        )
        assert ros.connected(probe, *self.outs, "episode_state", "policy_step", "operator_event")

    def state(self, phase, episode=1, **kw):
        self.states.publish(
            c.episode_state_to_msg(EpisodeState(phase=phase, episode=episode, run_id="r", **kw))
        )

    def sensors(self, stamp_ns, joints=0.0):
        names = self.contract.joint_names
        q = np.full(len(names), joints)
        self.outs["joint_states"].publish(c.joint_state_to_msg(stamp_ns, names, q, q))
        for name in self.contract.wrenches:
            self.outs[f"{name}/wrench"].publish(c.wrench_to_msg(stamp_ns, np.arange(6.0)))
        poses = np.tile([0.5, -0.2, 1.0, 0, 0, 0, 1.0], (2, 1))
        self.outs["object_poses"].publish(c.poses_to_msg(stamp_ns, poses))

    def hear(self, count):
        assert self.ros.spin_until(lambda: len(self.steps) >= count), f"heard {len(self.steps)}"
        return self.steps[-1]


@pytest.fixture(name="twin")
def _twin(ros):
    return Twin(ros)


def test_an_episode_from_first_to_last_observation(twin):
    twin.state(Phase.RESETTING)
    # The first set may overtake RUNNING.
    twin.sensors(10 * T, 0.1)
    twin.state(Phase.RUNNING, start_ns=10 * T)
    first = twin.hear(1)
    assert (first.step, first.is_first, first.is_last, first.chunk_phase) == (0, True, False, 0)
    at = twin.contract.layout
    observation = np.array(first.observation)
    np.testing.assert_allclose(observation[at["joint_position"]], 0.1, rtol=1e-6)
    np.testing.assert_array_equal(observation[at["wrench"]], np.tile(np.arange(6.0), 2))
    assert first.contract_sha256 == twin.contract.sha256 and first.base_sha256 == "b" * 64
    twin.sensors(11 * T)
    assert twin.hear(2).chunk_phase == pytest.approx(0.25)
    # No answer reached the twin: it sends the set again and gets the same bytes.
    twin.sensors(11 * T)
    twin.hear(3)
    assert serialize_message(twin.steps[2]) == serialize_message(twin.steps[1])
    twin.state(Phase.ENDED, ended_by=EndedBy.SUCCESS, credited_step=1, end_ns=12 * T)
    assert twin.ros.spin_until(lambda: twin.node._tick._ended is not None)
    twin.sensors(12 * T)
    last = twin.hear(4)
    assert (last.step, last.is_last, last.chunk_phase) == (2, True, 0.5)
    np.testing.assert_allclose(last.base_action_norm[0], 0.2, rtol=1e-6)
    twin.state(Phase.RESETTING, 2)
    twin.state(Phase.RUNNING, 2, start_ns=20 * T)
    twin.sensors(20 * T)
    assert (twin.hear(5).step, twin.steps[-1].chunk_phase) == (0, 0)


def test_a_base_that_plans_nan_ends_the_run_in_words(ros):
    """Bug: it was started again five times, and the run then ended with another reason."""
    twin = Twin(ros, base="counting_base:make_nan")
    codes = []
    twin.node.on_finish = codes.append
    twin.state(Phase.RUNNING, start_ns=10 * T)
    assert ros.spin_until(lambda: twin.node._tick.episode == 1)
    twin.sensors(10 * T)
    assert ros.spin_until(lambda: codes)
    assert codes == [REFUSED]  # started again it would do the same
    assert "planned nan for joint 3 at step 1" in str(twin.node.failure)
    assert twin.steps == []


def test_coming_up_within_an_episode_asks_for_abort(twin):
    twin.state(Phase.RUNNING, 4, start_ns=10 * T)
    assert twin.ros.spin_until(lambda: twin.node._tick.episode == 4)
    twin.sensors(13 * T)
    assert twin.ros.spin_until(lambda: twin.events)
    event = twin.events[0]
    assert (event.kind, event.source, event.episode) == (event.ABORT, "base_policy", 4)
    assert "running already" in event.reason and not twin.steps


def test_real_time_answers_the_newest_set_and_counts_what_it_lacks(ros):
    twin = Twin(ros, clock="realtime")
    now = twin.node.get_clock().now().nanoseconds
    twin.state(Phase.RESETTING)
    twin.state(Phase.RUNNING, start_ns=now)
    assert twin.ros.spin_until(lambda: twin.node._tick.dropped > 0)  # nothing there: dropped
    assert not twin.steps

    twin.probe.create_timer(0.02, lambda: twin.sensors(twin.node.get_clock().now().nanoseconds))
    twin.hear(2)
    assert [s.step for s in twin.steps[:2]] == [0, 1]


def test_a_missing_joint_is_said_in_words(twin):
    twin.state(Phase.RESETTING)
    twin.state(Phase.RUNNING, start_ns=10 * T)
    assert twin.ros.spin_until(lambda: twin.node._tick.episode == 1)
    names = twin.contract.joint_names[:-1]
    q = np.zeros(len(names))
    twin.sensors(10 * T)
    twin.hear(1)
    twin.outs["joint_states"].publish(c.joint_state_to_msg(11 * T, names, q, q))
    for name in twin.contract.wrenches:
        twin.outs[f"{name}/wrench"].publish(c.wrench_to_msg(11 * T, np.zeros(6)))
    twin.outs["object_poses"].publish(c.poses_to_msg(11 * T, np.zeros((2, 7))))
    with pytest.raises(ValueError, match="joint 'head_j3' is missing"):
        twin.ros.spin_until(lambda: len(twin.steps) > 1, 3.0)


def test_a_base_of_another_contract_refuses_to_start(ros):
    parameters = {"robot_file": str(ROBOT), "task_file": "nowhere.yaml", "base": "x:y"}
    with pytest.raises(ContractError, match=r"'nowhere\.yaml' does not exist"):
        ros.add(BasePolicyNode, parameters)


def test_pixels_become_small_images_and_the_base_gets_the_large_ones():
    contract = load_contract(ROBOT, TASK, "pixels")
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    found = streams(contract, contract.images)
    assert [s.topic for s in found] == [
        "joint_states",
        *(contract.camera(n).topic for n in ("left", "right")),
    ]
    q = np.zeros(contract.action_dim)
    items = {"joint_states": c.joint_state_to_msg(1, contract.joint_names, q, q)}
    items |= {s.topic: c.image_to_msg(1, image) for s in found[1:]}
    seen = observer(contract)(items)
    assert seen.observation.shape == (contract.obs_dim,)
    assert [i.shape for i in seen.images] == [(84, 84, 3)] * 2
    np.testing.assert_array_equal(seen.base_images["right"], image)
