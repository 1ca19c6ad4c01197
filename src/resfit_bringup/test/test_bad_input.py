"""Bad input through the real command line and the real files that are shipped.

Each is one line on stderr that names value and fix, exit code 2, and nothing was made or changed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for module in ("torch", "honcho"):
    pytest.importorskip(module, reason=f"{module} is not installed ('make setup' installs it)")

CONFIG = Path(__file__).resolve().parents[3] / "config"
SHIPPED = CONFIG / "shipped" / "woolly_ball_pnp"


def resfit(*words, cwd):
    """Run the `resfit` command as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "resfit_bringup.main", *words],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def tree(folder):
    """Return every file below a folder with its bytes."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edited(tmp_path, kind, name, old, new):
    """Write a copy of a shipped YAML with one thing changed."""
    text = (CONFIG / kind / f"{name}.yaml").read_text()
    assert old in text
    copy = tmp_path / f"my_{kind}.yaml"
    copy.write_text(text.replace(old, new, 1))
    return copy


def wrong_joint_count(tmp_path):
    line = next(
        x for x in (CONFIG / "robot" / "vega_1.yaml").read_text().splitlines(keepends=True)
        if x.strip().startswith("head_j3:")
    )  # fmt: skip
    robot = edited(tmp_path, "robot", "vega_1", line, "")
    return [f"robot:={robot}"], ["moves 29 joints", "has 28", "robot:="]


def unknown_key_of_the_robot(tmp_path):
    robot = edited(tmp_path, "robot", "vega_1", "control_rate_hz:", "control_rate:")
    return [f"robot:={robot}"], [str(robot), "'control_rate'", "'control_rate_hz'"]


def unknown_key_of_the_task(tmp_path):
    task = edited(tmp_path, "task", "woolly_ball_pnp", "horizon_steps:", "horizon:")
    files = [f"base:={SHIPPED / 'base_state.safetensors'}", f"demos:={SHIPPED / 'demos'}"]
    return [f"task:={task}", *files], [str(task), "'horizon'", "'horizon_steps'"]


def unknown_key_of_the_learning_settings(tmp_path):
    train = edited(tmp_path, "train", "default", "batch_size:", "batch_sise:")
    return [f"train_config:={train}"], [str(train), "batch_sise", "batch_size"]


def base_of_another_contract(tmp_path):
    robot = edited(tmp_path, "robot", "vega_1", "control_rate_hz: 20", "control_rate_hz: 10")
    return [f"robot:={robot}"], ["base policy", "contract", "make base"]


def truncated_base(tmp_path):
    base = tmp_path / "base.safetensors"
    whole = (SHIPPED / "base_state.safetensors").read_bytes()
    base.write_bytes(whole[: len(whole) // 2])
    return [f"base:={base}"], [str(base), f"{len(whole) // 2} bytes", "again"]


def truncated_demo_bag(tmp_path):
    demos = tmp_path / "demos"
    name = "episode_000001"
    shutil.copytree(SHIPPED / "demos" / name, demos / name)
    bag = demos / name / f"{name}.mcap"
    bag.write_bytes(bag.read_bytes()[:-100])
    return [f"demos:={demos}"], [str(bag), "damaged", "make demos"]


def unknown_argument(tmp_path):
    return ["epizodes:=3"], ["'epizodes'", "episodes:="]


def value_of_another_kind(tmp_path):
    return ["episodes:=-3"], ["episodes:=-3", "at least 0"]


@pytest.mark.parametrize(
    "spoil",
    [
        wrong_joint_count,
        unknown_key_of_the_robot,
        unknown_key_of_the_task,
        unknown_key_of_the_learning_settings,
        base_of_another_contract,
        truncated_base,
        truncated_demo_bag,
        unknown_argument,
        value_of_another_kind,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_is_said_in_one_line(tmp_path, spoil):
    words, parts = spoil(tmp_path)
    before = tree(tmp_path)
    done = resfit("run", "train", *words, "run_dir:=runs/a", "keyboard:=false", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("resfit: ")
    for part in parts:
        assert part in done.stderr, part
    assert tree(tmp_path) == before
    assert not (tmp_path / "runs").exists()
