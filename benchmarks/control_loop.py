"""The control loop in real time, beside a learner that never rests: late ticks and latencies.

    make bench-control                          # 10,000 ticks at 20 Hz and at 50 Hz: 15 minutes
    make bench-control ARGS="--ticks 500"       # a look
    make bench-control ARGS="--rates 50"        # one rate alone

The twin runs free, with every node of `train`: at 20 Hz with `pixels` (two cameras of 640 x 360 at
30 Hz), at 50 Hz with `state`. The learner owes more updates than it can make and computes all the
time. The base is the shipped architecture, untrained, with a range so small that the robot stays
near its start. Times are those at which publishers wrote (DDS source stamps), of ticks after the
learner began to learn. Stages within a node are what it says on `loop_stats`.

- *late*: control periods without a command: two commands 1.5 to 2.5 periods apart count one.
- *residual*: base action published -> joint command published, residual and driver between.
- *camera to command*: stamp of the oldest image (joint state for `state`) -> joint command.

The last line holds the worse of both rates; results: benchmarks/results/control_loop.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from control_graph import Bench, Site
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from resfit_core.contract import Contract
from resfit_core.control.records import Phase
from resfit_interfaces import msg as ours
from resfit_ros import conversions, priority, qos

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/control_loop.json"
RUNS = ((20, "pixels"), (50, "state"))
_PATIENCE_S = 120.0  # to the first tick beside a learner at work
_CAPTURES = 20_000


class Probe:
    """Listens to the graph; every number is a time at which somebody published."""

    def __init__(
        self, contract: Contract, cpu_s: Callable[[str], float], closes: str = ""
    ) -> None:
        """Open nothing yet.

        Args:
            contract: Of the graph.
            cpu_s: CPU time of a node [s].
            closes: Run that has no recorder: every ended episode is called closed in its place,
                without a bag. Empty: there is one.
        """
        self._contract, self._cpu_s, self._closes = contract, cpu_s, closes
        self._closed_out: Publisher | None = None
        self._asked: dict[int, tuple[int, int, int]] = {}  # stamp: published, camera, episode
        self.ticks: list[tuple[int, int, int, int, int]] = []
        """Episode, stamp, camera stamp, base action out, joint command out; all [ns]."""
        self.captures_ms: list[float] = []
        self.stats: dict[str, list[ours.LoopStats]] = {}
        self.updates: list[tuple[float, float, float, int]] = []
        """Clock [s], CPU of learner and of recorder [s], updates."""
        self._learning_from = self._running = 0
        self._updates_before: int | None = None

    def watch(self, wanted: int, done: Callable[[], None]) -> None:
        """Listen until so many ticks were heard; run on a thread of its own."""
        os.nice(10)  # what is measured goes first
        context = rclpy.Context()
        rclpy.init(context=context)
        executor = SingleThreadedExecutor(context=context)
        node = Node("control_bench", context=context)
        priority.go_first(0)  # no publisher may wait for this process
        executor.add_node(node)
        profile = qos.reliable(100)
        for kind, topic, heard, quality in (
            (ours.PolicyStep, "policy_step", self._on_step, profile),
            (JointTrajectory, "joint_command", self._on_command, profile),
            (ours.LoopStats, "loop_stats", self._on_stats, profile),
            (ours.LearnerStatus, "learner_status", self._on_learner, qos.LATCHED_IN),
            (ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN),
        ):
            node.create_subscription(kind, topic, heard, quality)
        for name in self._contract.images[:1]:
            topic = self._contract.camera(name).topic
            node.create_subscription(
                Image, topic, self._on_image, qos.sensor("realtime", 2), raw=True
            )
        if self._closes:
            self._closed_out = node.create_publisher(
                ours.EpisodeRecorded, "episode_recorded", profile
            )
        began = said = time.monotonic()
        while len(self.ticks) < wanted:
            executor.spin_once(timeout_sec=0.2)
            now = time.monotonic()
            if not self.ticks and now - began > _PATIENCE_S:
                print("no tick beside a learning learner; see the run's logs", file=sys.stderr)
                break
            if now - said > 30:
                said = now
                print(f"  {len(self.ticks)} of {wanted} ticks", file=sys.stderr, flush=True)
        done()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)

    def _on_step(self, msg: ours.PolicyStep, info: dict[str, int]) -> None:
        if not msg.is_last and self._learning_from and msg.episode >= self._learning_from:
            stamp = conversions.stamp_from_msg(msg.header.stamp)
            camera = conversions.stamp_from_msg(msg.camera_stamp)
            self._asked[stamp] = (info["source_timestamp"], camera, msg.episode)

    def _on_command(self, msg: JointTrajectory, info: dict[str, int]) -> None:
        stamp = conversions.stamp_from_msg(msg.header.stamp)
        asked = self._asked.pop(stamp, None)
        if asked is not None:
            out, camera, episode = asked
            self.ticks.append((episode, stamp, camera, out, info["source_timestamp"]))

    def _on_image(self, raw: bytes, info: dict[str, int]) -> None:
        # Serialised: four bytes of encapsulation, then the header's stamp.
        sec, nanosec = struct.unpack_from("<iI", raw, 4)
        if len(self.captures_ms) < _CAPTURES and self.ticks:
            late = info["source_timestamp"] - (sec * 1_000_000_000 + nanosec)
            self.captures_ms.append(late / 1e6)

    def _on_stats(self, msg: ours.LoopStats) -> None:
        if self.ticks:
            self.stats.setdefault(msg.node, []).append(msg)

    def _on_state(self, msg: ours.EpisodeState) -> None:
        if msg.phase == Phase.RUNNING:
            self._running = msg.episode
        elif msg.phase == Phase.ENDED and self._closed_out is not None:
            self._closed_out.publish(
                ours.EpisodeRecorded(
                    run_id=self._closes,
                    episode=msg.episode,
                    ended_by=msg.ended_by,
                    steps=max(0, msg.credited_step + 1),
                    complete=True,
                )
            )

    def _on_learner(self, msg: ours.LearnerStatus) -> None:
        if self._updates_before is None:
            self._updates_before = msg.updates  # of the run that is continued
        if msg.updates <= self._updates_before:
            return
        if not self._learning_from:
            self._learning_from = self._running + 1  # whole episodes only
        used = self._cpu_s("learner"), self._cpu_s("recorder")
        self.updates.append((time.monotonic(), *used, msg.updates))


def spread(values: np.ndarray) -> dict[str, float]:
    """Return median, 99th percentile and largest."""
    if not len(values):
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    p50, p99 = np.percentile(values, (50, 99))
    named = {"p50": p50, "p99": p99, "max": values.max()}
    return {name: round(float(value), 2) for name, value in named.items()}


def lateness(rate_hz: int, ticks: np.ndarray) -> tuple[int, np.ndarray]:
    """Return how many commands were late, and the time between two of one episode [ms].

    Args:
        rate_hz: Control rate [1/s].
        ticks: As `Probe.ticks`, (n, 5).
    """
    gaps = np.diff(ticks[:, 4])[np.diff(ticks[:, 0]) == 0] / 1e6
    return int(np.maximum(0, np.rint(gaps * rate_hz / 1e3) - 1).sum()), gaps


def late_pct(late: int, gaps: int) -> float:
    """Return late commands over commands that were due [%]."""
    return round(100 * late / (gaps + late), 3)


def summary(rate_hz: int, observation: str, probe: Probe) -> dict[str, Any]:
    """Return what was measured at one rate; times in milliseconds."""
    ticks = np.array(probe.ticks, np.int64)
    _, stamp, camera, out, command = ticks.T
    late, gaps = lateness(rate_hz, ticks)
    stages = {
        "capture: camera stamp -> published": np.array(probe.captures_ms),
        "camera stamp -> base action published": (out - camera) / 1e6,
        "base action -> joint command published": (command - out) / 1e6,
        "camera stamp -> joint command published": (command - camera) / 1e6,
        "staleness: joint stamp -> base action": (out - stamp) / 1e6,
        "period, off by": np.abs(gaps - 1e3 / rate_hz),
    }
    rows = {name: spread(values) for name, values in stages.items() if len(values)}
    for node, said in probe.stats.items():
        for k, name in enumerate(said[-1].stages):
            rows[f"{node}: {name}"] = {
                "p50": round(float(np.median([m.p50_ms[k] for m in said])), 2),
                "p99": round(float(np.median([m.p99_ms[k] for m in said])), 2),
                "max": round(max(m.max_ms[k] for m in said), 2),
            }
    base = probe.stats.get("base_policy", [])
    first, last = probe.updates[0], probe.updates[-1]
    seconds = max(last[0] - first[0], 1e-9)
    return {
        "rate_hz": rate_hz,
        "observation": observation,
        "ticks": len(probe.ticks),
        "late": late,
        "late_pct": late_pct(late, len(gaps)),
        "dropped": int(base[-1].dropped - base[0].dropped) if base else 0,
        "learner_cpu_pct": round(100 * (last[1] - first[1]) / seconds),
        "recorder_cpu_pct": round(100 * (last[2] - first[2]) / seconds),
        "learner_updates_per_s": round((last[3] - first[3]) / seconds, 1),
        "stages_ms": rows,
    }


def show(row: dict[str, Any]) -> None:
    """Print the table of one rate."""
    print(
        f"\n{row['rate_hz']} Hz, {row['observation']}: {row['ticks']} ticks, {row['late']} late "
        f"({row['late_pct']} %), {row['dropped']} dropped; learner {row['learner_cpu_pct']} % of "
        f"a core, {row['learner_updates_per_s']} updates/s"
    )
    print(f"{'[ms]':42} {'p50':>8} {'p99':>8} {'max':>8}")
    for name, values in row["stages_ms"].items():
        print(f"{name:42} {values['p50']:8.2f} {values['p99']:8.2f} {values['max']:8.2f}")


def measure(rate_hz: int, observation: str, ticks: int) -> dict[str, Any] | None:
    """Run the graph at one rate; None where there was no tick."""
    print(f"{rate_hz} Hz, {observation}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="control_") as folder:
        site = Site(Path(folder), rate_hz, observation)
        bench = Bench(site, Path(folder) / "run")
        probe = Probe(site.contract, bench.cpu_s)
        thread = threading.Thread(target=probe.watch, args=(ticks, bench.stop), daemon=True)
        bench.run(thread)
        if not probe.ticks:
            bench.tell()
            return None
        return summary(rate_hz, observation, probe)


def write(path: Path, rows: list[dict[str, Any]], **more: Any) -> None:
    """Write what was measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "load_1min": os.getloadavg()[0],
        **more,
        "rows": rows,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> int:
    """Measure both rates; return 1 where one did not run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=10_000, help="at each rate")
    parser.add_argument("--rates", type=int, nargs="+", default=[rate for rate, _ in RUNS])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = []
    for rate, observation in RUNS:
        if rate in given.rates:
            row = measure(rate, observation, given.ticks)
            if row is None:
                return 1
            rows.append(row)
            show(row)
            write(given.out, rows)  # what is measured stays, whatever comes

    def p99(row: dict[str, Any], stage: str) -> float:
        return row["stages_ms"][f"{stage} -> joint command published"]["p99"]

    worse = max(rows, key=lambda row: (row["late_pct"], p99(row, "base action")))
    print(
        f"control: rate_hz={worse['rate_hz']} ticks={min(row['ticks'] for row in rows)} "
        f"late_pct={worse['late_pct']} "
        f"residual_p99_ms={max(p99(row, 'base action') for row in rows)} "
        f"camera_to_command_p99_ms={max(p99(row, 'camera stamp') for row in rows)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
