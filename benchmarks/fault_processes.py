"""Process faults of the fault matrix: upstream nodes killed and stopped before a living driver."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import JointState

from resfit_core.contract import load_contract
from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_core.control.safety import Reason
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.testing import graph

UPSTREAM = ("base_policy", "residual_policy")
SIGNALS = {"sigkill": signal.SIGKILL, "sigstop": signal.SIGSTOP}
_PACKAGE = {
    "base_policy": "resfit_base",
    "residual_policy": "resfit_residual",
    "vega_driver": "resfit_vega_driver",
}
_START_S = 90.0  # torch on a loaded machine
_SOUND = 5  # commands carried out in a row before the fault
_OBJECTS = ((0.5, -0.25, 0.735), (0.52, 0.16, 0.70))


class Graph:
    """Driver on the fake robot, base and residual as processes; the rest is played here."""

    def __init__(self, root: Path, made: Any, run_dir: Path) -> None:
        """Start everything."""
        config = root / "config"
        files = {
            "robot_file": str(config / "robot/vega_1.yaml"),
            "task_file": str(config / "task/woolly_ball_pnp.yaml"),
        }
        self._contract = load_contract(*files.values())
        base = str(config / "shipped/woolly_ball_pnp/base_state.safetensors")
        residual = {"base": base, "train_config": str(config / "train/default.yaml")}
        self._parameters = {
            "vega_driver": {**files, "clock": "realtime", "client": "fake", "base": base},
            "base_policy": {**files, "clock": "realtime", "base": base},
            "residual_policy": {**files, **residual, "run_dir": str(run_dir)},
        }
        self._root, self._made, self._logs = root, made, run_dir
        self._processes: dict[str, subprocess.Popen] = {}
        self._node = made.probe("bench")
        self.answers: list[tuple[float, ours.ExecutedCommand]] = []
        self._episode = 0
        self._poses = self._node.create_publisher(
            PoseArray, "object_poses", qos.sensor("realtime")
        )
        self._state = self._node.create_publisher(ours.EpisodeState, "episode_state", qos.LATCHED)
        self._keep = [
            self._node.create_subscription(
                ours.ExecutedCommand,
                "executed_command",
                lambda m: self.answers.append((time.monotonic(), m)),
                qos.reliable(400),
            ),
            self._node.create_subscription(
                JointState, "joint_states", self._on_joints, qos.sensor("realtime")
            ),
        ]
        for name in self._parameters:
            self.start(name)

    def start(self, name: str) -> None:
        """Start one node as a process."""
        command = [str(self._root / f"install/lib/{_PACKAGE[name]}/{name}"), "--ros-args"]
        for key, value in self._parameters[name].items():
            command += ["-p", f"{key}:={value}"]
        log = (self._logs / f"{name}.log").open("a")
        environment = {**os.environ, "ROS_DOMAIN_ID": str(self._made.domain_id)}
        self._processes[name] = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    def hurt(self, name: str, number: int) -> None:
        """Send a signal to one node."""
        self._processes[name].send_signal(number)

    def heal(self, name: str, number: int) -> None:
        """Undo it: let it go on, or start it anew."""
        if number == signal.SIGSTOP:
            self._processes[name].send_signal(signal.SIGCONT)
        else:
            self._processes[name].wait()
            self.start(name)

    def episode(self) -> bool:
        """Begin an episode; return whether commands were carried out soon."""
        self._say(Phase.ENDED)
        self._episode += 1
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            self._say(Phase.RESETTING)
            self.spin(0.2)
            self.answers.clear()
            self._say(Phase.RUNNING)
            if self._made.spin_until(self._sound, timeout_s=5.0):
                return True
            self._say(Phase.ENDED)
            self._episode += 1
        return False

    def spin(self, seconds: float) -> None:
        """Let messages pass."""
        end = time.monotonic() + seconds
        self._made.spin_until(lambda: time.monotonic() > end, timeout_s=seconds + 1)

    def close(self) -> None:
        """End every process."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _sound(self) -> bool:
        last = [m.source for _, m in self.answers[-_SOUND:]]
        return len(last) == _SOUND and all(s == ours.ExecutedCommand.POLICY for s in last)

    def _on_joints(self, msg: Any) -> None:
        # Objects are seen at the very moments at which the joints are.
        poses = np.zeros((len(_OBJECTS), 7))
        poses[:, :3], poses[:, 6] = _OBJECTS, 1.0
        self._poses.publish(
            conversions.poses_to_msg(conversions.stamp_from_msg(msg.header.stamp), poses, "base")
        )

    def _say(self, phase: Phase) -> None:
        now = time.time_ns()
        state = EpisodeState(
            phase=phase,
            episode=self._episode,
            mode=Mode.EVALUATE,
            run_id="faults",
            use_residual=False,
            start_ns=now if phase == Phase.RUNNING else 0,
            reason="benchmark",
            stamp_ns=now,
        )
        self._state.publish(conversions.episode_state_to_msg(state))


def run(root: Path, tries: int, wanted: set[str]) -> list[dict[str, Any]]:
    """Return one row for each node and signal; as `faults.row_of`."""
    rows = []
    logs = root / "log/faults"
    logs.mkdir(parents=True, exist_ok=True)
    names = [(node, word) for node in UPSTREAM for word in SIGNALS]
    names = [(n, w) for n, w in names if not wanted or f"{n}_{w}" in wanted]
    if not names:
        return rows
    with graph() as made:
        bench = Graph(root, made, logs)
        try:
            for node, word in names:
                rows.append(_case(bench, node, word, tries))
        finally:
            bench.close()
    return rows


def _case(bench: Graph, node: str, word: str, tries: int) -> dict[str, Any]:
    contract = bench._contract
    limit_ms = 1e3 * contract.command_timeout_s
    allowed_ms = limit_ms + 1e3 * contract.period_s
    times, moved, unnamed, broken = [], 0, 0, 0
    for number in range(tries):
        if not bench.episode():
            broken += 1
            print(f"  {node} {word}: no sound command, see log/faults", file=sys.stderr)
            continue
        bench.hurt(node, SIGNALS[word])
        bench.spin(3 * contract.command_timeout_s)
        last = max(
            (k for k, (_, m) in enumerate(bench.answers) if m.source == m.POLICY), default=-1
        )
        holds = [(t, m) for t, m in bench.answers[last + 1 :] if m.reasons & Reason.WATCHDOG]
        if last < 0 or not holds:
            unnamed += 1
        else:
            times.append(1e3 * (holds[0][0] - bench.answers[last][0]))
            held = bench.answers[last][1].action_rad
            moved += any(m.action_rad != held for _, m in bench.answers[last + 1 :])
        bench.heal(node, SIGNALS[word])
        if number % 5 == 4:
            print(f"  {node} {word}: {number + 1} tries", file=sys.stderr, flush=True)
    return {
        "case": f"{node}_{word}",
        "kind": "process",
        "what": f"{node} gets {word.upper()}",
        "reason": "WATCHDOG",
        "robot": "holds",
        "limit_ms": round(limit_ms),
        "tries": len(times) + unnamed,
        "median_ms": round(statistics.median(times), 1) if times else None,
        "max_ms": round(max(times), 1) if times else None,
        "late": sum(t > allowed_ms for t in times),
        "moved_on_stale": moved,
        "unnamed": unnamed,
        "outside": 0,
        "not_recovered": broken,
        "test": "src/resfit_vega_driver/test/test_fault_processes.py",
    }


if __name__ == "__main__":
    rclpy.init()
    for line in run(Path(__file__).parents[1], 1, set()):
        print(line)
