"""Make recorded episodes without ROS: messages built from numbers, serialized by `rosbags`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from resfit_core.contract import Contract, load_contract
from resfit_core.data.bag_types import TOPICS, type_store
from resfit_core.data.bags import Manifest, episode_folder, write_episode

CONFIG = Path(__file__).resolve().parents[3] / "config"
START_NS, PERIOD_NS = 10_000_000_000, 50_000_000


def vega_contract(variant: str = "state") -> Contract:
    """Load the shipped contract."""
    return load_contract(
        CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml", variant
    )


def header(index: int):
    """Header of the `index`-th observation."""
    types = type_store().types
    sec, nanosec = divmod(START_NS + index * PERIOD_NS, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def step_bytes(
    contract: Contract,
    index: int,
    observation,
    base,
    phase,
    action,
    last: bool,
    images=(),
    sealed: bytes = b"",
):
    """Serialize one `Step`."""
    store = type_store()
    image_type = store.types["sensor_msgs/msg/Image"]
    message = store.types[TOPICS["step"]](
        header=header(index),
        episode=1,
        step=index,
        is_first=index == 0,
        is_last=last,
        observation=np.asarray(observation, np.float32),
        images=[
            image_type(
                header=header(index),
                height=i.shape[0],
                width=i.shape[1],
                encoding="rgb8",
                is_bigendian=0,
                step=i.shape[1] * 3,
                data=i.reshape(-1),
            )
            for i in images
        ],
        base_action_norm=np.asarray(base, np.float32),
        base_action_sealed=np.frombuffer(sealed, np.uint8),
        chunk_phase=float(phase),
        action_norm=np.asarray(action, np.float32),
        weights_version=0,
        explored=False,
        contract_sha256=contract.sha256,
        base_sha256="b" * 64,
    )
    return bytes(store.serialize_cdr(message, TOPICS["step"]))


def executed_bytes(index: int, action_rad, action_norm, source: int = 0, altered: bool = False):
    """Serialize one `ExecutedCommand`."""
    store = type_store()
    message = store.types[TOPICS["executed_command"]](
        header=header(index),
        source=source,
        action_rad=np.asarray(action_rad, np.float64),
        action_norm=np.asarray(action_norm, np.float32),
        altered=altered,
        reasons=0,
    )
    return bytes(store.serialize_cdr(message, TOPICS["executed_command"]))


def state_bytes(stamp_ns: int, **fields) -> bytes:
    """Serialize one `EpisodeState` of these fields, the others zero."""
    store = type_store()
    types = store.types
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    time = types["builtin_interfaces/msg/Time"]
    zero = {
        "header": types["std_msgs/msg/Header"](time(sec=sec, nanosec=nanosec), ""),
        "start_stamp": time(sec=0, nanosec=0),
        "end_stamp": time(sec=0, nanosec=0),
        **dict.fromkeys(("run_id", "reason", "seal", "label"), ""),
        **dict.fromkeys(("use_residual", "terminated", "truncated"), False),
        "reward": 0.0,
    }
    names = [f.name for f in dataclasses.fields(types[TOPICS["episode_state"]])]
    values = {**{name: zero.get(name, 0) for name in names if name[0].islower()}, **fields}
    values.pop("__msgtype__", None)
    message = types[TOPICS["episode_state"]](**values)
    return bytes(store.serialize_cdr(message, TOPICS["episode_state"]))


def messages_of_demo(contract: Contract, steps: int) -> list[tuple[str, int, bytes]]:
    """Return the messages of an episode of random numbers."""
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(steps + 1, contract.obs_dim)),
        rng.uniform(contract.lower, contract.upper, (steps, contract.action_dim)),
        rng.uniform(-1, 1, (steps, contract.action_dim)),
    )
    return _messages(contract, *arrays)


def _messages(
    contract: Contract, observation, action_rad, action_norm, images=(), sources=None, mask=None
):
    steps, messages = len(action_rad), []
    for index in range(steps + 1):
        last = index == steps
        action = np.zeros(0) if last else action_norm[index]
        base = np.zeros(contract.action_dim) if last else action_norm[index]
        stamp = START_NS + index * PERIOD_NS
        frames = [camera[index] for camera in images]
        sealed = b""
        if mask is not None:
            base, sealed = np.zeros(0), mask.hide(base, stamp, 1, index)
        data = step_bytes(
            contract, index, observation[index], base, 0.0, action, last, frames, sealed
        )
        messages.append(("step", stamp, data))
        if not last:
            source = 0 if sources is None else sources[index]
            data = executed_bytes(index, action_rad[index], action_norm[index], source)
            messages.append(("executed_command", stamp, data))
    return messages


def write_demo(
    folder: Path,
    contract: Contract,
    observation,
    action_rad,
    action_norm,
    episode: int = 1,
    success: bool = True,
    base_sha256: str = "b" * 64,
    images=(),
    extra=(),
    sources=None,
    more_topics=None,
    mask=None,
    **changes,
) -> Path:
    """Write an episode of T steps from arrays; `images`: per camera (T + 1, H, W, 3).

    With a `mask` the base's actions are sealed.
    """
    steps = len(action_rad)
    made = _messages(contract, observation, action_rad, action_norm, images, sources, mask)
    messages = [*extra, *made]
    fields = {
        "run_id": "test",
        "episode": episode,
        "steps": steps,
        "dropped": 0,
        "mode": 3,
        "use_residual": False,
        "seed": 2_000_000 + episode,
        "ended_by": 1 if success else 3,
        "credited_step": steps - 1,
        "reward": float(success),
        "terminated": success,
        "truncated": not success,
        "contract_sha256": contract.sha256,
        "base_sha256": base_sha256,
    }
    manifest = Manifest(**{**fields, **changes})
    write_episode(folder, manifest, messages, more_topics=more_topics)
    return episode_folder(folder, episode)
