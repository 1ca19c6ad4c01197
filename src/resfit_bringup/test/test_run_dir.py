"""The run directory: made whole, continued only as what it was."""

import json

import pytest

from resfit_bringup import run_dir, run_file
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import resolve
from resfit_core.algorithms.config import TrainConfig

HASHES = {"contract_sha256": "c" * 64, "base_sha256": "b" * 64}


def open_run(share, hashes=HASHES, **given):
    given.setdefault("run_dir", str(share.parent / "runs" / "one"))
    return run_dir.open_run(resolve("train", given), hashes)


def test_a_new_run_is_described_and_latest_points_to_it(share):
    folder = open_run(share, seed="4")
    described = json.loads((folder / "run.json").read_text())
    assert described["run_id"] == "one"
    assert described["arguments"]["seed"] == 4
    assert described["contract_sha256"] == "c" * 64
    assert set(described["git"]) == {"commit", "dirty"}
    assert (folder / "config" / "robot.yaml").is_file()
    assert (folder / "config" / "train.yaml").is_file()
    assert (folder / "config" / "nodes" / "twin.yaml").is_file()
    assert (folder.parent / "latest").resolve() == folder
    second = open_run(share, run_dir=str(folder.parent / "two"))
    assert (folder.parent / "latest").resolve() == second


def test_a_run_is_continued_with_its_beginning_kept(share):
    folder = open_run(share)
    started = run_file.read(folder)["started"]
    open_run(share, episodes="500")
    described = run_file.read(folder)
    assert described["started"] == started
    assert described["continued"][0]["arguments"]["episodes"] == 500
    assert described["arguments"]["episodes"] == 500


def test_warmup_is_one_number_for_manager_and_learner(share):
    """The manager followed the argument, the learner the settings: it never began to learn."""
    folder = open_run(share, warmup_episodes="2")
    nodes = {n.name: n for n in resolve("train", {"run_dir": str(folder)}).nodes}
    file = nodes["learner"].parameters["train_config"]
    assert file == str(folder / "config" / "train.yaml")
    assert TrainConfig.from_yaml(file).warmup_episodes == 2
    assert nodes["episode_manager"].parameters["warmup_episodes"] == 2


def test_a_continued_run_does_not_see_later_changes_of_the_settings(share):
    folder = open_run(share)
    (share / "config" / "train" / "default.yaml").write_text("batch_size: 8\n")
    open_run(share)
    assert (folder / "config" / "train.yaml").read_text() == "warmup_episodes: 7\n"


def test_a_continued_run_keeps_what_it_was_given(share):
    folder = open_run(share, seed="4", episodes="50", synchronous="true", log_level="debug")
    values = resolve("train", {"run_dir": str(folder), "episodes": "80"}).values
    assert (values["seed"], values["episodes"], values["synchronous"]) == (4, 80, True)
    assert values["log_level"] == "info"  # of one stretch only


@pytest.mark.parametrize(
    ("given", "hashes", "part"),
    [
        ({"seed": "1"}, HASHES, "arguments.seed 0, not 1"),
        ({}, {**HASHES, "base_sha256": "d" * 64}, "base_sha256"),
        ({}, {**HASHES, "contract_sha256": "d" * 64}, "contract_sha256"),
    ],
)
def test_another_run_does_not_continue_it(share, given, hashes, part):
    folder = open_run(share)
    before = (folder / "run.json").read_text()
    with pytest.raises(UsageError, match=part):
        open_run(share, hashes, **given)
    assert (folder / "run.json").read_text() == before


def test_a_folder_with_other_files_is_left_alone(share):
    folder = share.parent / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="another run_dir"):
        open_run(share)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
