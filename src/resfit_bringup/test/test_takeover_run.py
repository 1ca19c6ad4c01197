"""The twin's expert takes over as a person would, through every node, to the learner's buffer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")

from resfit_bringup import paths
from resfit_bringup.errors import UsageError
from resfit_core.contract import load_contract
from resfit_core.control.records import Source
from resfit_core.data.bag_reader import read_episodes
from resfit_ros.testing import domain

pytestmark = pytest.mark.launch
CONFIG = Path(__file__).parents[3] / "config"


def test_a_persons_steps_go_from_the_driver_to_the_demo_half(tmp_path):
    try:
        paths.executable("resfit_sim", "expert_teleop")
    except UsageError as error:
        pytest.skip(str(error))
    run_dir, extra = tmp_path / "run", tmp_path / "extra.yaml"
    extra.write_text(
        "expert_teleop: {ros__parameters: {takeover_share: 1.0, takeover_steps: 30}}\n"
        "vega_driver: {ros__parameters: {deadman_timeout_s: 10.0}}\n"
    )
    with domain() as number:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(number)}
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        done = subprocess.run(
            [
                sys.executable, "-m", "resfit_bringup.main", "run", "train", "episodes:=4",
                "warmup_episodes:=4", "evaluate_episodes:=0", "evaluate_seeds:=0",
                "report:=false", "keyboard:=false", "teleop:=expert", f"params_file:={extra}",
                f"run_dir:={run_dir}",
            ],
            env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    contract = load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml")
    driven, taken_over = 0, []
    for recorded in read_episodes(run_dir):
        episode = recorded.to_episode(contract)
        steps = np.flatnonzero(episode.intervention)
        taken_over.append(len(steps) > 0)
        if not len(steps):
            continue
        # One stretch, begun before step 40; the policy drives before it and after it.
        assert 0 < steps[0] < 45
        assert len(steps) == steps[-1] - steps[0] + 1
        assert not np.array_equal(episode.proposed[steps], episode.action[steps])
        # The base goes on proposing, anew after each step that the person drove.
        np.testing.assert_array_equal(episode.chunk_phase[steps + 1], 0)
        moved = np.abs(np.diff(recorded.action_rad, axis=0))
        assert np.all(moved <= contract.velocity * contract.period_s * (1 + 1e-6))
        assert set(np.unique(recorded.source)) <= {Source.POLICY, Source.TELEOP}
        driven += len(steps)
    # Nobody waits for a person: the first episodes may be over before the expert has come up.
    assert len(taken_over) == 4
    assert taken_over[2:] == [True, True]
    lines = [json.loads(line) for line in (run_dir / "learner.jsonl").read_text().splitlines()]
    shipped = read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos")
    demonstrated = sum(e.steps for e in shipped if e.verdict.success)
    newest = [line for line in lines if line["episodes"] == 4][-1]
    assert newest["demo_steps"] == demonstrated + driven
