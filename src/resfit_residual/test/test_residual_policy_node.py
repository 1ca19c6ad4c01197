"""The residual policy's node over DDS."""

import hashlib

import numpy as np
import pytest

pytest.importorskip("resfit_interfaces.msg", reason="our messages are not built: run 'make setup'")
pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from residual_common import BASE_SHA256, CONTRACT, SITE, executed, policy_step, state
from trajectory_msgs.msg import JointTrajectory

from resfit_core.action_space import ActionSpace
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.contract import ContractError
from resfit_core.control.records import Mode, Phase
from resfit_core.learner import Learner
from resfit_interfaces import msg as ours
from resfit_interfaces.srv import GetSteps
from resfit_residual.residual_policy_node import ResidualPolicyNode
from resfit_ros import conversions as c
from resfit_ros import qos


class Graph:
    """Plays base_policy, episode_manager and learner."""

    def __init__(self, ros, **parameters):
        self.ros, probe = ros, ros.probe()
        self.probe = probe
        self.states = probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.ticks = probe.create_publisher(ours.PolicyStep, "policy_step", 10)
        self.weights = probe.create_publisher(ours.PolicyWeights, "policy_weights", qos.LATCHED)
        self.steps, self.commands = [], []
        probe.create_subscription(ours.Step, "step", self.steps.append, 400)
        probe.create_subscription(JointTrajectory, "policy_command", self.commands.append, 10)
        self.node = ros.add(ResidualPolicyNode, {**SITE, "base": "fixed_base:make", **parameters})
        assert ros.connected(
            probe, "episode_state", "policy_step", "policy_weights", "step", "policy_command"
        )

    def answer(self, tick, count):
        self.ticks.publish(tick)
        assert self.ros.spin_until(lambda: len(self.steps) >= count), "no step"
        return self.steps[-1]

    def send(self, data, version, base=BASE_SHA256, sha256=None):
        self.weights.publish(
            ours.PolicyWeights(
                version=version,
                data=data,
                sha256=sha256 or hashlib.sha256(data).hexdigest(),
                contract_sha256=CONTRACT.sha256,
                base_sha256=base,
            )
        )


@pytest.fixture(name="graph")
def _graph(ros):
    return Graph(ros)


def made_weights(version, **settings):
    """Weights of a learner whose actor's last layer is no longer zero."""
    config = TrainConfig(**settings)
    scale = resolve_scale(config.residual_scale, CONTRACT.groups())
    learner = Learner(
        config, CONTRACT.obs_dim, CONTRACT.action_dim, scale, CONTRACT.sha256, BASE_SHA256
    )
    for parameter in learner.algorithm.actor.parameters():
        parameter.data.add_(0.3)
    return learner.weights_bytes(version)


def test_without_weights_the_action_is_the_bases_to_the_bit(graph):
    graph.states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE))
    tick = policy_step(1, 0)
    step = graph.answer(tick, 1)
    assert step.action_norm == tick.base_action_norm and step.observation == tick.observation
    assert (step.weights_version, step.explored, step.base_sha256) == (0, False, BASE_SHA256)
    assert graph.ros.spin_until(lambda: graph.commands)
    stamp, names, rad = c.trajectory_from_msg(graph.commands[0])
    assert stamp == c.stamp_from_msg(tick.header.stamp) and names == CONTRACT.joint_names
    np.testing.assert_allclose(
        rad, ActionSpace.from_limits(CONTRACT).to_rad(np.array(tick.base_action_norm))
    )


def test_the_last_observation_is_passed_on_without_a_command_and_kept(graph):
    graph.states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE))
    graph.answer(policy_step(1, 0), 1)
    last = graph.answer(policy_step(1, 1, is_last=True), 2)
    assert last.is_last and len(last.action_norm) == 0
    client = graph.probe.create_client(GetSteps, "residual_policy/get_steps")
    assert graph.ros.spin_until(client.service_is_ready)
    future = client.call_async(GetSteps.Request(episode=1, steps=[1, 9]))
    assert graph.ros.spin_until(future.done)
    assert future.result().found == [last]
    assert len(graph.commands) == 1


def test_weights_act_and_wrong_ones_are_refused(graph):
    good = made_weights(4)
    graph.send(good, 4)
    assert graph.ros.spin_until(lambda: graph.node._tick._policy.version == 4)
    # Damaged on the way, and of another base: both are refused, the old ones stay.
    graph.send(made_weights(5), 5, sha256="0" * 64)
    graph.send(made_weights(6), 6, base="c" * 64)
    graph.states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE))
    tick = policy_step(1, 0)
    step = graph.answer(tick, 1)
    assert step.weights_version == 4
    assert step.action_norm != tick.base_action_norm


def test_the_last_executed_action_is_seen_and_waited_for(ros, tmp_path):
    (tmp_path / "train.yaml").write_text("observe_last_action: true\n")
    graph = Graph(ros, train_config=str(tmp_path / "train.yaml"))
    told = graph.probe.create_publisher(ours.ExecutedCommand, "executed_command", 10)
    assert ros.connected(graph.probe, "executed_command")
    graph.send(made_weights(4, observe_last_action=True), 4)
    assert ros.spin_until(lambda: graph.node._tick._policy.version == 4)
    graph.states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE))
    graph.answer(policy_step(1, 0), 1)
    graph.ticks.publish(policy_step(1, 1))
    assert ros.spin_until(lambda: graph.node._tick._pending is not None)
    assert len(graph.steps) == 1
    answer = executed(1, 0)
    told.publish(answer)
    assert ros.spin_until(lambda: len(graph.steps) == 2)
    assert np.array_equal(graph.node._tick._policy._executed, answer.action_norm)


def test_the_first_tick_waits_for_required_weights(graph):
    graph.states.publish(state(Phase.RUNNING, mode=Mode.EVALUATE, required_weights_version=2))
    graph.ticks.publish(policy_step(1, 0))
    assert graph.ros.spin_until(lambda: graph.node._tick.waits_for_version == 2)
    assert not graph.steps
    graph.send(made_weights(2), 2)
    assert graph.ros.spin_until(lambda: graph.steps)
    assert graph.steps[0].weights_version == 2


def test_a_base_policy_of_another_base_is_refused_in_words(graph):
    graph.states.publish(state(Phase.RUNNING))
    tick = policy_step(1, 0)
    tick.base_sha256 = "d" * 64
    graph.ticks.publish(tick)
    with pytest.raises(ContractError, match="and base dddddddddddd, this node runs"):
        graph.ros.spin_until(lambda: False, 5.0)
