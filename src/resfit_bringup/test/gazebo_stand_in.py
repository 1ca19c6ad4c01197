"""Plays ros_gz_bridge with Gazebo behind it: its topics, a clock from zero, a robot that obeys."""

import importlib
import time
from pathlib import Path

import numpy as np
import rclpy
import yaml
from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

NAMES = ["j1", "j2", "j3", "j4", "j5", "j6", "j7", "gripper"]
START = [0.0, 0.5, 0.0, 1.6, 0.0, 1.0, 0.0, 0.3]
PERIOD_S = 0.01


def message(name):
    """Return the class of `package/msg/Type`."""
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


class StandIn(Node):
    """A robot of eight joints that goes where it is told."""

    def __init__(self):
        super().__init__("parameter_bridge")
        rows = yaml.safe_load(Path(self.declare_parameter("config_file", "").value).read_text())
        self.position, self.target = np.array(START), np.array(START)
        self.out, self.began, self.moved = {}, time.monotonic(), False
        for row in rows:
            topic, kind = row["ros_topic_name"], message(row["ros_type_name"])
            topic = "/clock" if topic == "clock" else topic
            if row["direction"] == "GZ_TO_ROS":
                quality = 10 if topic == "/clock" else qos_profile_sensor_data
                self.out[topic] = (kind, self.create_publisher(kind, topic, quality))
            else:
                self.create_subscription(kind, topic, self.obey, 10)
        self.create_timer(PERIOD_S, self.step)

    def obey(self, msg):
        self.target = np.array(msg.points[0].positions)
        if not self.moved and np.abs(self.target - START).max() > 0.01:
            self.moved = True
            print("moved by joint_command", flush=True)

    def step(self):
        self.position = self.position + np.clip(self.target - self.position, -0.03, 0.03)
        self.position += np.random.normal(0, 1e-6, len(NAMES))
        now = rclpy.time.Time(seconds=time.monotonic() - self.began).to_msg()
        for topic, (kind, publisher) in self.out.items():
            msg = kind()
            if topic == "/clock":
                msg.clock = now
            else:
                msg.header.stamp = now
            if topic == "joint_states":
                msg.name, msg.position = NAMES, self.position.tolist()
                msg.velocity = [0.0] * len(NAMES)
            elif topic == "object_poses":
                msg.poses = [Pose()]
                msg.poses[0].position.x, msg.poses[0].position.z = 0.45, 0.4
            publisher.publish(msg)


rclpy.init()
rclpy.spin(StandIn())
