"""A workspace of files as the graph expects them, without anything of the real one."""

import shutil
from pathlib import Path

import pytest
from made_up_files import make_base, make_demo

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A share folder with the real robot and task, made-up settings, checkpoint and demos."""
    from resfit_bringup import paths
    from resfit_core.contract import load_contract

    folder = tmp_path / "share"
    for kind in ("robot", "task", "gazebo"):
        shutil.copytree(REPOSITORY / "config" / kind, folder / "config" / kind)
    (folder / "config" / "train").mkdir()
    (folder / "config" / "train" / "default.yaml").write_text("warmup_episodes: 7\n")
    config = folder / "config"
    contract = load_contract(
        config / "robot" / "vega_1.yaml", config / "task" / "woolly_ball_pnp.yaml"
    )
    base, demos = folder / "base.safetensors", folder / "demos"
    make_base(base, contract)
    make_demo(demos / "episode_000001", contract)
    monkeypatch.setattr(paths, "share", lambda: folder)
    monkeypatch.setattr(paths, "base_shipped", lambda task, observation: base)
    monkeypatch.setattr(paths, "demos_shipped", lambda task: demos)
    monkeypatch.chdir(tmp_path)
    return folder
