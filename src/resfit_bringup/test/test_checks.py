"""Bad input is one line with value and fix, before anything starts."""

import pytest
from made_up_files import make_base, make_demo

from resfit_bringup import checks, paths
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import resolve
from resfit_core.contract import load_contract


@pytest.fixture
def contract(share, monkeypatch):
    monkeypatch.setattr(paths, "executable", lambda package, name: None)
    config = share / "config"
    return load_contract(
        config / "robot" / "vega_1.yaml", config / "task" / "woolly_ball_pnp.yaml"
    )


def refused(*parts, **given):
    with pytest.raises(UsageError) as error:
        checks.check(resolve("train", given))
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value), (part, str(error.value))


def test_what_fits_gives_its_hashes(share, contract):
    assert checks.check(resolve("train", {})) == {
        "robot": "vega_1",
        "task": "woolly_ball_pnp",
        "contract_sha256": contract.sha256,
        "base_sha256": "b" * 64,
    }


def test_a_class_in_the_bases_place_is_told_by_itself(contract):
    assert checks.check(resolve("record", {}))["base_sha256"] == ""


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_unknown_key_of_the_robot(share, contract):
    edit(share / "config" / "robot" / "vega_1.yaml", "control_rate_hz:", "control_rate:")
    refused("vega_1.yaml", "control_rate", "control_rate_hz")


def test_a_missing_joint_no_longer_fits_the_base(share, contract):
    file = share / "config" / "robot" / "vega_1.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "head_j3:" not in line))
    refused("base policy", "moves 29 joints", "has 28", "robot:=")


def test_learning_settings_that_do_not_fit_the_robot(share, contract):
    (share / "config" / "train" / "default.yaml").write_text("residual_scale: {tail: 0.1}\n")
    refused("residual_scale", "tail")


def test_a_base_of_another_contract(share, contract):
    make_base(share / "base.safetensors", contract, contract_sha256="f" * 64)
    refused("base policy", "ffffffffffff", "make base")


def test_a_truncated_base(share, contract):
    file = share / "base.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    refused("base.safetensors")


def test_a_truncated_bag(share, contract):
    (share / "demos" / "episode_000001" / "e.mcap").write_bytes(b"a b")
    refused("e.mcap", "damaged", "make demos")


def test_no_demonstrations(share, contract):
    empty = share / "empty"
    empty.mkdir()
    refused("empty", "no recorded episode", demos=str(empty))


def test_a_run_of_record_serves_as_demos(share, contract):
    make_demo(share / "run" / "episodes" / "episode_000001", contract)
    plan = resolve("train", {"demos": str(share / "run")})
    assert plan.values["demos"].endswith("run/episodes")
    checks.check(plan)
