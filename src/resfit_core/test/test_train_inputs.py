"""Every input that cannot be used gives one line that names it, and exit code 2."""

import re

import gym_cases
import numpy as np
import pytest
import torch

from resfit_core.train.__main__ import main


@pytest.fixture
def refused(tmp_path, capsys):
    def check(words, *more, **changes):
        before = capsys.readouterr()
        assert main(gym_cases.command(tmp_path, *more, **changes)) == 2, before
        said = capsys.readouterr().err
        assert said.startswith("resfit_core.train: ")
        assert said.count("\n") == 1, said
        assert re.search(words, said), said

    return check


def good():
    return gym_cases.record(gym_cases.Slide())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"obs": None}, "array 'obs' is missing; found"),
        ({"actions": None}, "array 'actions' is missing"),
        ({"episode_ends": None}, "array 'episode_ends' is missing"),
        ({"obs": lambda a: a[:, :1]}, r"'obs' is float32 .* expected numbers of shape \(N, 2\)"),
        ({"actions": lambda a: a[:, 0]}, r"'actions' is .* expected numbers of shape \(N, 1\)"),
        ({"obs": lambda a: a[:-1]}, "'obs' has .* rows, 'actions' has"),
        ({"episode_ends": lambda a: a + 1}, "episode_ends .* must rise and end with"),
        ({"episode_ends": lambda a: a[::-1]}, "must rise"),
        ({"episode_ends": lambda a: a[:0]}, "must rise"),
        ({"obs": lambda a: a * np.where(np.arange(2), 1, np.nan)}, r"'obs' is nan at \[0, 0\]"),
        ({"actions": lambda a: a / 0.0}, "'actions' is -?inf at"),
        ({"obs": lambda a: np.array([{}] * len(a))}, "no npz of plain arrays.*Object arrays"),
        ({"obs": lambda a: a.astype(str)}, "expected numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_demos(refused, change, words):
    arrays = good()
    for key, how in change.items():
        if how is None:
            del arrays[key]
        else:
            arrays[key] = how(arrays[key])
    refused(words, demos=arrays)


def test_demo_file(refused, tmp_path):
    refused("nowhere.npz' cannot be read", "--demos", "nowhere.npz")
    (tmp_path / "text.npz").write_text("hello")
    refused("text.npz' is no npz of plain arrays", "--demos", str(tmp_path / "text.npz"))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("broken", r"factory\(0\) failed \(RuntimeError: no licence for seed 0\)"),
        ("nothing", "gave a object without 'observation_space'"),
        ("missing", "module gym_cases has no 'missing'"),
        ("number", "has a int as 'number'"),
        ("odd_action", "action space is Discrete.*a flat float Box is needed"),
        ("odd_observation", "give images in a Dict"),
        ("grey", r"image 'top' has shape \(96, 96\); colour images"),
        ("silent", "no step's info had 'is_success'.*found \\['distance'\\]"),
    ],
)
def test_environment(refused, env, words):
    refused(words, env=env)


def test_environment_that_shows_something_else_than_its_space(refused):
    demos = good()
    demos["obs"] = np.repeat(demos["obs"], 2, axis=1)[:, :3]
    refused(r"observation has shape \(2,\), its space says \(3,\)", env="liar", demos=demos)


def test_environment_name(refused):
    refused("--env is 'gym_cases', expected module:callable", "--env", "gym_cases")
    refused("importing no_such_module failed.*ModuleNotFound", "--env", "no_such_module:make")


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("gym_cases:flat_base", r"gave shape \(1, 1\); it must give \(batch, chunk, 1\)"),
        ("gym_cases:nan_base", "gave nan for action dimension 0 at step 0"),
        ("gym_cases:late_inf_base", "gave -?(inf|nan) for action dimension 0"),
        ("gym_cases:broken", "failed on one observation.*RuntimeError"),
        ("gym_cases:nothing", r"gave a object; it must give \(batch, chunk, 1\)"),
        ("gym_cases:none", "module gym_cases has no 'none'"),
        ("base.onnx", "of no known kind"),
        ("ours.safetensors", "belongs to a robot's contract"),
        ("nowhere.pt", "'nowhere.pt' cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_base(refused, base, words):
    refused(words, base=base)


def test_base_file_that_is_no_torchscript(refused, tmp_path):
    """A pickle is not loaded either: it could run anything."""
    torch.save({"weights": torch.zeros(2)}, tmp_path / "state.pt")
    refused("state.pt' is not a TorchScript file", base=str(tmp_path / "state.pt"))


def test_base_of_another_size(refused, tmp_path):
    torch.jit.script(torch.nn.Linear(5, 1)).save(str(tmp_path / "five.pt"))
    refused("five.pt' failed on one observation.*RuntimeError", base=str(tmp_path / "five.pt"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--algo", "sac"], "--algo is 'sac', expected one of resfit, rlpd"),
        (["--set", "critic_with=3"], "unknown key 'critic_with'; did you mean critic_width"),
        (["--set", "utd"], "--set 'utd': expected key=value"),
        (["--set", "utd=fast"], "utd is 'fast', expected float"),
        (["--set", "gamma=2"], "gamma is 2.0, must be <= 1"),
        (["--set", "utd=[1"], r"--set 'utd=\[1': no YAML value"),
        (["--set", "critic_view=task_space"], "needs a robot's contract"),
        (["--set", "image_features=base"], "needs a base of ours with keypoints"),
        (["--set", "residual_scale={arm: .1}"], "residual_scale names the joint groups"),
        (["--seed", "-1"], "seed is -1, must be >= 0"),
        (["--seed", "1000000"], "--seed is 1000000, must lie in"),
        (["--steps", "0"], "--steps is 0, must be 1 or more"),
        (["--eval-episodes", "0"], "--eval-episodes is 0"),
        (["--eval-seed", "-5"], "--eval-seed is -5"),
        (["--final-episodes", "2000000"], "at most 1000000 scenes"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read as YAML"),
    ],
)
def test_options(refused, more, words):
    refused(words, *more)


def test_unknown_option(refused):
    refused("unrecognized arguments: --evaluate", "--evaluate")
    refused("argument --steps: invalid int value: 'many'", "--steps", "many")


def test_output_folder(refused, tmp_path):
    (tmp_path / "file").write_text("")
    refused("is a file; name a folder", "--out", str(tmp_path / "file"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/progress.jsonl").write_text("{}\n")
    refused("holds a run already; add --resume")


def test_resume_of_another_run(refused, tmp_path):
    assert main(gym_cases.command(tmp_path, "--steps", "1", "--final-episodes", "0")) == 0
    refused("begun with --seed 0, not 3", "--resume", "--seed", "3")
    refused("settings differ.*gamma", "--resume", "--set", "gamma=.5")
    refused("base_sha256", "--resume", base="gym_cases:scaled_base")
    (tmp_path / "out/run.json").write_text("{")
    refused("run.json is damaged", "--resume")
