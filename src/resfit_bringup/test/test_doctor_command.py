"""`resfit doctor` on the shipped files and on damaged ones."""

import json
import shutil

import pytest

pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")
from resfit_bringup import doctor, paths
from resfit_bringup.errors import UsageError
from resfit_bringup.main import main
from resfit_core.doctor.finding import FAIL, OK


@pytest.fixture(name="demos")
def _demos(tmp_path):
    """Three of the shipped demonstrations: enough to check, quick to read."""
    for n in (1, 2, 3):
        name = f"episode_{n:06d}"
        shutil.copytree(paths.demos_shipped("woolly_ball_pnp") / name, tmp_path / "demos" / name)
    return tmp_path / "demos"


def test_shipped_files_are_sound(demos, capsys):
    assert main(["doctor", f"demos:={demos}"]) == 0
    assert "doctor: nothing found in 10 checks" in capsys.readouterr().out


def test_damage_is_said_with_its_fix_and_exit_code(demos, capsys):
    file = demos / "episode_000002" / "episode_000002.mcap"
    file.write_bytes(file.read_bytes()[:-9])
    assert main(["doctor", f"demos:={demos}", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["failed"] == 1
    assert "episode 2" in said["findings"][0]["says"]


def test_unknown_argument(demos):
    with pytest.raises(UsageError, match="demos"):
        doctor.examine({"demo": str(demos)})


def test_run_that_has_not_begun(demos, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"arguments": {"demos": str(demos)}}))
    found = doctor.examine({"run_dir": str(run)})
    assert {f.state for f in found if f.check == "contract"} == {OK}
    assert not [f for f in found if f.state == FAIL]
    assert found[-1].check == "episodes"
