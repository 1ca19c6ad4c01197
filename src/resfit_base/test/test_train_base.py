"""The command `train_base`: what it writes and what it refuses. Needs no ROS."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "src/resfit_core/test"))

from bag_maker import vega_contract, write_demo

from resfit_base.train_base import main
from resfit_core.base.checkpoint import load_base


@pytest.fixture
def demos(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    contract = vega_contract()
    rng = np.random.default_rng(0)
    for number in (1, 2):
        write_demo(
            tmp_path / "run/episodes", contract, rng.normal(size=(31, contract.obs_dim)),
            rng.uniform(contract.lower, contract.upper, (30, contract.action_dim)),
            rng.uniform(-1, 1, (30, contract.action_dim)), number,
        )  # fmt: skip
    return tmp_path / "run"


def test_it_writes_a_base_that_loads(demos, tmp_path, capsys):
    out = tmp_path / "base.safetensors"
    arguments = ["--demos", str(demos), "--out", str(out), "--steps", "20"]
    assert main([*arguments, "--episodes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 demos, 30 chunks, L1 0." in printed and str(out) in printed
    first = out.read_bytes()
    assert load_base(out, vega_contract()).chunk_length == 20
    assert len(first) < 3e6
    assert main([*arguments, "--episodes", "1"]) == 0
    assert out.read_bytes() == first, "the same command must write the same file"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--demos", "/nowhere"], "'/nowhere' holds 0 demos, some are wanted"),
        (["--episodes", "3"], "holds 2 demos, 3 are wanted: record them with 'make demos'"),
        (["--observation", "smell"], "observation variant 'smell' is not one of"),
        (["--robot", "r2d2"], "r2d2.yaml' does not exist"),
        (["--out", "base.pt"], "must end in .safetensors"),
        (["--steps", "0"], "steps is 0, must be above 0"),
        (["--observation", "pixels"], "demo 1 was made for contract"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(demos, tmp_path, capsys, change, words):
    out = tmp_path / "base.safetensors"
    assert main(["--demos", str(demos), "--out", str(out), *change]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not out.exists()
