"""Which sensor topics the contract's observation needs, and how a set of them becomes one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, WrenchStamped
from sensor_msgs.msg import Image, JointState

from resfit_core.contract import Contract
from resfit_core.control.observe import JointOrder, ObservationBuilder, shrink
from resfit_core.control.tick import Seen
from resfit_ros import conversions

JOINTS = "joint_states"
OBJECTS = "object_poses"


@dataclass(frozen=True)
class Stream:
    """One sensor topic."""

    topic: str
    msg_type: Any


def streams(
    contract: Contract, cameras: tuple[str, ...], base_fields: tuple[str, ...] = ()
) -> tuple[Stream, ...]:
    """Return the topics to join, the primary one (whose stamp is the set's) first.

    Args:
        contract: Its fields say which sensors are needed.
        cameras: Names of the cameras whose images somebody wants.
        base_fields: Fields that the base wants besides; a scripted expert does.
    """
    fields = {*contract.fields, *base_fields}
    found = [Stream(JOINTS, JointState)]
    if "wrench" in fields:
        found += [Stream(f"{name}/wrench", WrenchStamped) for name in contract.wrenches]
    if {"object_position", "hand_to_object"} & fields:
        found.append(Stream(OBJECTS, PoseArray))
    found += [Stream(contract.camera(name).topic, Image) for name in cameras]
    return tuple(found)


def observer(
    contract: Contract, base_fields: tuple[str, ...] = ()
) -> Callable[[dict[str, Any]], Seen]:
    """Return the function that turns a joined set, topic to message, into what the tick needs.

    Args:
        contract: Layout of the observation that everybody sees.
        base_fields: Fields of the base's own observation, in order; empty: the contract's.
    """
    builder, order = ObservationBuilder(contract), JointOrder(contract.joint_names)
    own = None
    if base_fields and base_fields != contract.fields:
        own = ObservationBuilder(dataclasses.replace(contract, fields=base_fields))
    wrench_topics = [f"{name}/wrench" for name in contract.wrenches]
    needs_velocity = "joint_velocity" in {*contract.fields, *base_fields}
    topics = {name: contract.camera(name).topic for name in contract.images}

    def build(items: dict[str, Any]) -> Seen:
        _, names, position, velocity = conversions.joint_state_from_msg(items[JOINTS])
        wrenches = poses = None
        if wrench_topics[0] in items if wrench_topics else False:
            wrenches = np.stack([conversions.wrench_from_msg(items[t])[1] for t in wrench_topics])
        if OBJECTS in items:
            poses = conversions.poses_from_msg(items[OBJECTS])[1]
        measured = (
            order.sort(names, position),
            order.sort(names, velocity) if needs_velocity else None,
            wrenches,
            poses,
        )
        full = {name: conversions.image_from_msg(items[t]) for name, t in topics.items()}
        small = tuple(shrink(image, contract.image_size) for image in full.values())
        return Seen(
            builder.build(*measured),
            small,
            full or None,
            None if own is None else own.build(*measured),
        )

    return build


class TimedObserver:
    """`observer`, with the time of the newest build and the camera stamp that went into it.

    Attributes:
        spent_ns: Time of the newest build [ns].
        camera_ns: Stamp of its oldest image, of its joint state where there is none [ns].
    """

    def __init__(self, contract: Contract, base_fields: tuple[str, ...] = ()) -> None:
        """See `observer`."""
        self._build = observer(contract, base_fields)
        self._images = [contract.camera(name).topic for name in contract.images] or [JOINTS]
        self.spent_ns = self.camera_ns = 0

    def __call__(self, items: dict[str, Any]) -> Seen:
        """Build the observation."""
        begin_ns = time.monotonic_ns()
        seen = self._build(items)
        self.camera_ns = min(
            conversions.stamp_from_msg(items[topic].header.stamp) for topic in self._images
        )
        self.spent_ns = time.monotonic_ns() - begin_ns
        return seen
