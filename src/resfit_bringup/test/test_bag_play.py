"""The golden bag on the topics, as `ros2 bag play` shows it: every message arrives, byte for byte.

The tests with `ros2 bag play` itself need `ros2bag`, which a ROS install has and PyPI has not. The
other one does what that player does: the recorded bytes, on the recorded names and types, with the
recorded QoS, taken from `metadata.yaml`.
"""

import collections
import importlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.replay

for module in ("rclpy", "rosbags"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rosbags.rosbag2 import Reader

from resfit_ros.testing import graph

BAG = Path(__file__).parent / "golden" / "episodes" / "episode_000006"
ALL = ()
FOR_POLICIES = (
    "joint_states", "left_wrist/wrench", "right_wrist/wrench", "object_poses", "episode_state",
)  # fmt: skip


def recorded():
    """Return topic -> (message class, QoS as offered), and topic -> the bytes in order."""
    facts = yaml.safe_load((BAG / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    topics = {}
    for entry in facts["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        package, _, name = topic["type"].split("/")
        kind = getattr(importlib.import_module(f"{package}.msg"), name)
        topics[topic["name"]] = (kind, profile(topic["offered_qos_profiles"][0]))
    data = collections.defaultdict(list)
    with Reader(BAG) as reader:
        for connection, _, raw in reader.messages():
            data[connection.topic].append(bytes(raw))
    assert {t: len(d) for t, d in data.items()} == {
        e["topic_metadata"]["name"]: e["message_count"]
        for e in facts["topics_with_message_count"] if e["message_count"]
    }  # fmt: skip
    return topics, data


def profile(offered):
    def duration(value):
        return Duration(nanoseconds=value["sec"] * 10**9 + value["nsec"])

    return QoSProfile(
        history=HistoryPolicy[offered["history"].upper()],
        depth=offered["depth"],
        reliability=ReliabilityPolicy[offered["reliability"].upper()],
        durability=DurabilityPolicy[offered["durability"].upper()],
        deadline=duration(offered["deadline"]),
        lifespan=duration(offered["lifespan"]),
        liveliness=LivelinessPolicy[offered["liveliness"].upper()],
        liveliness_lease_duration=duration(offered["liveliness_lease_duration"]),
        avoid_ros_namespace_conventions=offered["avoid_ros_namespace_conventions"],
    )


def listen(node, topics):
    """Subscribe to all topics; return topic -> the bytes that come."""
    heard = collections.defaultdict(list)
    for topic, (kind, _) in topics.items():
        reliable = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        node.create_subscription(kind, topic, heard[topic].append, reliable, raw=True)
    return heard


def filled(raw):
    """Return a message as another process gets it: DDS fills its last word with zeros."""
    return raw + b"\0" * (-len(raw) % 4)


def test_every_message_arrives_byte_for_byte():
    topics, data = recorded()
    with graph() as ros:
        heard = listen(ros.probe("listener"), topics)
        player = ros.probe("player")
        for topic, (kind, qos) in topics.items():
            publisher = player.create_publisher(kind, topic, qos)
            assert ros.spin_until(publisher.get_subscription_count), topic
            for raw in data[topic]:
                publisher.publish(raw)
            assert ros.spin_until(lambda t=topic: len(heard[t]) >= len(data[t])), topic
    assert {topic: heard[topic] for topic in data} == dict(data)
    assert sum(map(len, data.values())) > 500


@pytest.mark.skipif(
    not (shutil.which("ros2") and importlib.util.find_spec("ros2bag")),
    reason="'ros2 bag' is not installed: it comes with a ROS install, not from PyPI",
)
@pytest.mark.parametrize("topics", [ALL, FOR_POLICIES], ids=["all", "for policies"])
def test_ros2_bag_play_shows_the_same_messages(topics):
    """Bug: names without a slash were in the bag, of which `--topics` found none."""
    types, data = recorded()
    chosen = {f"/{name}" for name in topics} or set(data)
    wanted = {topic: [filled(raw) for raw in data[topic]] for topic in chosen}
    with graph() as ros:
        heard = listen(ros.probe("listener"), types)
        player = subprocess.Popen(
            ["ros2", "bag", "play", str(BAG), "--delay", "3", "--disable-keyboard-controls",
             *(["--topics", *topics] if topics else [])],
            env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain_id),
                 "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert ros.spin_until(lambda: player.poll() is not None, 120)
            ros.spin_until(lambda: all(len(heard[t]) >= len(wanted[t]) for t in wanted))
        finally:
            player.kill()
            player.wait()
    assert player.returncode == 0
    assert {topic: found for topic, found in heard.items() if found} == wanted
