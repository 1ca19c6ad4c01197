"""What the sensors said, kept as serialized messages until the episode's bag takes it.

A bag then holds what the policies were given, not only what they made of it: it can be played
through the live nodes (docs/data.md). Payloads are opaque here. No ROS.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from resfit_core.contract import Contract

NONE, NUMBERS, CAMERAS = "none", "numbers", "cameras"
LEVELS = (NONE, NUMBERS, CAMERAS)
"""What of the sensors goes into a bag: nothing, all numbers, or full camera images as well."""

EVENTS = "operator_event"
JOINTS, OBJECTS = "joint_states", "object_poses"
_IMAGE = "sensor_msgs/msg/Image"
_LEAD_NS = 200_000_000  # a wrench or pose may be a little older than the first observation
_IDLE_NS = 2_000_000_000


def sensor_topics(contract: Contract, level: str) -> dict[str, str]:
    """Return the sensor topics that a bag may hold, and their message types.

    Args:
        contract: Names wrenches and cameras.
        level: One of `LEVELS`.
    """
    if level == NONE:
        return {}
    topics = {JOINTS: "sensor_msgs/msg/JointState"}
    topics |= {f"{name}/wrench": "geometry_msgs/msg/WrenchStamped" for name in contract.wrenches}
    topics[OBJECTS] = "geometry_msgs/msg/PoseArray"
    topics[EVENTS] = "resfit_interfaces/msg/OperatorEvent"
    if level == CAMERAS:
        topics |= {contract.camera(name).topic: _IMAGE for name in contract.images}
    return topics


class SensorLog:
    """Keeps messages of the open episode, of every topic in the order of their stamps.

    Numbers are kept as they come; of camera images only those that a step may have seen: the
    newest at or before its stamp. Not thread-safe.
    """

    def __init__(self, topics: dict[str, str], max_bytes: int = 1 << 30) -> None:
        """Start closed: only the last two seconds are kept.

        Args:
            topics: Topic to message type, from `sensor_topics`.
            max_bytes: Beyond it, images are left out and counted, so that a long episode cannot
                take the machine's memory.
        """
        self.topics = topics
        self._max_bytes = max_bytes
        self._kept: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in topics}
        self._bytes = 0
        self._newest = 0
        self._left_out = 0
        self.is_open = False

    def add(self, topic: str, stamp_ns: int, payload: bytes) -> None:
        """Take one message; stamp 0 (a press that means now): the newest stamp heard.

        What was sent again under the same stamp is kept once.
        """
        kept, stamp_ns = self._kept[topic], stamp_ns or self._newest
        if topic != EVENTS and kept and stamp_ns <= kept[-1][0]:
            if kept[-1][0] - stamp_ns < _IDLE_NS:
                return
            self._clear()  # the clock was set: what is kept belongs to another time
        if self._bytes + len(payload) > self._max_bytes and self.topics[topic] == _IMAGE:
            self._left_out += 1
            return
        self._newest = max(self._newest, stamp_ns)
        kept.append((stamp_ns, payload))
        self._bytes += len(payload)
        if not self.is_open and kept[0][0] < self._newest - 2 * _IDLE_NS:
            self._drop_until(self._newest - _IDLE_NS)

    def take(self, stamps_ns: Sequence[int]) -> tuple[list[tuple[str, int, bytes]], int]:
        """Return (topic, stamp, payload) of an episode, and how many images were left out.

        Args:
            stamps_ns: Of its observations, the last one included, rising.

        Everything up to the last stamp is forgotten, and what it leaves behind stays.
        """
        found: list[tuple[str, int, bytes]] = []
        if stamps_ns:
            first, last = stamps_ns[0] - _LEAD_NS, stamps_ns[-1]
            for topic, kept in self._kept.items():
                if self.topics[topic] == _IMAGE:
                    kept = _seen(kept, stamps_ns)
                # A press may come after the last observation that it lets count.
                end = self._newest if topic == EVENTS else last
                found += [(topic, s, data) for s, data in kept if first <= s <= end]
            self._drop_until(last)
            self._drop_until(self._newest, EVENTS)
        left_out, self._left_out = self._left_out, 0
        return found, left_out

    def _clear(self) -> None:
        for kept in self._kept.values():
            kept.clear()
        self._bytes = self._newest = 0

    def _drop_until(self, stamp_ns: int, *topics: str) -> None:
        for topic in topics or self._kept:
            kept = self._kept[topic]
            kept[:] = [item for item in kept if item[0] > stamp_ns]
        self._bytes = sum(len(data) for kept in self._kept.values() for _, data in kept)


def _seen(kept: Sequence[tuple[int, bytes]], stamps_ns: Sequence[int]) -> list[tuple[int, bytes]]:
    """Return the newest item at or before each stamp, each once."""
    stamps = [stamp for stamp, _ in kept]
    indices = {bisect_right(stamps, stamp) - 1 for stamp in stamps_ns}
    return [kept[index] for index in sorted(indices) if index >= 0]
