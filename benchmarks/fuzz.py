"""Fuzz: messages of random length, value, stamp and order on every topic that a node hears.

    make fuzz                                  # 10 minutes
    make fuzz ARGS="--seconds 20 --seed 3"

Half of the time the driver, half of it every other node (`fuzz_nodes.py`).
The driver node in real time on the fake robot, over DDS, in this process: an exception in any
callback is a crash, a target outside the contract's limits that reaches the robot is counted, and
so is a robot that no sound command moves afterwards. Results:
benchmarks/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fuzz_nodes
import numpy as np
from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from resfit_interfaces.msg import OperatorEvent
from resfit_ros import conversions, qos
from resfit_ros.testing import graph
from resfit_vega_driver.fault_rig import Rig

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/fuzz.json"
ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 1e9, -1e9, 3.2, -3.2)
SEC_MIN, SEC_MAX = -(2**31), 2**31 - 1


class Mess:
    """Random messages, repeatable by seed."""

    def __init__(self, seed: int, names: tuple[str, ...], start: np.ndarray) -> None:
        """Take what a sound message looks like; a fair share is nearly sound."""
        self._rng = np.random.default_rng(seed)
        self._names, self._start = list(names), start

    def positions(self) -> list[float]:
        """Return a vector of nearly the right length and value, or of neither."""
        rng = self._rng
        count = len(self._names)
        if rng.random() < 0.4:
            count = int(rng.choice([0, 1, 5, 28, 30, 58, 300]))
        values = np.resize(self._start, count) + rng.normal(
            0, rng.choice([0, 0.01, 1, 1e6]), count
        )
        for index in rng.integers(0, max(count, 1), int(rng.integers(0, 4))):
            if index < count:
                values[index] = rng.choice(ODD)
        return [float(v) for v in values]

    def names(self) -> list[str]:
        """Return joint names: right, exchanged, cut, doubled or nonsense."""
        rng, names = self._rng, list(self._names)
        kind = rng.integers(0, 6)
        if kind == 1:
            rng.shuffle(names)
        elif kind == 2:
            names = names[: int(rng.integers(0, len(names)))]
        elif kind == 3:
            names = names + names
        elif kind == 4:
            names[int(rng.integers(0, len(names)))] = str(
                rng.choice(["", "x" * 200, "\u00fc", "/"])
            )
        return [str(name) for name in names]

    def stamp(self, msg: Any) -> Any:
        """Give a message with a header a stamp: now, a bit off, or anywhere."""
        rng, now = self._rng, time.time_ns()
        kind = rng.integers(0, 4)
        if kind == 0:
            msg.header.stamp = conversions.stamp_to_msg(now)
        elif kind == 1:
            msg.header.stamp = conversions.stamp_to_msg(now + int(rng.normal(0, 2e8)))
        elif kind == 2:
            msg.header.stamp.sec = int(rng.integers(SEC_MIN, SEC_MAX, endpoint=True))
            msg.header.stamp.nanosec = int(rng.integers(0, 2**32))
        return msg

    def trajectory(self) -> JointTrajectory:
        """Return a command."""
        points = int(self._rng.choice([1, 1, 1, 1, 0, 2, 50]))
        return self.stamp(
            JointTrajectory(
                joint_names=self.names(),
                points=[JointTrajectoryPoint(positions=self.positions()) for _ in range(points)],
            )
        )

    def joints(self) -> JointState:
        """Return a joint state."""
        msg = JointState(name=self.names(), position=self.positions(), velocity=self.positions())
        return self.stamp(msg)

    def wrench(self) -> WrenchStamped:
        """Return a wrench."""
        values = self._rng.choice([0.0, 1.0, 89.0, 91.0, *ODD], 6)
        return self.stamp(conversions.wrench_to_msg(0, values))

    def press(self) -> OperatorEvent:
        """Return a press; every kind there is and some there are not."""
        kind = int(self._rng.choice([*range(14), 255]))
        event = OperatorEvent(kind=kind, source=str(self._rng.choice(["", "fuzz", "keyboard"])))
        event.episode = int(self._rng.integers(0, 2**32))
        return self.stamp(event)


def main() -> int:
    """Fuzz; return 1 where something crashed, left its limits or never came back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help="fake, twin: the driver with this client; or a node's name"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        others = list(fuzz_nodes.nodes(ROOT, Path(folder)))
        share = given.seconds / 2
        jobs = {kind: share / 2 for kind in ("fake", "twin")}
        jobs |= {name: share / len(others) for name in others}
        if given.only:
            if given.only not in jobs:
                print(f"--only must be one of {', '.join(jobs)}", file=sys.stderr)
                return 2
            jobs = {given.only: given.seconds}
        total = {"messages": 0, "crashes": 0, "outside_limits": 0}
        rows = {}
        for index, (name, seconds) in enumerate(jobs.items()):
            seed = given.seed + index
            rows[name] = (
                fuzz(name, seconds, seed)
                if name in ("fake", "twin")
                else fuzz_nodes.fuzz(ROOT, name, seconds, seed, Path(folder))
            )
            total = {key: total[key] + rows[name].get(key, 0) for key in total}
            what = f"driver with client '{name}'" if name in ("fake", "twin") else name
            print(f"  {what}: {rows[name]}", file=sys.stderr, flush=True)
    stuck = sum(row.get("stuck", 0) for row in rows.values())
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result = {**total, "stuck": stuck, "seconds": given.seconds, "seed": given.seed, "rows": rows}
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print("fuzz: " + " ".join(f"{key}={value}" for key, value in total.items()))
    return int(total["crashes"] + total["outside_limits"] + stuck > 0)


def fuzz(client: str, seconds: float, seed: int) -> dict[str, int]:
    """Fuzz one driver; return messages, crashes, targets outside limits, and whether it is stuck.

    With the fake robot sound joint states come beside the mess; with the topics of the twin the
    joint states and wrenches are a mess themselves.
    """
    found = {"messages": 0, "crashes": 0, "outside_limits": 0, "stuck": 0}
    with graph() as made:
        rig = Rig(made, ROOT / "config", client=client)
        mess = Mess(seed, rig.contract.joint_names, rig.start)
        node = made.probe("fuzz")
        hears = {
            "policy_command": (JointTrajectory, mess.trajectory),
            "operator_event": (OperatorEvent, mess.press),
        }
        if client == "twin":
            hears["joint_states"] = (JointState, mess.joints)
            for name in rig.contract.wrenches:
                hears[f"{name}/wrench"] = (WrenchStamped, mess.wrench)
        outs = [
            (node.create_publisher(kind, topic, qos.reliable(10)), make)
            for topic, (kind, make) in hears.items()
        ]
        made.connected(node, *hears)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for publisher, make in outs:
                publisher.publish(make())
                found["messages"] += 1
            try:
                made.spin_until(_after(0.002), timeout_s=1.0)
            except Exception as error:
                found["crashes"] += 1
                made._error = None
                print(f"  {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            found["outside_limits"] += rig.take_outside()
        # A driver that refuses everything for ever would pass all this too.
        found["stuck"] = int(rig.settle(400) is None)
    return found


def _after(seconds: float) -> Any:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


if __name__ == "__main__":
    sys.exit(main())
