"""The classifier's node over DDS: it presses when sure and asks when unsure."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
torch = pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")

from diagnostic_msgs.msg import DiagnosticStatus

from resfit_core.classifier.net import Classifier, SuccessNet
from resfit_core.contract import load_contract
from resfit_interfaces.msg import EpisodeState, OperatorEvent, PolicyStep
from resfit_reward.success_classifier_node import SuccessClassifierNode
from resfit_ros import conversions, qos

CONFIG = Path(__file__).resolve().parents[3] / "config"
SITE = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
    "observation": "pixels",
}
CONTRACT = load_contract(SITE["robot_file"], SITE["task_file"], SITE["observation"])


def brightness():
    """A classifier whose probability is how light the picture is: 0 dark, .5 grey, 1 white."""
    net = SuccessNet(len(CONTRACT.images), CONTRACT.image_size)
    net.forward = lambda pictures: 12 * (pictures.float().mean((1, 2, 3)) / 255 - 0.45)
    return Classifier(net, CONTRACT.images, CONTRACT.image_size, CONTRACT.sha256)


class Bench:
    def __init__(self, ros, tmp_path, monkeypatch):
        path = tmp_path / "success.safetensors"
        brightness().save(path)
        # The file is read for its checks; what it sees is put in place of what it learned.
        self.node = ros.add(SuccessClassifierNode, {**SITE, "classifier": str(path)})
        self.node._classifier = brightness()
        self.ros, self.events, self.guesses, self.steps = ros, [], [], 0
        probe = ros.probe()
        probe.create_subscription(
            OperatorEvent, "operator_event", self.events.append, qos.reliable(100)
        )
        probe.create_subscription(
            DiagnosticStatus, "success_guess", self.guesses.append, qos.reliable(10)
        )
        self.states = probe.create_publisher(EpisodeState, "episode_state", qos.LATCHED)
        self.ticks = probe.create_publisher(PolicyStep, "policy_step", qos.reliable(10))
        topics = ("operator_event", "success_guess", "episode_state", "policy_step")
        assert ros.connected(probe, *topics)

    def phase(self, phase, episode):
        self.states.publish(EpisodeState(phase=phase, episode=episode))
        wanted = episode if phase == EpisodeState.RUNNING else 0
        assert self.ros.spin_until(lambda: self.node._running == wanted)

    def show(self, episode, *grey):
        for value in grey:
            self.steps += 1
            frame = np.full((CONTRACT.image_size, CONTRACT.image_size, 3), value, np.uint8)
            images = [conversions.image_to_msg(0, frame, "") for _ in CONTRACT.images]
            stamp_ns = self.steps * 50_000_000
            self.ticks.publish(
                PolicyStep(
                    header=conversions.header(stamp_ns),
                    episode=episode, step=self.steps, images=images,
                )
            )  # fmt: skip
            assert self.ros.spin_until(lambda ns=stamp_ns: self.node._seen == ns)


@pytest.fixture
def bench(ros, tmp_path, monkeypatch):
    return Bench(ros, tmp_path, monkeypatch)


def test_sure_presses_success_once_with_the_pictures_stamp(bench):
    bench.phase(EpisodeState.RUNNING, 3)
    bench.show(3, 0, 255, 255, 255)
    assert bench.ros.spin_until(lambda: bench.events)
    (event,) = bench.events
    assert (event.kind, event.source, event.episode) == (OperatorEvent.SUCCESS, "classifier", 3)
    assert conversions.stamp_from_msg(event.header.stamp) == 3 * 50_000_000
    assert bench.guesses == []


def test_unsure_asks_and_takes_the_question_back(bench):
    bench.phase(EpisodeState.RUNNING, 4)
    bench.show(4, 130, 130, 130)
    assert bench.ros.spin_until(lambda: bench.guesses)
    assert bench.guesses[0].message.startswith("thinks success (")
    bench.phase(EpisodeState.ENDED, 4)
    assert bench.ros.spin_until(lambda: len(bench.guesses) == 2)
    assert bench.guesses[1].message == ""
    assert bench.events == []


def test_a_step_without_sense_is_passed_over(bench):
    bench.phase(EpisodeState.RUNNING, 5)
    cut = conversions.image_to_msg(0, np.zeros((8, 8, 3), np.uint8), "")
    cut.data = cut.data[:10]
    for index, images in enumerate(([], [cut] * len(CONTRACT.images))):
        stamp_ns = index + 1
        step = PolicyStep(header=conversions.header(stamp_ns), episode=5, images=images)
        bench.ticks.publish(step)
        assert bench.ros.spin_until(lambda ns=stamp_ns: bench.node._seen == ns)
    bench.show(5, 255, 255, 255)
    assert bench.ros.spin_until(lambda: bench.events)
