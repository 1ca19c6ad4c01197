"""The episode manager node against a fake twin, driver and recorder, over DDS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from resfit_interfaces.msg import (
    DriverState,
    EpisodeRecorded,
    EpisodeState,
    ExecutedCommand,
    LearnerStatus,
    OperatorEvent,
    PolicyStep,
    Step,
)
from resfit_interfaces.srv import ResetScene
from resfit_reward.episode_manager_node import EpisodeManagerNode
from resfit_ros import conversions, qos
from resfit_ros.testing import domain

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
T = 50_000_000


class World:
    """Everybody around the manager: each episode succeeds after three steps."""

    def __init__(self, ros):
        self.probe = node = ros.probe("world")
        self.states, self.resets = [], []
        self.now = 0
        node.create_subscription(EpisodeState, "episode_state", self.on_state, qos.LATCHED_IN)
        node.create_service(ResetScene, "twin/reset_scene", self.on_reset)
        self.executed = node.create_publisher(
            ExecutedCommand, "executed_command", qos.reliable(400)
        )
        self.events = node.create_publisher(OperatorEvent, "operator_event", qos.reliable(100))
        self.recorded = node.create_publisher(
            EpisodeRecorded, "episode_recorded", qos.reliable(100)
        )
        self.policies = [
            node.create_publisher(kind, topic, qos.reliable(10))
            for kind, topic in ((PolicyStep, "policy_step"), (Step, "step"))
        ]
        self.learner = node.create_publisher(LearnerStatus, "learner_status", qos.LATCHED)

    def on_reset(self, request, response):
        self.resets.append((request.episode, request.seed))
        self.now += 1_000_000_000
        response.success = True
        response.first_stamp = conversions.stamp_to_msg(self.now)
        return response

    def on_state(self, state):
        self.states.append(state)
        if state.phase == EpisodeState.RUNNING:
            start = conversions.stamp_from_msg(state.start_stamp)
            for k in range(3):
                self.executed.publish(ExecutedCommand(header=conversions.header(start + k * T)))
            self.events.publish(
                OperatorEvent(
                    header=conversions.header(start + 3 * T),
                    kind=OperatorEvent.SUCCESS,
                    source="oracle",
                    episode=state.episode,
                )
            )
        elif state.phase == EpisodeState.ENDED:
            self.recorded.publish(
                EpisodeRecorded(
                    run_id=state.run_id,
                    episode=state.episode,
                    steps=state.credited_step + 1,
                    weights_version=7,
                    uri="somewhere",
                    complete=True,
                )
            )

    @property
    def last(self):
        """The newest state; before the first one came, IDLE."""
        return self.states[-1] if self.states else EpisodeState()

    def phases(self):
        return [(s.phase, s.episode) for s in self.states]


def test_two_episodes_from_start_to_finish(ros, tmp_path):
    world = World(ros)
    run_dir = tmp_path / "a_run"
    plan = {"episodes": 2, "seed": 1, "wait_for_learner": False}
    ros.add(EpisodeManagerNode, {**FILES, "run_dir": str(run_dir), **plan})
    assert ros.spin_until(lambda: (EpisodeState.FINISHED, 2) in world.phases())
    assert world.resets == [(1, 20_000_000), (2, 20_000_001)]
    ended = [s for s in world.states if s.phase == EpisodeState.ENDED]
    assert [(s.credited_step, s.reward, s.run_id) for s in ended] == [(2, 1.0, "a_run")] * 2
    lines = [json.loads(x) for x in (run_dir / "episodes.jsonl").read_text().splitlines()]
    assert [(x["episode"], x["success"], x["steps"], x["weights_version"]) for x in lines] == [
        (1, True, 3, 7),
        (2, True, 3, 7),
    ]


def test_run_waits_for_what_the_learner_owes(ros, tmp_path):
    world = World(ros)
    world.learner.publish(LearnerStatus(state=LearnerStatus.TRAINING, updates_owed=10**6))
    manager = ros.add(
        EpisodeManagerNode,
        {**FILES, "run_dir": str(tmp_path), "episodes": 1, "auto_start": False},
    )
    assert ros.connected(world.probe, "learner_status", "operator_event", "episode_state")
    assert ros.spin_until(lambda: manager._manager._budget._news is not None)
    for kind in (OperatorEvent.START, OperatorEvent.RESET_DONE):
        world.events.publish(OperatorEvent(kind=kind, source="keyboard"))
        assert ros.spin_until(lambda: world.last.phase != EpisodeState.IDLE)
    assert ros.spin_until(lambda: "updates" in world.last.reason)
    assert world.last.phase == EpisodeState.READY
    world.learner.publish(LearnerStatus(state=LearnerStatus.WAITING))
    assert ros.spin_until(lambda: "takes in episode 1" in world.last.reason)
    assert world.last.phase == EpisodeState.IDLE
    world.learner.publish(LearnerStatus(state=LearnerStatus.SAVED, last_episode=1))
    assert ros.spin_until(lambda: world.last.phase == EpisodeState.FINISHED)


def test_confirmed_scene_waits_for_the_robot_at_its_start_pose(ros, tmp_path):
    """RESET_DONE while the arms are still on their way: the episode begins once they stand."""
    world = World(ros)
    driver = world.probe.create_publisher(DriverState, "driver_state", qos.reliable(10))
    plan = {"episodes": 1, "wait_for_learner": False, "auto_reset": True}
    ros.add(EpisodeManagerNode, {**FILES, "run_dir": str(tmp_path), **plan})
    assert ros.connected(world.probe, "driver_state", "episode_state")
    assert ros.spin_until(lambda: "the robot at its start pose" in world.last.reason)
    assert (world.last.phase, world.last.episode) == (EpisodeState.READY, 1)
    # Where it stood for another episode counts for nothing.
    driver.publish(DriverState(start_pose_episode=7))
    ros.spin_until(lambda: False, 0.2)
    assert world.last.phase == EpisodeState.READY
    driver.publish(DriverState(start_pose_episode=1))
    assert ros.spin_until(lambda: world.last.phase == EpisodeState.FINISHED)


def test_no_episode_without_the_recorder(ros, tmp_path):
    world = World(ros)
    world.probe.destroy_publisher(world.recorded)
    alone = {"episodes": 1, "wait_for_learner": False}
    ros.add(EpisodeManagerNode, {**FILES, "run_dir": str(tmp_path), **alone})
    assert ros.spin_until(lambda: world.last.phase == EpisodeState.READY)
    assert ros.spin_until(lambda: world.last.reason == "waits for: recorder")
    world.recorded = world.probe.create_publisher(
        EpisodeRecorded, "episode_recorded", qos.reliable(100)
    )
    assert ros.spin_until(lambda: world.last.phase == EpisodeState.FINISHED)


def run_manager(tmp_path, **parameters):
    words = [w for k, v in parameters.items() for w in ("-p", f"{k}:={v}")]
    with domain() as number:
        return subprocess.run(
            [sys.executable, "-m", "resfit_reward.episode_manager_node", "--ros-args", *words],
            env={
                **os.environ,
                "ROS_DOMAIN_ID": str(number),
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def test_process_leaves_with_0_after_the_last_episode(tmp_path):
    done = run_manager(tmp_path, **FILES, run_dir=tmp_path)
    assert done.returncode == 0, done.stderr


def test_process_refuses_a_wrong_number_in_one_line(tmp_path):
    done = run_manager(tmp_path, **FILES, run_dir=tmp_path, episodes=-3)
    assert done.returncode == 2
    assert "episodes" in done.stderr
    assert "-3" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
