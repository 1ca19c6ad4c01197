"""One OyMotion hand behind the vendor's own ROS 2 node: JointState in degrees, both ways."""

from __future__ import annotations

import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from resfit_ros import qos
from resfit_vega_driver.client import ClientError
from resfit_vega_driver.hands import JOINTS, HandTable


class TopicHand:
    """As `ModbusHand`, by topics `<name>/target_joint_states` and `<name>/current_joint_states`.

    The executor of the node that owns it hears the angles; nothing here waits for them.
    """

    asks = False

    def __init__(self, node: Node, name: str, table: HandTable, max_age_s: float = 0.2) -> None:
        """Prepare; nothing is opened before `open`.

        Args:
            node: Owns the topics.
            name: Of the vendor's node, with its namespace; its topics lie below.
            table: Calibration of this very hand.
            max_age_s: Angles heard longer ago are not believed [s].
        """
        self._node, self._name, self._table = node, name.rstrip("/"), table
        self._max_age_s = max_age_s
        self._degree: np.ndarray | None = None
        self._heard_s = 0.0
        self._entities: tuple = ()

    def open(self) -> None:
        """Open the topics."""
        quality = qos.reliable(10)
        heard = self._node.create_subscription(
            JointState, f"{self._name}/current_joint_states", self._on_state, quality
        )
        out = self._node.create_publisher(JointState, f"{self._name}/target_joint_states", quality)
        self._entities = (heard, out)

    def read(self) -> np.ndarray:
        """Return joint positions [rad], `JOINTS` order. Shape: (6,).

        Raises:
            ClientError: None came, or none for too long.
        """
        if self._degree is None:
            raise ClientError(
                f"hand {self._name}: nothing on {self._name}/current_joint_states; is the "
                "vendor's node running, under this name?"
            )
        age_s = time.monotonic() - self._heard_s
        if age_s > self._max_age_s:
            raise ClientError(f"hand {self._name}: silent for {age_s:.2f} s")
        return self._table.to_rad(self._degree)

    def write(self, rad: np.ndarray) -> None:
        """Set all six targets [rad] in one message. Shape: (6,).

        Raises:
            ClientError: A target is not finite, or the topics are not open.
        """
        target = np.asarray(rad, np.float64)
        if target.shape != (len(JOINTS),) or not np.isfinite(target).all():
            raise ClientError(f"hand {self._name}: target {rad!r}, six finite numbers are needed")
        if not self._entities:
            raise ClientError(f"hand {self._name} is not open")
        msg = JointState(name=list(JOINTS), position=self._table.to_degree(target).tolist())
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._entities[1].publish(msg)

    def close(self) -> None:
        """Close the topics; called with partial state too."""
        entities, self._entities = self._entities, ()
        if entities:
            self._node.destroy_subscription(entities[0])
            self._node.destroy_publisher(entities[1])
        self._degree = None

    def _on_state(self, msg: JointState) -> None:
        degree = np.array(msg.position, np.float64)
        if degree.shape != (len(JOINTS),) or not np.isfinite(degree).all():
            self._node.get_logger().error(
                f"hand {self._name}: angles {msg.position} dropped, six finite degrees are needed",
                throttle_duration_sec=5.0,
            )
            return
        self._degree, self._heard_s = degree, time.monotonic()
