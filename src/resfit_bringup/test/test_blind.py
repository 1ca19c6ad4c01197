"""`resfit run evaluate`: where it lies, who competes, what is sealed, how it goes on and ends."""

import io
import json
import stat

import pytest

pytest.importorskip("scipy", reason="scipy is not installed ('make setup' installs it)")
pytest.importorskip("rosbags", reason="rosbags is not installed ('make setup' installs it)")

from rich.console import Console

from resfit_bringup import blind, checks, paths, run_dir
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import resolve
from resfit_core import tensorfile
from resfit_core.blind import seal
from resfit_core.contract import load_contract
from resfit_core.weights import save_weights


@pytest.fixture
def training(share, monkeypatch):
    """A training run with two versions of weights; returns its folder."""
    monkeypatch.setattr(paths, "executable", lambda package, name: paths.Path("/bin/true"))
    plan = resolve("train", {"run_dir": "runs/a", "seed": "2"})
    folder = run_dir.open_run(plan, checks.check(plan))
    config = share / "config"
    contract = load_contract(
        config / "robot" / "vega_1.yaml", config / "task" / "woolly_ball_pnp.yaml"
    )
    for version in (3, 4):
        header = {"contract_sha256": contract.sha256, "base_sha256": "b" * 64, "version": version}
        save_weights(folder, version, tensorfile.pack({}, header))
    return folder


def opened(**given):
    plan = resolve("evaluate", {"run_dir": "runs/a", "rounds": "4", **given})
    return plan, run_dir.open_run(plan, checks.check(plan))


def log(folder, episodes):
    lines = [
        {
            "episode": n, "mode": "evaluate", "use_residual": True, "seed": 1_000_000 + number - 1,
            "ended_by": "success", "success": True, "steps": 9, "start_s": 0.0, "end_s": 1.0,
            "round": number, "label": label,
        }
        for n, (number, label) in enumerate(episodes, 1)
    ]  # fmt: skip
    (folder / "episodes.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def test_an_evaluation_lies_in_its_training_run_with_its_policies_and_its_seal(training):
    plan, folder = opened(policies="base,residual:3,residual:latest")
    assert folder == training / "evaluations" / "001"
    assert plan.values["seed"] == 2  # the training's
    commitment = seal.read_commitment(folder / "seal")
    assert [p.name for p in commitment.policies] == ["base", "residual:3", "residual:4"]
    assert commitment.scenes == (1_000_000, 1_000_001, 1_000_002, 1_000_003)
    copied = (folder / "policies" / "2.safetensors").read_bytes()
    assert copied == (training / "weights" / "version_000004.safetensors").read_bytes()
    for secret in ("sealed.bin", "mask.bin"):
        assert stat.S_IMODE((folder / "seal" / secret).stat().st_mode) == 0o600
    seal_of = {n.name: n.parameters.get("seal") for n in plan.nodes}
    assert {n for n, s in seal_of.items() if s} == {
        "base_policy", "residual_policy", "episode_manager"
    }  # fmt: skip


def test_no_file_but_the_sealed_one_knows_the_order(training):
    _, folder = opened(rounds="40")
    opening = seal.read_sealed(folder / "seal")
    for file in (f for f in folder.rglob("*") if f.is_file()):
        data = file.read_bytes()
        assert opening.salt.encode() not in data, file
        assert json.dumps(opening.orders, separators=(",", ":")).encode() not in data, file


def test_the_same_command_goes_on_under_the_same_seal_and_another_one_starts_anew(training):
    _, first = opened()
    sha256 = seal.read_commitment(first / "seal").sha256
    save_weights(training, 5, (training / "weights" / "version_000004.safetensors").read_bytes())
    _, again = opened()
    assert again == first
    assert seal.read_commitment(again / "seal").sha256 == sha256
    plan = resolve("evaluate", {"run_dir": str(first)})
    assert plan.values["rounds"] == 4
    assert run_dir.open_run(plan, checks.check(plan)) == first
    assert seal.read_commitment(first / "seal").sha256 == sha256
    _, other = opened(policies="base,residual:3")
    assert other.name == "002"
    with pytest.raises(UsageError, match=r"arguments\.rounds 4, not 9"):
        plan = resolve("evaluate", {"run_dir": str(first), "rounds": "9"})
        run_dir.open_run(plan, checks.check(plan))


def test_the_seal_is_opened_after_the_last_round_and_not_before(training):
    _, folder = opened()
    rounds = [(n, label) for n in range(1, 5) for label in "AB"]
    log(folder, rounds[:-1])
    out = io.StringIO()
    assert blind.finish(folder, Console(file=out, width=200))
    assert "sealed: 3 of 4 rounds" in out.getvalue()
    assert not seal.is_open(folder / "seal")
    log(folder, rounds)
    assert not blind.finish(folder, Console(file=out, width=200))  # it left no log, no recording
    assert "THE SEAL DOES NOT HOLD" in out.getvalue()
    assert json.loads((folder / "evaluation.json").read_text())["rounds_complete"] == 4
    with pytest.raises(UsageError, match="the seal was opened"):
        resolve("evaluate", {"run_dir": str(folder)})
    _, other = opened()
    assert other.name == "002"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"policies": "base"}, "two or more different"),
        ({"policies": "residual,residual:4"}, "two or more different"),
        ({"policies": "base,residual:9"}, "No such file"),
        ({"policies": "base,best"}, "give base, residual:latest"),
        ({"policies": "base,residual", "run_dir": "runs/new"}, "holds no weights"),
        ({"policies": "base,broken.safetensors"}, "not a whole resfit safetensors file"),
        ({"policies": "base,foreign.safetensors"}, "contract_sha256 is cccccccccccc"),
        ({"rounds": "0"}, "of at least 1"),
    ],
)
def test_wrong_competitors_are_said_before_anything_is_written(training, given, words):
    (training.parents[1] / "broken.safetensors").write_bytes(b"broken")
    foreign = tensorfile.pack({}, {"contract_sha256": "c" * 64, "base_sha256": "b" * 64})
    (training.parents[1] / "foreign.safetensors").write_bytes(foreign)
    with pytest.raises(UsageError, match=words):
        opened(**given)
    assert not (training / "evaluations").exists()
    assert not (training.parent / "new").exists()
