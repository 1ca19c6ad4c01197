"""From a killed learner to its next update, with a large replay.

    tools/env.sh python benchmarks/resume.py              # 50,000 stored steps

The learner's node as a process, alone. A checkpoint with the steps is made first, with bags of the
same episodes beside it, as a run has them. The node is killed while it learns and started again as
the front end does it. The time goes from the SIGKILL to the first update counted by the new
process; the state that it loads is compared by hash with the state that was saved.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from resfit_core import tensorfile
from resfit_core.algorithms.config import TrainConfig
from resfit_core.base.checkpoint import load_base
from resfit_core.build import build_learner
from resfit_core.contract import load_contract
from resfit_core.data.episode import TRAIN, Episode
from resfit_core.learner import Learner

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config"
TASK = "woolly_ball_pnp"
_BACKOFF_S = 0.5  # as resfit_bringup.rules.Limits
_STEPS = 100  # of one episode


def make_learner(config: TrainConfig) -> tuple[Learner, Any]:
    """Return the learner of the shipped task, and its contract."""
    contract = load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / f"task/{TASK}.yaml", "state")
    base = load_base(str(CONFIG / f"shipped/{TASK}/base_state.safetensors"), contract)
    return build_learner(config, contract, base), contract


def fill(learner: Learner, steps: int) -> None:
    """Take in episodes of random numbers until so many steps are stored."""
    rng = np.random.default_rng(0)
    for number in range(1, steps // _STEPS + 1):
        learner.add_episode(
            Episode(
                observation=rng.normal(size=(_STEPS + 1, learner.obs_dim)),
                base_action=rng.uniform(-1, 1, (_STEPS + 1, learner.act_dim)),
                chunk_phase=np.zeros(_STEPS + 1),
                action=rng.uniform(-1, 1, (_STEPS, learner.act_dim)),
                reward=np.eye(_STEPS)[-1],
                terminated=True,
                truncated=False,
                success=True,
                intervention=np.zeros(_STEPS),
                explored=np.zeros(_STEPS),
                episode=number,
                mode=TRAIN,
                contract_sha256=learner.contract_sha256,
                base_sha256=learner.base_sha256,
            )
        )


def lay_bags(run_dir: Path, episodes: int) -> None:
    """Lay a bag beside each episode of the checkpoint: the shipped one, under each number."""
    source = CONFIG / f"shipped/{TASK}/demos/episode_000001"
    manifest = json.loads((source / "manifest.json").read_text())
    for number in range(1, episodes + 1):
        folder = run_dir / "episodes" / f"episode_{number:06d}"
        folder.mkdir(parents=True)
        os.link(_copy(source / manifest["bag_file"], run_dir), folder / manifest["bag_file"])
        text = json.dumps({**manifest, "episode": number, "complete": True, "revision": 0})
        (folder / "manifest.json").write_text(text)


def _copy(source: Path, folder: Path) -> Path:
    target = folder / source.name
    if not target.exists():
        shutil.copy(source, target)
    return target


def start(run_dir: Path, train: Path) -> subprocess.Popen:
    """Start the learner's node as the front end does."""
    parameters = {
        "robot_file": CONFIG / "robot/vega_1.yaml",
        "task_file": CONFIG / f"task/{TASK}.yaml",
        "base": CONFIG / f"shipped/{TASK}/base_state.safetensors",
        "train_config": train,
        "run_dir": run_dir,
    }
    words = [w for name, value in parameters.items() for w in ("-p", f"{name}:={value}")]
    node = ROOT / "install/lib/resfit_residual/learner"
    return subprocess.Popen([sys.executable, str(node), "--ros-args", *words])


class Ear:
    """Hears the learner's status."""

    def __init__(self) -> None:
        """Listen in a context of its own."""
        import rclpy

        from resfit_interfaces.msg import LearnerStatus
        from resfit_ros import qos

        rclpy.init()
        self._spin_once = rclpy.spin_once
        self._node = rclpy.create_node("bench_resume")
        self._updates, self._since_s = -1, 0.0
        self._node.create_subscription(LearnerStatus, "learner_status", self._hear, qos.LATCHED_IN)

    def _hear(self, status: Any) -> None:
        sent_s = status.header.stamp.sec + status.header.stamp.nanosec * 1e-9
        # Not the last words of the killed one, nor what comes before anything is loaded.
        if sent_s > self._since_s and status.online_steps:
            self._updates = int(status.updates)

    def wait_for_more_than(self, updates: int, process: subprocess.Popen, limit_s: float) -> None:
        """Return when a status counts more updates.

        Raises:
            RuntimeError: The learner left, or it took too long.
        """
        until, self._updates, self._since_s = time.monotonic() + limit_s, -1, time.time()
        while self._updates <= updates:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no update after {updates}: the learner does not come up")
            self._spin_once(self._node, timeout_sec=0.05)


def state_hash(learner: Learner) -> str:
    """Return one hash over nets, counters and replay."""
    weights = tensorfile.sha256(learner.weights_bytes(1))
    return tensorfile.sha256(f"{weights} {learner.updates} {learner.replay.sha256()}".encode())


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50_000, help="stored steps")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    config = TrainConfig.from_yaml(CONFIG / "train/default.yaml")
    config = config.replace(replay_capacity=max(config.replay_capacity, 2 * given.steps))
    with tempfile.TemporaryDirectory(prefix="resfit_resume_") as name:
        run_dir = Path(name) / "run"
        train = Path(name) / "train.yaml"
        run_dir.mkdir()
        train.write_text(yaml.safe_dump(config.to_dict()))
        learner, _ = make_learner(config)
        fill(learner, given.steps)
        learner.train(max_updates=5)
        learner.save(run_dir / "checkpoints", keep=3)
        lay_bags(run_dir, given.steps // _STEPS)
        saved, updates = state_hash(learner), learner.updates
        loaded, _ = make_learner(config)
        loaded.load(run_dir / "checkpoints")
        same = state_hash(loaded) == saved
        ear, times = Ear(), []
        process = start(run_dir, train)
        try:
            ear.wait_for_more_than(updates, process, 300)
            for _ in range(given.repeats):
                # It has saved nothing since: the checkpoint comes every ten episodes.
                begin = time.monotonic()
                process.send_signal(signal.SIGKILL)
                process.wait()
                time.sleep(_BACKOFF_S)
                process = start(run_dir, train)
                ear.wait_for_more_than(updates, process, 300)
                times.append(time.monotonic() - begin)
                print(f"killed learner to its next update: {times[-1]:.1f} s", flush=True)
        finally:
            process.kill()
            process.wait()
    result = {
        "seconds": round(sorted(times)[len(times) // 2], 1),
        "steps": given.steps,
        "same_hash": "yes" if same else "no",
        "all_s": [round(t, 1) for t in times],
        "load_average": os.getloadavg()[0],
    }
    (ROOT / "benchmarks/results/resume.json").write_text(json.dumps(result, indent=1) + "\n")
    print("resume: " + " ".join(f"{k}={result[k]}" for k in ("seconds", "steps", "same_hash")))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
