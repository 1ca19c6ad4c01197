"""`resfit info` and the command's exit codes."""

import pytest

from resfit_bringup import info, run_dir
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import resolve
from resfit_bringup.main import main


def test_a_run(share):
    plan = resolve("train", {"run_dir": "runs/a"})
    folder = run_dir.open_run(plan, {"contract_sha256": "c" * 64, "base_sha256": "b" * 64})
    said = info.describe(folder)
    assert "run a: job train" in said
    assert "c" * 64 in said


def test_a_checkpoint_by_its_header_alone(share):
    said = info.describe(share / "base.safetensors")
    assert "base_sha256: " + "b" * 64 in said
    assert "tensor action_low: F64 (29,)" in said


def test_a_recorded_episode_by_folder_or_bag(share):
    folder = share / "demos" / "episode_000001"
    assert "bag_file: e.mcap" in info.describe(folder)
    assert info.describe(folder / "e.mcap") == info.describe(folder)


def test_what_it_is_not_and_what_is_damaged(share):
    with pytest.raises(UsageError, match="none of"):
        info.describe(share)
    cut = share / "base.safetensors"
    cut.write_bytes(cut.read_bytes()[:30])
    with pytest.raises(UsageError, match="cut short"):
        info.describe(cut)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "fly"],
        ["run", "train", "episodes:=x"],
        ["report", "nowhere", "--as-is"],
        ["info", "nowhere"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(share, capsys, words):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("resfit: ")
    assert said.count("\n") == 1
