"""A trajectory as a closed episode of ours: the same bag that the recorder writes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.contract import Contract
from resfit_core.control.records import EndedBy
from resfit_core.data.bag_types import TOPICS, type_store
from resfit_core.data.bags import Manifest, write_episode
from resfit_core.data.episode import DEMO
from resfit_core.formats.trajectory import Trajectory

_BEGIN_NS = 1_000_000_000


def write_trajectory(
    folder: Path, number: int, trajectory: Trajectory, contract: Contract
) -> Manifest:
    """Write a demonstration; the demonstrator acts as the base, as in our own recordings.

    Args:
        folder: of the episodes; made if missing.
        number: of the episode, from 1.
        trajectory: under this contract.
        contract: its hash goes into the bag.

    Raises:
        BagError: the number is taken.
    """
    space = ActionSpace.from_limits(contract)
    actor = hashlib.sha256(f"imported: {trajectory.source}".encode()).hexdigest()
    executed = space.to_norm(trajectory.action_rad)
    steps = len(executed)
    messages = []
    for index in range(steps + 1):
        stamp = _BEGIN_NS + round(index * 1e9 / contract.control_rate_hz)
        header = _header(stamp)
        last = index == steps
        # Nothing was commanded for the last observation: the last action stands as the base's.
        base = executed[min(index, steps - 1)]
        step = _make(
            "step",
            header=header,
            episode=number,
            step=index,
            is_first=index == 0,
            is_last=last,
            observation=trajectory.observation[index],
            images=[_image(header, camera[index]) for camera in trajectory.images],
            base_action_norm=base,
            base_action_sealed=np.zeros(0, np.uint8),
            chunk_phase=0.0,
            action_norm=np.zeros(0, np.float32) if last else base,
            weights_version=0,
            explored=False,
            contract_sha256=contract.sha256,
            base_sha256=actor,
        )
        messages.append(("step", stamp, step))
        if not last:
            command = _make(
                "executed_command",
                header=header,
                source=0,
                action_rad=trajectory.action_rad[index],
                action_norm=executed[index],
                altered=False,
                reasons=0,
            )
            messages.append(("executed_command", stamp, command))
    manifest = Manifest(
        run_id="imported",
        episode=number,
        steps=steps,
        dropped=0,
        mode=DEMO,
        use_residual=False,
        seed=0,
        ended_by=int(EndedBy.SUCCESS if trajectory.success else EndedBy.TIMEOUT),
        credited_step=steps - 1,
        reward=float(trajectory.success),
        terminated=trajectory.success,
        truncated=not trajectory.success,
        contract_sha256=contract.sha256,
        base_sha256=actor,
        reason=f"imported from {trajectory.source}",
    )
    return write_episode(folder, manifest, messages)


def _make(topic: str, **fields: Any) -> bytes:
    store = type_store()
    message = store.types[TOPICS[topic]](**fields)
    return bytes(store.serialize_cdr(message, TOPICS[topic]))


def _header(stamp_ns: int) -> Any:
    types = type_store().types
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def _image(header: Any, image: np.ndarray) -> Any:
    height, width, _ = image.shape
    return type_store().types["sensor_msgs/msg/Image"](
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * 3,
        data=image.reshape(-1),
    )
