"""The camera node over DDS: streams as zed-ros2-wrapper's, faults that end episodes, its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed ('make setup' installs it)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_vega_driver.camera.source import Calibration, CameraError, Pinhole, StereoFrame
from resfit_vega_driver.zed_camera_node import ZedCameraNode

CONFIG = Path(__file__).parents[3] / "config"
FILES = {
    "robot_file": str(CONFIG / "robot/vega_1.yaml"),
    "task_file": str(CONFIG / "task/woolly_ball_pnp.yaml"),
}
IMAGES = {eye: f"zed/zed_node/{eye}/color/rect/image" for eye in ("left", "right")}


class FakeZed:
    """A live camera of 60 frames/s until the test says otherwise."""

    name, rate_hz = "fake ZED", 60.0

    def __init__(self):
        self.value, self.live, self.error, self.closed = 0, True, None, False

    def open(self):
        if self.error:
            raise self.error
        eye = Pinhole(900.0, 900.0, 639.5, 359.5)
        return Calibration(1280, 720, (eye, eye), 0.12)

    def grab(self):
        time.sleep(1 / self.rate_hz)
        if self.error:
            raise self.error
        self.value = (self.value + self.live) % 200
        left = np.full((720, 1280, 3), (self.value, 7, 9), np.uint8)
        return StereoFrame(time.time_ns(), (left, left + 1))

    def close(self):
        self.closed = True


class Bench:
    def __init__(self, ros, monkeypatch, **parameters):
        self.zed, self.ros, self.probe = FakeZed(), ros, ros.probe()
        monkeypatch.setattr("resfit_vega_driver.zed_camera_node.make_source", lambda *_: self.zed)
        self.images = {eye: [] for eye in IMAGES}
        self.infos, self.health, self.events = [], [], []
        self.keep = [
            self.probe.create_subscription(Image, IMAGES[eye], self.images[eye].append, 10)
            for eye in IMAGES
        ]
        for eye in IMAGES:
            for topic in (
                f"zed/zed_node/{eye}/color/rect/camera_info",
                f"{IMAGES[eye]}/camera_info",
            ):
                self.keep.append(
                    self.probe.create_subscription(CameraInfo, topic, self.infos.append, 10)
                )
        self.keep += [
            self.probe.create_subscription(
                DiagnosticArray, "/diagnostics", self.health.append, 10
            ),
            self.probe.create_subscription(
                ours.OperatorEvent, "operator_event", self.events.append, qos.reliable(100)
            ),
        ]
        self.state = self.probe.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self.node = ros.add(ZedCameraNode, {**FILES, **parameters})

    def episode(self, number, phase=Phase.RUNNING):
        record = EpisodeState(
            phase=phase, episode=number, mode=Mode.TRAIN, run_id="test", use_residual=True,
            start_ns=1, reason="", stamp_ns=1,
        )  # fmt: skip
        self.state.publish(conversions.episode_state_to_msg(record))

    def sees(self, count):
        return self.ros.spin_until(lambda: all(len(self.images[eye]) >= count for eye in IMAGES))


@pytest.fixture(name="bench")
def _bench(ros, monkeypatch):
    return Bench(ros, monkeypatch)


def test_images_and_calibration_are_those_of_zed_ros2_wrapper(bench):
    assert bench.sees(3)
    assert bench.ros.spin_until(lambda: len(bench.infos) >= 8)
    for eye, more in (("left", 0), ("right", 1)):
        image = bench.images[eye][0]
        assert (image.width, image.height, image.step) == (640, 360, 2560)
        assert image.encoding == "bgra8"
        assert image.header.frame_id == f"zed_{eye}_camera_frame_optical"
        rgb = conversions.image_from_msg(image)
        assert list(rgb[9, 9, :2]) == [9 + more, 7 + more]
    left, right = (
        next(i for i in bench.infos if i.header.frame_id == f"zed_{eye}_camera_frame_optical")
        for eye in IMAGES
    )
    assert (left.width, left.height, left.k[0], left.k[2]) == (640, 360, 450.0, 319.5)
    assert (left.p[3], right.p[3]) == (0.0, pytest.approx(-450 * 0.12))
    stamps = {
        eye: {conversions.stamp_from_msg(i.header.stamp) for i in bench.images[eye]}
        for eye in IMAGES
    }
    assert stamps["left"] & stamps["right"]  # both eyes carry the one capture time
    for topic in IMAGES.values():
        (offered,) = bench.probe.get_publishers_info_by_topic(topic)
        assert offered.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def test_health_is_counted_in_diagnostics(bench):
    assert bench.ros.spin_until(
        lambda: any(float(_values(m)["published"]) > 5 for m in bench.health)
    )
    status = bench.health[-1].status[0]
    assert (status.name, status.hardware_id) == ("zed_camera: frames", "fake ZED")
    assert set(_values(bench.health[-1])) >= {"captured", "published", "dropped", "late", "age_ms"}


def _values(msg):
    return {v.key: v.value for v in msg.status[0].values}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("freeze", "camera 'left' is frozen"),
        ("break", "the cable is out"),
    ],
)
def test_a_camera_that_cannot_be_believed_ends_the_episode_with_its_reason(bench, fault, says):
    bench.episode(4)
    assert bench.sees(3)
    assert not bench.events
    if fault == "freeze":
        bench.zed.live = False
    else:
        bench.zed.error = CameraError("the cable is out")
    assert bench.ros.spin_until(lambda: len(bench.events) >= 2)  # said until it is heard
    event = bench.events[0]
    assert (event.kind, event.episode, event.source) == (event.ABORT, 4, "zed_camera")
    assert says in event.reason
    # While it cannot be believed no image leaves: the base drops its ticks, the driver holds.
    bench.ros.spin_until(lambda: bench.health[-1].status[0].level == DiagnosticStatus.ERROR)
    assert says in bench.health[-1].status[0].message
    seen = len(bench.images["left"])
    bench.episode(4, Phase.ENDED)
    bench.ros.spin_until(lambda: bench.node._state.phase == Phase.ENDED)
    bench.ros.spin_until(lambda: False, timeout_s=0.3)
    assert len(bench.images["left"]) <= seen + 1
    asked = len(bench.events)
    bench.ros.spin_until(lambda: False, timeout_s=0.3)
    assert len(bench.events) == asked  # nobody is asked to end what has ended
    bench.zed.live, bench.zed.error = True, None
    assert bench.sees(seen + 5)
    bench.episode(5)
    assert bench.ros.spin_until(lambda: bench.node._state.episode == 5)
    bench.ros.spin_until(lambda: False, timeout_s=0.3)
    assert len(bench.events) == asked


def test_lifecycle_configure_says_why_and_may_be_tried_again(ros, monkeypatch):
    bench = Bench(ros, monkeypatch, autostart=False)
    bench.zed.error = CameraError("no ZED on this port")
    change = bench.probe.create_client(ChangeState, "zed_camera/change_state")
    ask = bench.probe.create_client(GetState, "zed_camera/get_state")
    assert ros.spin_until(change.service_is_ready) and ros.spin_until(ask.service_is_ready)

    def go(transition):
        future = change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert ros.spin_until(future.done)
        state = ask.call_async(GetState.Request())
        assert ros.spin_until(state.done)
        return state.result().current_state.id

    assert go(Transition.TRANSITION_CONFIGURE) == State.PRIMARY_STATE_UNCONFIGURED
    assert "no ZED on this port" in str(bench.node._error)
    assert bench.probe.count_publishers(IMAGES["left"]) == 0  # half-built is torn down
    bench.zed.error = None
    assert go(Transition.TRANSITION_CONFIGURE) == State.PRIMARY_STATE_INACTIVE
    ros.spin_until(lambda: False, timeout_s=0.2)
    assert not bench.images["left"]  # configured is not active
    assert go(Transition.TRANSITION_ACTIVATE) == State.PRIMARY_STATE_ACTIVE
    assert bench.sees(2)
    assert go(Transition.TRANSITION_DEACTIVATE) == State.PRIMARY_STATE_INACTIVE
    ros.spin_until(lambda: False, timeout_s=0.2)
    seen = len(bench.images["left"])
    ros.spin_until(lambda: False, timeout_s=0.2)
    assert len(bench.images["left"]) == seen
    assert go(Transition.TRANSITION_CLEANUP) == State.PRIMARY_STATE_UNCONFIGURED
    assert bench.zed.closed


def _process(domain_id, *words):
    command = [sys.executable, "-m", "resfit_vega_driver.zed_camera_node", "--ros-args"]
    for key, value in FILES.items():
        command += ["-p", f"{key}:={value}"]
    for word in words:
        command += ["-p", word]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_clean_on_a_signal(ros, tmp_path, number):
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((360, 1280, 3), 10 * k, np.uint8))
    probe, images = ros.probe(), []
    keep = probe.create_subscription(Image, IMAGES["left"], images.append, 10)
    process = _process(ros.domain_id, "source:=file", f"file:={tmp_path}")
    try:
        assert ros.spin_until(lambda: len(images) > 3, timeout_s=30), process.poll()
        process.send_signal(number)
        words, _ = process.communicate(timeout=20)
        assert process.returncode == 0, words
        assert "Traceback" not in words
    finally:
        process.kill()
        process.wait()
    assert keep is not None


def test_a_process_without_the_sdk_refuses_in_one_line(ros):
    process = _process(ros.domain_id, "source:=sdk")
    words, _ = process.communicate(timeout=60)
    if process.returncode == 1 and "does not open" in words:
        pytest.skip("the ZED SDK is installed here")
    assert process.returncode == 2, words  # the front end ends the run instead of trying again
    assert "pyzed.sl" in words and "ZED SDK" in words and "Traceback" not in words
