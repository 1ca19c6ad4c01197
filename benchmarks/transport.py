"""What the shipped DDS profile carries: four image streams beside joint states, none lost.

    make bench-transport                                   # 60 s
    make bench-transport ARGS="--seconds 600 --subscribers 2"
    make bench-transport ARGS="--profile none"             # Fast DDS's own settings, to compare

One process sends as the camera and the robot do: two images of 640 x 360 (bgra8) and two of
84 x 84 (rgb8) at 30 Hz, joint states at 100 Hz. Each subscriber is a process of its own and hears
them all, best effort as the nodes do in real time; two by default, as base_policy and the panel. A
message is lost when a number is missing at a subscriber. Latency: from just before `publish` to
the callback, on the machine's steady clock. Results: benchmarks/results/transport.json.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image, JointState

from resfit_ros import conversions, qos
from resfit_ros.node import make_executor
from resfit_ros.testing import domain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/transport.json"
PROFILE = ROOT / "config/dds/fastdds.xml"
_JOINTS = 29
_CONNECT_S = 60.0
_DRAIN_S = 3.0


@dataclass(frozen=True)
class Stream:
    """One topic: name, rate [1/s], and for images size [px] and encoding."""

    name: str
    rate_hz: float
    width: int = 0
    height: int = 0
    encoding: str = ""


STREAMS = (
    Stream("left/image", 30, 640, 360, "bgra8"),
    Stream("right/image", 30, 640, 360, "bgra8"),
    Stream("left/small", 30, 84, 84, "rgb8"),
    Stream("right/small", 30, 84, 84, "rgb8"),
    Stream("joint_states", 100),
)


def message(stream: Stream) -> Any:
    """Return a message of the stream, without a stamp."""
    if not stream.width:
        names = [f"joint_{k}" for k in range(_JOINTS)]
        return JointState(name=names, position=[0.0] * _JOINTS, velocity=[0.0] * _JOINTS)
    channels = 4 if stream.encoding == "bgra8" else 3
    size = stream.width * stream.height * channels
    return Image(
        width=stream.width, height=stream.height, encoding=stream.encoding,
        step=stream.width * channels, data=array.array("B", bytes(size)),
    )  # fmt: skip


def publish(seconds: float, subscribers: int, ready: Path) -> dict[str, Any]:
    """Send every stream at its rate; return how many of each, and how many ticks were late."""
    node = rclpy.create_node("transport_sender")
    executor = make_executor()
    executor.add_node(node)
    outs = {}
    for s in STREAMS:
        quality = qos.sensor("realtime") if s.rate_hz > 60 else qos.reliable(10)
        outs[s.name] = node.create_publisher(type(message(s)), s.name, quality)
    sent = dict.fromkeys(outs, 0)
    end = time.monotonic() + _CONNECT_S
    while any(out.get_subscription_count() < subscribers for out in outs.values()):
        if time.monotonic() > end:
            raise RuntimeError("subscribers do not appear; is DDS set up?")
        executor.spin_once(timeout_sec=0.05)
    time.sleep(0.5)

    def sender(stream: Stream, msg: Any) -> Any:
        def send() -> None:
            # The frame carries the number: image headers have no other place for it.
            msg.header.frame_id = str(sent[stream.name])
            sent[stream.name] += 1
            msg.header.stamp = conversions.stamp_to_msg(time.monotonic_ns())
            outs[stream.name].publish(msg)

        return send

    steady = Clock(clock_type=ClockType.STEADY_TIME)
    ends = time.monotonic() + seconds
    timers = [
        node.create_timer(1 / s.rate_hz, sender(s, message(s)), clock=steady) for s in STREAMS
    ]
    while time.monotonic() < ends:
        executor.spin_once(timeout_sec=0.05)
    for timer in timers:
        node.destroy_timer(timer)
    ready.write_text(json.dumps(sent))
    time.sleep(_DRAIN_S)  # what is under way needs its sender
    return sent


def listen(until: Path) -> dict[str, Any]:
    """Hear every stream until the sender is done; return numbers heard and latencies [ms]."""
    node = rclpy.create_node(f"transport_listener_{os.getpid()}")
    executor = make_executor()
    executor.add_node(node)
    heard: dict[str, list[tuple[int, float]]] = {s.name: [] for s in STREAMS}

    def taker(name: str) -> Any:
        def take(msg: Any) -> None:
            late_ns = time.monotonic_ns() - conversions.stamp_from_msg(msg.header.stamp)
            heard[name].append((int(msg.header.frame_id), late_ns * 1e-6))

        return take

    kept = [
        node.create_subscription(type(message(s)), s.name, taker(s.name), qos.sensor("realtime"))
        for s in STREAMS
    ]
    done_at = None
    while done_at is None or time.monotonic() < done_at + _DRAIN_S / 2:
        executor.spin_once(timeout_sec=0.05)
        if done_at is None and until.exists():
            done_at = time.monotonic()
    del kept
    return {
        name: {"numbers": len({n for n, _ in got}), "ms": [round(ms, 3) for _, ms in got]}
        for name, got in heard.items()
    }


def measure(seconds: float, subscribers: int, profile: str) -> list[dict[str, Any]]:
    """Run sender and subscribers as processes; return one row per stream and subscriber."""
    with domain() as number, tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(number)}
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            environment.pop(name, None)
            if profile == "shipped":
                environment[name] = str(PROFILE)
        done = Path(folder) / "sent.json"

        def start(*words: str) -> subprocess.Popen:
            command = [sys.executable, __file__, *words, "--done", str(done)]
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

        ears = [start("--role", "listen") for _ in range(subscribers)]
        mouth = start(
            "--role", "publish", "--seconds", str(seconds), "--subscribers", str(subscribers)
        )
        answers = [json.loads(p.communicate()[0].splitlines()[-1]) for p in [mouth, *ears]]
    sent, *heard = answers
    rows = []
    for index, found in enumerate(heard):
        for stream in STREAMS:
            got = found[stream.name]
            times = np.array(got["ms"] or [np.nan])
            rows.append(
                {
                    "stream": stream.name,
                    "subscriber": index,
                    "rate_hz": round(sent[stream.name] / seconds, 2),
                    "sent": sent[stream.name],
                    "lost": sent[stream.name] - got["numbers"],
                    "median_ms": round(float(np.median(times)), 3),
                    "p99_ms": round(float(np.percentile(times, 99)), 3),
                    "max_ms": round(float(times.max()), 3),
                }
            )
    return rows


def main() -> int:
    """Measure; return 1 where a message was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--subscribers", type=int, default=2, help="processes that hear all")
    parser.add_argument("--profile", choices=("shipped", "none"), default="shipped")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/transport.json")
    parser.add_argument("--role", choices=("publish", "listen"), help=argparse.SUPPRESS)
    parser.add_argument("--done", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        rclpy.init()
        told = (
            publish(given.seconds, given.subscribers, given.done)
            if given.role == "publish"
            else listen(given.done)
        )
        print(json.dumps(told), flush=True)
        os._exit(0)
    rows = measure(given.seconds, given.subscribers, given.profile)
    head = ("stream", "subscriber", "rate_hz", "sent", "lost", "median_ms", "p99_ms", "max_ms")
    print("".join(f"{key:>14}" for key in head))
    for row in rows:
        print("".join(f"{row[key]!s:>14}" for key in head))
    total = {"sent": sum(r["sent"] for r in rows), "lost": sum(r["lost"] for r in rows)}
    result = {
        **total,
        "seconds": given.seconds,
        "subscribers": given.subscribers,
        "profile": given.profile,
        "rmw": rclpy.utilities.get_rmw_implementation_identifier(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "load_1min": os.getloadavg()[0],
        "rows": rows,
    }
    out = given.out or (RESULTS if given.profile == "shipped" else None)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    print("transport: " + " ".join(f"{key}={value}" for key, value in total.items()))
    return int(total["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
