"""An episode's bag as it is played: raw sensor messages, and what every node made of them.

`bag_reader` gives the numbers that a learner needs; this gives the messages that nodes need.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader

from resfit_core.data.bag_reader import check_bytes, open_store, readable, stamp_of
from resfit_core.data.bag_types import TOPICS, BagError, topic_of
from resfit_core.data.bags import Manifest, read_manifest
from resfit_core.data.sensor_log import EVENTS

_IMAGE = "sensor_msgs/msg/Image"
_STAMP = slice(4, 12)  # sec and nanosec of the header, after the encapsulation


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """One episode, message by message.

    Attributes:
        path: Folder of the bag.
        manifest: As it was when the bag was closed.
        steps: `Step` by number, the last observation included.
        executed: `ExecutedCommand` by stamp [ns].
        states: `EpisodeState`s in order.
        presses: `OperatorEvent`s in order.
        sensors: Topic to (stamp [ns], serialized message), rising.
    """

    path: Path
    manifest: Manifest
    steps: tuple[Any, ...]
    executed: Mapping[int, Any]
    states: tuple[Any, ...]
    presses: tuple[Any, ...]
    sensors: Mapping[str, list[tuple[int, bytes]]]

    def sensor_set(self, step: int, stamp_ns: int | None = None) -> dict[str, bytes]:
        """Return what a step was shown, topic to serialized message, all under one stamp.

        In lock-step these are the very messages. In real time it is the newest of each topic at
        or before the step, as close as a bag can tell.

        Args:
            step: Number of the observation.
            stamp_ns: Stamp to write into the messages [ns]; None: the step's own.
        """
        own = stamp_of(self.steps[step])
        found = {}
        for topic, items in self.sensors.items():
            index = bisect_right(items, own, key=lambda item: item[0]) - 1
            if index >= 0:
                found[topic] = restamped(items[index][1], own if stamp_ns is None else stamp_ns)
        return found


def restamped(data: bytes, stamp_ns: int) -> bytes:
    """Return a serialized message that begins with a header, under another stamp [ns]."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    out = bytearray(data)
    out[_STAMP] = sec.to_bytes(4, "little", signed=True) + nanosec.to_bytes(4, "little")
    return bytes(out)


def read_recording(path: Path, cameras: Sequence[str] = ()) -> Recording:
    """Read an episode's folder for playing.

    Args:
        path: The folder.
        cameras: Topics of the contract's cameras, in its order. Where the bag holds no full images
            of one, the small ones of its steps are shown instead: to the residual, and to a base
            that shrinks its images likewise, they are the same.

    Raises:
        BagError: It cannot be read, or holds no sensor data; names file, episode and fix.
    """
    path = Path(path)
    manifest = read_manifest(path)
    file = path / manifest.bag_file
    who = f"{file}: episode {manifest.episode}"
    check_bytes(file, who, manifest.bag_sha256)
    read: dict[str, list[Any]] = {topic: [] for topic in (*TOPICS, EVENTS)}
    sensors: dict[str, list[tuple[int, bytes]]] = {}
    spelled = {topic_of(topic): topic for topic in cameras}  # as the contract does
    with readable(who), Reader(file) as reader:
        store = open_store(reader, who)
        for connection, stamp_ns, data in reader.messages():
            topic = topic_of(connection.topic)
            topic = spelled.get(topic, topic)
            if topic in read:
                read[topic].append(store.deserialize_cdr(data, connection.msgtype))
            else:
                sensors.setdefault(topic, []).append((stamp_ns, bytes(data)))
    if not sensors:
        raise BagError(
            f"{who}: no sensor topics in it, so nothing can be played; it was recorded with "
            "record:=none, or before sensors were recorded: record it again"
        )
    steps = {message.step: message for message in read["step"]}
    missing = [number for number in range(manifest.steps + 1) if number not in steps]
    if missing:
        raise BagError(f"{who}: step {missing[0]} is missing; record it again")
    ordered = tuple(steps[number] for number in range(manifest.steps + 1))
    for index, topic in enumerate(cameras):
        if topic not in sensors and len(ordered[0].images) > index:
            small = ((stamp_of(step), step.images[index]) for step in ordered)
            sensors[topic] = [(s, bytes(store.serialize_cdr(i, _IMAGE))) for s, i in small]
    return Recording(
        path,
        manifest,
        ordered,
        {stamp_of(message): message for message in read["executed_command"]},
        tuple(read["episode_state"]),
        tuple(read[EVENTS]),
        sensors,
    )
