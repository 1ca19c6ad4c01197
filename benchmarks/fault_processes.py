"""Process faults of the fault matrix: nodes killed and stopped before a living driver.

`base_policy` and `residual_policy` see the shipped task's numbers; `zed_camera` plays pictures to
them where it is the one hurt; and the real `episode_manager` runs episodes of a second and a half
where it is. What has no process here is played by `Graph`. Part of `make bench-faults`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseArray
from sensor_msgs.msg import JointState

from resfit_core.contract import Contract, load_contract
from resfit_core.control.press import Press
from resfit_core.control.records import EpisodeState, Mode, Phase
from resfit_core.control.safety import Reason
from resfit_interfaces import msg as ours
from resfit_ros import conversions, qos
from resfit_ros.dds import use_profile
from resfit_ros.testing import graph

NODES = ("base_policy", "residual_policy", "zed_camera", "episode_manager")
SIGNALS = {"sigkill": signal.SIGKILL, "sigstop": signal.SIGSTOP}
_PACKAGE = {
    "base_policy": "resfit_base",
    "residual_policy": "resfit_residual",
    "vega_driver": "resfit_vega_driver",
    "zed_camera": "resfit_vega_driver",
    "episode_manager": "resfit_reward",
}
_START_S = 90.0  # torch on a loaded machine
_SOUND = 5  # commands carried out in a row before the fault
_OBJECTS = ((0.5, -0.25, 0.735), (0.52, 0.16, 0.70))
_SHORT = 30  # steps of an episode of the real manager
_PICTURES = 40
_ENVIRONMENT = dict(os.environ)  # with the profile of ordinary nodes


class Graph:
    """Driver on the fake robot and the nodes before it as processes; the rest is played here."""

    def __init__(self, root: Path, made: Any, folder: Path, hurt: str) -> None:
        """Start everything that the tries of node `hurt` need."""
        config = root / "config"
        task = config / "task/woolly_ball_pnp.yaml"
        base = str(config / "shipped/woolly_ball_pnp/base_state.safetensors")
        self._managed, pixels = hurt == "episode_manager", hurt == "zed_camera"
        if self._managed:
            short = folder / "task.yaml"
            lines = task.read_text().splitlines(keepends=True)
            lines = [ln for ln in lines if not ln.startswith("horizon_steps")]
            short.write_text("".join([*lines, f"horizon_steps: {_SHORT}\n"]))
            task = short
        if self._managed or pixels:
            base = "fault_cameras:nodding_base"  # the shipped one is for the shipped contract
        files = {"robot_file": str(config / "robot/vega_1.yaml"), "task_file": str(task)}
        if pixels:
            files["observation"] = "pixels"
        self.contract = load_contract(*files.values())
        train = config / f"train/{'pixels' if pixels else 'default'}.yaml"
        residual = {"base": base, "train_config": str(train)}
        tick = {**files, "clock": "realtime"}
        self._parameters = {
            "vega_driver": {**tick, "client": "fake", "base": base},
            "base_policy": {**tick, "base": base},
            "residual_policy": {**files, **residual, "run_dir": str(folder)},
        }
        if pixels:
            write_pictures(folder / "pictures")
            source = {"source": "file", "file": str(folder / "pictures")}
            self._parameters["zed_camera"] = {**files, **source}
        if self._managed:
            self._parameters["episode_manager"] = {
                **tick, "run_dir": str(folder / f"run_{time.time_ns()}"), "mode": "demo",
                "episodes": 10_000, "auto_start": False, "wait_for_learner": False,
            }  # fmt: skip
        self._root, self._made, self._logs = root, made, folder
        self._processes: dict[str, subprocess.Popen] = {}
        self._node = made.probe("bench")
        self.answers: list[tuple[float, ours.ExecutedCommand, float]] = []
        """When an answer came [s], the answer, and how old its observation was then [s]."""
        self._episode, self._phase, self._running = 0, Phase.IDLE, 0
        self._poses = self._node.create_publisher(
            PoseArray, "object_poses", qos.sensor("realtime")
        )
        self._keep = [
            self._node.create_subscription(
                ours.ExecutedCommand, "executed_command", self._on_answer, qos.reliable(400)
            ),
            self._node.create_subscription(
                JointState, "joint_states", self._on_joints, qos.sensor("realtime")
            ),
        ]
        if self._managed:
            self._recorded = self._node.create_publisher(
                ours.EpisodeRecorded, "episode_recorded", qos.reliable(100)
            )
            self._button = self._node.create_publisher(
                ours.OperatorEvent, "operator_event", qos.reliable(100)
            )
            self._keep += [
                self._node.create_subscription(
                    ours.EpisodeState, "episode_state", self._on_state, qos.LATCHED_IN
                ),
                self._node.create_timer(0.2, self._be_operator_and_recorder),
            ]
        else:
            self._state = self._node.create_publisher(
                ours.EpisodeState, "episode_state", qos.LATCHED
            )
        for name in self._parameters:
            self.start(name)

    def start(self, name: str) -> None:
        """Start one node as a process."""
        command = [str(self._root / f"install/lib/{_PACKAGE[name]}/{name}"), "--ros-args"]
        for key, value in self._parameters[name].items():
            command += ["-p", f"{key}:={value}"]
        log = (self._logs / f"{name}.log").open("a")
        here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {
            **_ENVIRONMENT,
            "ROS_DOMAIN_ID": str(self._made.domain_id),
            "PYTHONPATH": here,
            "OMP_NUM_THREADS": "1",
        }
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
        if self._managed:
            # One runs out in time first: episodes aborted one after another would end the run.
            number = self._running
            begun = self._made.spin_until(lambda: self._running > number + 1, timeout_s=_START_S)
            self.answers.clear()
            return begun and self._made.spin_until(self._sound, timeout_s=5.0)
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
        last = [m.source for _, m, _ in self.answers[-_SOUND:]]
        return len(last) == _SOUND and all(s == ours.ExecutedCommand.POLICY for s in last)

    def _on_answer(self, msg: ours.ExecutedCommand) -> None:
        age_ns = time.time_ns() - conversions.stamp_from_msg(msg.header.stamp)
        self.answers.append((time.monotonic(), msg, age_ns / 1e9))

    def _on_state(self, msg: ours.EpisodeState) -> None:
        self._running += msg.phase == Phase.RUNNING != self._phase
        self._phase, self._episode, self._run_id = msg.phase, msg.episode, msg.run_id

    def _be_operator_and_recorder(self) -> None:
        presses = {Phase.IDLE: Press.START, Phase.RESETTING: Press.RESET_DONE}
        presses |= {Phase.PAUSED: Press.START, Phase.READY: Press.RESET_DONE}
        if self._phase in presses:
            event = ours.OperatorEvent(kind=int(presses[self._phase]), source="keyboard")
            event.episode = self._episode
            self._button.publish(event)
        elif self._phase == Phase.ENDED:
            self._recorded.publish(
                ours.EpisodeRecorded(
                    run_id=self._run_id, episode=self._episode, steps=1, uri="none", complete=True
                )
            )

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


def write_pictures(folder: Path) -> None:
    """Write what the camera plays: both eyes side by side, no two pictures alike."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(_PICTURES):
        picture = rng.integers(0, 256, (9, 32, 3), np.uint8)
        large = picture.repeat(40, axis=0).repeat(40, axis=1)
        cv2.imwrite(str(folder / f"{number:03}.jpg"), large)


def described(root: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of each case before it is tried; see `fault_book`."""
    config = root / "config"
    contract = load_contract(config / "robot/vega_1.yaml", config / "task/woolly_ball_pnp.yaml")
    return {
        f"{node}_{word}": {
            "kind": "process",
            "what": f"{node} gets {word.upper()}",
            "reason": "WATCHDOG",
            "robot": "acts until the episode's horizon and a second, then holds"
            if node == "episode_manager"
            else "holds",
            "limit_ms": round(1e3 * limit_s(node, contract)),
            "test": f"src/resfit_vega_driver/test/test_fault_processes.py::{node}-{word}",
        }
        for node in NODES
        for word in SIGNALS
    }


def limit_s(node: str, contract: Contract) -> float:
    """Return the longest time to hold of a node's fault, one period not counted in [s].

    From the last command on; of the camera, whose last image may still be used, from the fault.
    """
    camera = contract.max_observation_age_s if node == "zed_camera" else 0.0
    return contract.command_timeout_s + camera


def play(root: Path, names: Iterable[str], tries: int) -> Iterator[dict[str, Any]]:
    """Yield one entry for each try of these cases; see `fault_book`."""
    for node in NODES:
        words = [word for word in SIGNALS if f"{node}_{word}" in names]
        if not words:
            continue
        logs = root / "log/faults" / "_".join([node, *words])
        logs.mkdir(parents=True, exist_ok=True)
        use_profile("safe")  # a node that is stopped must not stop this one
        with graph() as made:
            bench = Graph(root, made, logs, node)
            try:
                for word in words:
                    for _ in range(tries):
                        yield {"case": f"{node}_{word}", **attempt(bench, node, word)}
            finally:
                bench.close()


def attempt(bench: Graph, node: str, word: str) -> dict[str, Any]:
    """Make one try; return what it showed."""
    contract = bench.contract
    if not bench.episode():
        print(f"{node} {word}: no sound command, see log/faults", file=sys.stderr, flush=True)
        return {"settled": False, "recovered": False}
    began = time.monotonic()
    bench.hurt(node, SIGNALS[word])
    if node == "episode_manager":
        # Nobody ends the episode: the base does, after its horizon and a second more.
        bench.spin((_SHORT + 1) * contract.period_s + 1.0)
    bench.spin(3 * contract.command_timeout_s)
    answers = list(bench.answers)
    last = max((k for k, (_, m, _) in enumerate(answers) if m.source == m.POLICY), default=-1)
    holds = [at for at, m, _ in answers[last + 1 :] if m.reasons & Reason.WATCHDOG]
    named = last >= 0 and bool(holds)
    to_hold_s = allowed_s = limit_s(node, contract) + contract.period_s
    moved = False
    if named:
        to_hold_s = holds[0] - (began if node == "zed_camera" else answers[last][0])
        held = answers[last][1].action_rad
        moved = any(m.action_rad != held for _, m, _ in answers[last + 1 :])
    bench.answers.clear()
    bench.heal(node, SIGNALS[word])
    if word == "sigstop":
        bench.spin(0.3)  # what queued up in the stopped process must move nobody
    most_s = contract.command_timeout_s + contract.period_s
    moved |= any(m.source == m.POLICY and age > most_s for _, m, age in bench.answers)
    return {
        "settled": True,
        "named": named,
        "to_hold_ms": round(1e3 * to_hold_s, 2) if named else None,
        "late": to_hold_s > allowed_s,
        "moved": moved,
        "outside": 0,
        "recovered": True,  # the next try begins with it
        "words": "",
    }
