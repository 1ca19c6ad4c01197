"""What `control_loop.py` and `control_recording.py` run.

The graph of `train` in real time, its learner always at work.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import yaml

from resfit_bringup import graph, run
from resfit_bringup.rules import Outcome
from resfit_bringup.run_dir import open_run
from resfit_bringup.supervisor import Supervisor
from resfit_core.action_space import ActionSpace
from resfit_core.base.act import Act, ActConfig, fields_of
from resfit_core.base.checkpoint import freeze
from resfit_core.contract import Contract, load_contract

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config"
_REACH_RAD = 0.05  # the base moves the joints so little about their start: no episode ends early
_EPISODE_S = 10.0
# More updates are owed than ever can be made: the learner never rests.
_LEARNER = {
    "utd": 1000.0,
    "critic_warmup_updates": 100,
    "demo_fraction": 0.0,
    "warmup_episodes": 1,
}


class Site:
    """Configuration and base policy of one control rate; runs are made from it.

    Attributes:
        contract: Of this rate.
    """

    def __init__(self, folder: Path, rate_hz: int, observation: str) -> None:
        """Write configuration and base policy into `folder`.

        Args:
            folder: Empty; of this site alone.
            rate_hz: Control rate [1/s], put into copies of robot and task.
            observation: `state` or `pixels`.
        """
        for file in (CONFIG / "robot").glob("vega_1*.yaml"):
            shutil.copy(file, folder)
        robot, task = folder / "vega_1.yaml", folder / "task.yaml"
        shipped = yaml.safe_load((CONFIG / "task/woolly_ball_pnp.yaml").read_text())
        shipped["horizon_steps"] = round(_EPISODE_S * rate_hz)
        task.write_text(yaml.safe_dump(shipped))
        text = robot.read_text()
        robot.write_text(text.replace("control_rate_hz: 20", f"control_rate_hz: {rate_hz}"))
        self.contract = load_contract(robot, task, observation)
        base = folder / "base.safetensors"
        make_base(base, self.contract)
        name = "pixels" if observation == "pixels" else "default"
        learning = yaml.safe_load((CONFIG / f"train/{name}.yaml").read_text())
        train = folder / "train.yaml"
        train.write_text(yaml.safe_dump({**learning, **_LEARNER}))
        self._arguments = {
            "robot": str(robot),
            "task": str(task),
            "observation": observation,
            "clock": "realtime",
            "base": str(base),
            "demos": str(CONFIG / "shipped/woolly_ball_pnp/demos"),
            "train_config": str(train),
            "episodes": "100000",
            "evaluate_episodes": "0",
            "wait_for_learner": "false",
            "report": "false",
            "keyboard": "false",
        }

    def plan(self, run_dir: Path, record: str) -> graph.Plan:
        """Return what `Bench` starts.

        Args:
            run_dir: Folder of the run, new or to be continued.
            record: As the argument of `resfit run`; empty: without the recorder.
        """
        given = {**self._arguments, "run_dir": str(run_dir), "record": record or "none"}
        plan = graph.resolve("train", given)
        # Demonstrations of this very contract do not exist; the learner does without.
        nodes = tuple(
            dataclasses.replace(node, parameters={**node.parameters, "demos": ""})
            if node.name == "learner"
            else node
            for node in plan.nodes
            if record or node.name != "recorder"
        )
        return dataclasses.replace(plan, nodes=nodes)


class Bench:
    """One run of the graph."""

    def __init__(self, site: Site, run_dir: Path, record: str = "numbers") -> None:
        """Make or continue the run's folder; arguments as those of `Site.plan`."""
        plan = site.plan(run_dir, record)
        hashes = {
            "robot": site.contract.robot,
            "task": site.contract.task,
            "contract_sha256": site.contract.sha256,
            "base_sha256": "",
        }
        self.folder = open_run(plan, hashes)
        self._supervisor = Supervisor(
            run.commands(plan, self.folder), self.folder / "logs", self, plan.finisher
        )

    def run(self, probe: threading.Thread) -> Outcome:
        """Run the graph, and beside it `probe`, until the latter calls `stop`."""
        probe.start()
        outcome = self._supervisor.run()
        probe.join()
        return outcome

    def stop(self) -> None:
        """End the run; called by the probe's thread."""
        self._supervisor.stop(Outcome(0, "measured enough"))

    def cpu_s(self, name: str) -> float:
        """Return the CPU time that a node of `resfit_residual` has used so far [s]; 0: no such."""
        folder, executable = str(self.folder).encode(), f"resfit_residual/{name}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes()
                if folder in words and executable in words:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue  # it ended meanwhile
        return 0.0

    def tell(self) -> None:
        """Print how every node's log ends."""
        for log in sorted((self.folder / "logs").glob("*.log")):
            print(f"{log.name}: {log.read_text()[-400:]}", file=sys.stderr)

    # --- the supervisor's listener -------------------------------------------------------------

    def line(self, name: str, text: str) -> None:
        """Take one line of a node's output; they are in the run's logs."""

    def event(self, name: str, text: str) -> None:
        """Say what the supervisor did."""
        print(f"  {name}: {text}", file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Do nothing."""


def make_base(path: Path, contract: Contract) -> None:
    """Write an untrained base of the shipped architecture that stays near the robot's start.

    It costs what a trained one costs, and sees images where the contract has some.
    """
    driver = yaml.safe_load((CONFIG / "robot/vega_1.driver.yaml").read_text())
    start = np.array(driver["fake"]["start_rad"], np.float64)
    space = ActionSpace(start - _REACH_RAD, start + _REACH_RAD)
    config = ActConfig(
        fields_of(contract.layout),
        contract.action_dim,
        cameras=len(contract.images),
        image_size=contract.image_size,
    )
    freeze(path, Act(config), space, contract, {"made_by": "benchmarks/control_loop.py"})
