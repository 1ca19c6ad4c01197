"""What a recorded step of `pixels` weighs on disk, and a transition in memory.

    make bench-storage
    make bench-storage ARGS="--episodes 4"

Episodes of the twin, its own pictures, are written as the recorder writes them, sensor topics
included. Disk: the whole folder of each episode over the raw frames and numbers that its messages
hold; once more with pixels of pure noise, which nothing makes smaller. Memory: all arrays of a
buffer that is full of these episodes, over one copy of the frames of its transitions, in bytes per
transition. All goes to benchmarks/results/storage.json; the last line is

    storage: disk_ratio= disk_ratio_noise= ram_ratio=
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.contract import Contract, load_contract
from resfit_core.data.bag_reader import read_episode
from resfit_core.data.bag_types import TOPICS, type_store
from resfit_core.data.bags import Manifest, write_episode
from resfit_core.data.replay import ReplayBuffer
from resfit_core.data.sensor_log import NUMBERS, OBJECTS, sensor_topics

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "storage.json"
PERIOD_NS = 50_000_000


class Writer:
    """Serializes what the graph says of a step, and counts the raw numbers in it."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.store = type_store()
        self.messages: list[tuple[str, int, bytes]] = []
        self.raw = 0

    def add(self, topic: str, kind: str, stamp_ns: int, numbers: int, /, **fields: Any) -> None:
        """Add one message whose numbers and pixels take `numbers` bytes."""
        message = self.store.types[kind](header=self.header(stamp_ns), **fields)
        data = bytes(self.store.serialize_cdr(message, kind))
        self.messages.append((topic, stamp_ns, data))
        self.raw += numbers

    def make(self, kind: str, /, **fields: Any) -> Any:
        """Return a part of a message."""
        return self.store.types[kind](**fields)

    def header(self, stamp_ns: int) -> Any:
        """Return a header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self.make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="")


def record(
    folder: Path, contract: Contract, number: int, steps: int, *, noise: bool = False
) -> tuple[int, int]:
    """Drive the twin about and write the episode; return bytes on disk and raw bytes."""
    from resfit_core.control.observe import shrink
    from resfit_sim.factory import twin_for

    twin, writer = twin_for(contract), Writer()
    rng = np.random.default_rng(number)
    twin.reset(number)
    joints = len(contract.joint_names)
    target = np.array(twin.sensors().joint_position)
    for step in range(steps + 1):
        stamp, sensors = (step + 1) * PERIOD_NS, twin.sensors()
        frames = []
        for name in contract.images:
            camera = contract.camera(name)
            seen = twin.render(name, camera.width, camera.height)
            frames.append(shrink(seen, contract.image_size))
            if noise:
                frames[-1] = rng.integers(0, 256, frames[-1].shape, np.uint8)
        say_sensors(writer, contract, stamp, sensors)
        target = np.clip(target + rng.normal(0, 0.02, joints), contract.lower, contract.upper)
        norm = rng.uniform(-1, 1, (2, joints)).astype(np.float32)
        say_step(writer, contract, stamp, step, step == steps, sensors, frames, norm)
        if step < steps:
            writer.add(
                "executed_command", TOPICS["executed_command"], stamp, joints * 12 + 6,
                source=0, action_rad=target, action_norm=norm[1], altered=False, reasons=0,
            )  # fmt: skip
            twin.step(target)
    twin.close()
    manifest = Manifest(
        "storage", number, steps, 0, 3, False, number, 3, steps - 1, 0.0, False, True,
        contract.sha256, "b" * 64,
    )  # fmt: skip
    write_episode(folder, manifest, writer.messages, more_topics=sensor_topics(contract, NUMBERS))
    files = (folder / f"episode_{number:06d}").iterdir()
    return sum(file.stat().st_size for file in files), writer.raw


def say_sensors(writer: Writer, contract: Contract, stamp: int, sensors: Any) -> None:
    """Add joint states, wrenches and poses."""
    joints = len(contract.joint_names)
    writer.add(
        "joint_states", "sensor_msgs/msg/JointState", stamp, joints * 16 + 8,
        name=list(contract.joint_names), position=np.asarray(sensors.joint_position, np.float64),
        velocity=np.asarray(sensors.joint_velocity, np.float64), effort=np.zeros(0),
    )  # fmt: skip
    for name, values in zip(
        contract.wrenches, (sensors.wrench_left, sensors.wrench_right), strict=True
    ):
        parts = [
            writer.make(
                "geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, v), strict=True))
            )
            for v in (values[:3], values[3:])
        ]
        wrench = writer.make("geometry_msgs/msg/Wrench", force=parts[0], torque=parts[1])
        writer.add(f"{name}/wrench", "geometry_msgs/msg/WrenchStamped", stamp, 56, wrench=wrench)
    poses = [
        writer.make(
            "geometry_msgs/msg/Pose",
            position=writer.make(
                "geometry_msgs/msg/Point", **dict(zip("xyz", map(float, row[:3]), strict=True))
            ),
            orientation=writer.make(
                "geometry_msgs/msg/Quaternion",
                **dict(zip("xyzw", map(float, row[3:]), strict=True)),
            ),
        )
        for row in np.asarray(sensors.object_poses).reshape(-1, 7)
    ]
    writer.add(OBJECTS, "geometry_msgs/msg/PoseArray", stamp, 8 + 56 * len(poses), poses=poses)


def say_step(
    writer: Writer,
    contract: Contract,
    stamp: int,
    step: int,
    last: bool,
    sensors: Any,
    frames: list[np.ndarray],
    norm: np.ndarray,
) -> None:
    """Add a `Step`, its frames and its numbers."""
    images = [
        writer.make(
            "sensor_msgs/msg/Image", header=writer.header(stamp), height=f.shape[0],
            width=f.shape[1], encoding="rgb8", is_bigendian=0, step=3 * f.shape[1],
            data=f.reshape(-1),
        )
        for f in frames
    ]  # fmt: skip
    observation = np.zeros(contract.obs_dim, np.float32)
    observation[: len(sensors.joint_position)] = sensors.joint_position
    numbers = sum(f.nbytes for f in frames) + 4 * contract.obs_dim + 8 * norm.shape[1] + 28
    writer.add(
        "step", TOPICS["step"], stamp, numbers, episode=1, step=step, is_first=step == 0,
        is_last=last, observation=observation, images=images, base_action_norm=norm[0],
        chunk_phase=0.0, action_norm=np.zeros(0, np.float32) if last else norm[1],
        weights_version=0, explored=False, contract_sha256=contract.sha256,
        base_sha256="b" * 64,
        base_action_sealed=np.zeros(0, np.uint8),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=160)
    args = parser.parse_args()
    contract = load_contract(
        ROOT / "config/robot/vega_1.yaml", ROOT / "config/task/woolly_ball_pnp.yaml", "pixels"
    )
    shapes = {name: (contract.image_size,) * 2 + (3,) for name in contract.images}
    frame = sum(int(np.prod(shape)) for shape in shapes.values())
    rows = args.episodes * (args.steps + 1)
    buffer = ReplayBuffer(contract.obs_dim, contract.action_dim, rows, shapes)
    disk = raw = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(1, args.episodes + 1):
            bytes_now, raw_now = record(Path(name), contract, number, args.steps)
            disk, raw = disk + bytes_now, raw + raw_now
            episode = read_episode(Path(name) / f"episode_{number:06d}").to_episode(contract)
            buffer.add(episode)
        worst = record(Path(name), contract, args.episodes + 1, args.steps, noise=True)
    steps = args.episodes * args.steps
    ram = buffer.nbytes / len(buffer)
    found = {
        "episodes": args.episodes,
        "steps": steps,
        "disk_bytes_per_step": round(disk / steps),
        "raw_bytes_per_step": round(raw / steps),
        "disk_ratio": round(disk / raw, 4),
        "disk_ratio_noise": round(worst[0] / worst[1], 4),
        "ram_bytes_per_transition": round(ram),
        "frame_bytes": frame,
        "ram_ratio": round(ram / frame, 4),
    }
    for key, value in found.items():
        print(f"{key:<26} {value:>12,}")
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"storage: disk_ratio={found['disk_ratio']} disk_ratio_noise={found['disk_ratio_noise']} "
        f"ram_ratio={found['ram_ratio']}"
    )


if __name__ == "__main__":
    main()
