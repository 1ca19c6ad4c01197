"""The library's command from start to end, in this process, on a task of milliseconds."""

import json

import gym_cases
import numpy as np
import pytest
import torch

from resfit_core import tensorfile
from resfit_core.control.guard import STEPPED_BACK
from resfit_core.seeds import training_seed
from resfit_core.train import off_policy
from resfit_core.train.__main__ import main
from resfit_core.train.display import words
from resfit_core.train.report import TIMED_KEYS

ROBOT_KEYS = {
    "task", "robot", "git", "contract_sha256", "seeds", "base", "residual", "paired", "episodes",
    "episodes_aborted", "warmup_episodes", "env_steps", "updates", "utd", "train_wall_s", "wait_s",
    "steps_per_s", "updates_per_s", "dip", "weights_version", "run_id", "started", "arguments",
    "machine", "versions", "missing", "base_sha256",
}  # fmt: skip


def run(folder, *more, code=0, **changes):
    folder.mkdir(exist_ok=True)
    gym_cases.ENVS.clear()
    assert main(gym_cases.command(folder, *more, **changes)) == code
    return json.loads((folder / "out/report.json").read_text())


def lasting(report):
    """Return what does not depend on the clock."""
    return {key: value for key, value in report.items() if key not in TIMED_KEYS}


def records(folder):
    return [json.loads(line) for line in (folder / "out/progress.jsonl").read_text().splitlines()]


def test_the_whole_command(tmp_path):
    report = run(tmp_path)
    assert set(report) >= ROBOT_KEYS
    assert report["finished"]
    assert report["missing"] == []
    assert report["base"]["n"] == report["residual"]["n"] == 6
    assert report["seeds"]["evaluate"] == list(range(1_000_000, 1_000_006))
    assert report["env_steps"] >= 60
    assert report["warmup_episodes"] == 2
    # Before the first step, then at the first episode end at or after each multiple of 20.
    steps = [one["env_step"] for one in report["evals"]]
    ends = [r["env_steps"] for r in records(tmp_path) if r["kind"] == "episode"]
    assert steps == [0, *(next(e for e in ends if e >= m) for m in (20, 40, 60))]
    assert {one["n"] for one in report["evals"]} == {4}
    assert report["updates"] == records_of(tmp_path, "episode")[-1]["total_updates"]
    learned = report["env_steps"] - ends[1]
    assert report["updates"] == 5 + learned
    assert report["episodes_stepped_back"] >= 0
    # So few episodes prove nothing: the base would act; the residual stands beside it.
    last = report["evals"][-1]
    assert last["on_trial"].startswith(("on trial", STEPPED_BACK))
    assert last["success"] == report["evals"][0]["success"]
    assert 0.0 <= last["alone"] <= 1.0
    said = words(records_of(tmp_path, "eval")[-1], [], 60)
    assert "the base's; the residual alone" in said
    assert report["utd"] == {"target": 1.0, "achieved": 1.0}
    assert (tmp_path / "out/checkpoints/learner.safetensors").exists()


def records_of(folder, kind):
    return [record for record in records(folder) if record["kind"] == kind]


def test_the_robots_report_has_no_key_that_this_one_lacks(tmp_path):
    """The list above is that of `report_numbers.numbers`: it must not grow behind our back."""
    numbers = pytest.importorskip("resfit_core.report_numbers")
    (tmp_path / "run.json").write_text("{}")
    robot = set(numbers.numbers(numbers.read_run(tmp_path)))
    assert robot <= ROBOT_KEYS


def test_training_and_evaluation_use_two_environments_and_no_common_seed(tmp_path):
    run(tmp_path, "--eval-seed", "10000003")
    train, judge = gym_cases.ENVS
    assert set(judge.seeds) == set(range(10_000_003, 10_000_009))
    assert not set(train.seeds) & set(judge.seeds)
    assert len(set(train.seeds)) == len(train.seeds)


@pytest.mark.parametrize("first", [1_000_000, 10_000_000, 9_999_990, 10_999_999, 15_000_000])
def test_training_seeds_never_meet_the_evaluations(first):
    for count in (1, 200, 1_000_000):
        evaluation = range(first, first + count)
        for index in (0, 5, 1000, 999_999):
            assert training_seed(index, 0, evaluation) not in evaluation
    # Runs do not meet each other either, moved or not.
    assert training_seed(999_999, 0, range(first, first + 200)) < training_seed(0, 1, range(1))


def test_same_seed_same_report(tmp_path):
    first = run(tmp_path / "a")
    second = run(tmp_path / "b")
    other = run(tmp_path / "c", "--seed", "1")
    for report in (first, second, other):
        for key in ("out", "demos"):
            report["arguments"].pop(key, None)
    assert lasting(first) == lasting(second)
    trained = [
        [
            (r["success"], r["steps"], r.get("critic_loss"))
            for r in records_of(tmp_path / x, "episode")
        ]
        for x in "abc"
    ]
    assert trained[0] == trained[1] != trained[2]


@pytest.mark.parametrize("where", ["training", "evaluation", "final"])
def test_resume_after_an_interruption_ends_like_an_unbroken_run(tmp_path, monkeypatch, where):
    whole = run(tmp_path / "a")
    expected = records_of(tmp_path / "a", "episode")
    monkeypatch.setattr(off_policy, "SAVE_EVERY_S", 0.0)
    plain = gym_cases.Slide.reset

    # Which environment, and after which of its resets: (seed, how often it was used).
    which, seed, times = {
        "training": (0, 10_000_003, 1),
        "evaluation": (1, 1_000_001, 3),
        "final": (1, 1_000_005, 1),
    }[where]

    def reset(env, **options):
        mine = len(gym_cases.ENVS) == 2 and env is gym_cases.ENVS[which]
        if mine and env.seeds and env.seeds[-1] == seed and env.seeds.count(seed) == times:
            raise KeyboardInterrupt
        return plain(env, **options)

    monkeypatch.setattr(gym_cases.Slide, "reset", reset)
    broken = run(tmp_path / "b", code=130)
    assert not broken["finished"]
    assert "--resume" in broken["missing"][0]
    assert broken["episodes"] >= 3
    assert broken["base"]["n"] == (0 if where != "final" else 6)
    monkeypatch.setattr(gym_cases.Slide, "reset", plain)
    resumed = run(tmp_path / "b", "--resume")
    for report in (whole, resumed):
        report["arguments"].pop("demos")
    assert lasting(resumed) == lasting(whole)
    found = records_of(tmp_path / "b", "episode")
    clock = ("time_s", "wall_s", "play_s", "learn_s")
    strip = [{k: v for k, v in r.items() if k not in clock} for r in found]
    assert strip == [{k: v for k, v in r.items() if k not in clock} for r in expected]


def test_a_torchscript_base_does_what_the_callable_does(tmp_path):
    torch.jit.script(gym_cases.Scripted()).save(str(tmp_path / "base.pt"))
    named = run(tmp_path / "a")
    scripted = run(tmp_path / "b", base=str(tmp_path / "base.pt"))
    assert scripted["base"] == named["base"]
    assert scripted["base_sha256"] != named["base_sha256"]
    assert scripted["dip"] == named["dip"]


def test_tensorboard_reads_our_events(tmp_path):
    found = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = run(tmp_path)
    events = found.EventAccumulator(str(tmp_path / "out/tensorboard"))
    events.Reload()
    curve = events.Scalars("eval/success")
    assert [(e.step, pytest.approx(e.value)) for e in curve] == [
        (one["env_step"], one["success"]) for one in report["evals"]
    ]
    steps = [r["env_steps"] for r in records_of(tmp_path, "episode")]
    assert [e.step for e in events.Scalars("train/success")] == steps


SMALL_VISION = [
    *("--set", "vision_width=8", "vision_heads=2", "vision_embedding=16"),
    *("vision_actor_width=8", "image_shift=2"),
]


@pytest.mark.parametrize("algo", ["resfit", "rlpd", "ibrl"])
def test_images_are_learned_from(tmp_path, algo):
    more = ["--steps", "40", "--algo", algo, *SMALL_VISION]
    report = run(tmp_path, *more, env="seen", base="gym_cases:seen_base")
    assert report["finished"]
    assert report["updates"] > 5
    assert report["base"]["n"] == 6
    (checkpoint,) = (tmp_path / "out/checkpoints").glob("*.safetensors")
    tensors, _ = tensorfile.unpack(checkpoint.read_bytes(), "checkpoint")
    assert any(name.startswith("encoder/") for name in tensors)


def test_the_verdict_alone_is_learned_from(tmp_path):
    """The environment's rewards (5 at every step here) are not read."""
    run(tmp_path)
    values = [r["q_mean"] for r in records_of(tmp_path, "episode") if "q_mean" in r]
    assert np.abs(values).max() < 2


@pytest.mark.parametrize("algo", ["resfit", "rlpd", "ibrl", "residual_ppo", "filtered_bc"])
def test_judging_once_gives_the_figures_of_judging_each_time(tmp_path, algo):
    reports, verdicts, played = [], [], []
    quick = ("bc_distil_updates=5", "bc_updates=5", "bc_width=8") if algo == "filtered_bc" else ()
    options = ("--algo", algo, "--eval-every", "10", *(o for q in quick for o in ("--set", q)))
    for name, *once in (("each",), ("once", "--eval-once")):
        reports.append(run(tmp_path / name, *options, *once))
        assert reports[-1]["arguments"].pop("eval_once") == bool(once)
        verdicts.append([r["verdicts"] for r in records_of(tmp_path / name, "final")])
        played.append(len(gym_cases.ENVS[1].seeds))
    each, once = ({k: v for k, v in lasting(r).items() if k != "arguments"} for r in reports)
    assert once == each
    assert verdicts[0] == verdicts[1]
    # The base's four scenes before the first step are four of its six at the end, except where
    # the policy without weights is not the base; ours at the end was just judged on four.
    assert played[1] <= played[0] - 4
