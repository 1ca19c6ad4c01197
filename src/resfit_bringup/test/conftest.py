"""What tests of the graph share: a domain of their own, and a workspace of made-up files."""

import shutil
from pathlib import Path

import pytest
from made_up_files import make_base, make_demo

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def domain_id():
    """A DDS domain for all runs of a file, which come one after the other; its number."""
    from resfit_bringup import paths
    from resfit_bringup.errors import UsageError
    from resfit_ros.testing import domain

    try:
        paths.executable("resfit_sim", "twin")
    except UsageError as error:
        pytest.skip(str(error))
    with domain() as number, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(number))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield number


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
