"""The recorder's ears for sensors: raw subscriptions that feed a `SensorLog`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseArray, WrenchStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from resfit_core.contract import Contract
from resfit_core.data.sensor_log import EVENTS, LEVELS, NUMBERS, SensorLog, sensor_topics
from resfit_interfaces.msg import OperatorEvent
from resfit_ros import conversions, peek, qos
from resfit_ros.parameters import declare

MESSAGE_TYPES = {
    "sensor_msgs/msg/JointState": JointState,
    "sensor_msgs/msg/Image": Image,
    "geometry_msgs/msg/WrenchStamped": WrenchStamped,
    "geometry_msgs/msg/PoseArray": PoseArray,
    "resfit_interfaces/msg/OperatorEvent": OperatorEvent,
}


def record_sensors(node: Node, contract: Contract) -> SensorLog:
    """Declare the node's parameters for it, subscribe, and return what fills up from now on."""
    level = declare(
        node, "record", NUMBERS, "what of the sensors goes into the bags: none, numbers (joints, "
        "wrenches, poses, presses), or cameras (full images as well)", choices=LEVELS,
    )  # fmt: skip
    clock = declare(
        node, "clock", "lockstep", "lockstep: sensors are reliable; realtime: best effort",
        choices=("lockstep", "realtime"),
    )  # fmt: skip
    most = declare(
        node, "record_most_mb", 1024, "most memory of an open episode's sensors; images beyond "
        "it are left out [MB]", range=(1, None),
    )  # fmt: skip
    log = SensorLog(sensor_topics(contract, level), most << 20)
    for topic, name in log.topics.items():
        profile = qos.reliable(100) if topic == EVENTS else qos.sensor(clock, depth=100)
        node.create_subscription(
            MESSAGE_TYPES[name], topic, _into(node, log, topic), profile, raw=True
        )
    return log


def _into(node: Node, log: SensorLog, topic: str) -> Callable[[Any], None]:
    def take(data: bytes) -> None:
        try:
            stamp_ns = peek.header_stamp(data)
        except conversions.ConversionError as error:
            node.get_logger().error(f"{topic} dropped: {error}", throttle_duration_sec=1.0)
            return
        log.add(topic, stamp_ns, data)

    return take
