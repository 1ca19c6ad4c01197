"""A learning run that was stopped goes on from its checkpoint to the same end."""

import json
from pathlib import Path

import pytest

from resfit_core.learner import Learner

ROOT = Path(__file__).parents[2]


def test_stopped_and_taken_up_again(tmp_path, monkeypatch) -> None:
    pytest.importorskip("resfit_sim.factory")
    from benchmarks import learning

    monkeypatch.setattr(learning, "CHECKPOINT_S", 0.0)
    shipped = ROOT / "config/shipped/woolly_ball_pnp"
    job = {
        **{"name": "t", "task": "woolly_ball_pnp", "observation": "state", "episodes": 3},
        **{"eval_every": 2, "eval_episodes": 1, "final_episodes": 0, "eval_seed": 0, "seed": 0},
        "set": {"warmup_episodes": 1, "critic_warmup_updates": 5, "utd": 0.05, "critic_width": 16},
        "train_config": str(ROOT / "config/train/default.yaml"),
        "base": str(shipped / "base_state.safetensors"),
        "demos": str(shipped / "demos"),
    }
    learning.run_seed({**job, "log": str(tmp_path / "whole.jsonl")})
    save, saved = Learner.save, []

    def save_and_die(learner, *args, **kwargs):
        save(learner, *args, **kwargs)
        saved.append(learner.episodes)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "save", save_and_die)
    halves = {**job, "log": str(tmp_path / "halves.jsonl")}
    with pytest.raises(KeyboardInterrupt):
        learning.run_seed(halves)
    learning.run_seed(halves)
    assert saved == [1, 2, 3]
    whole, two = (learning.read_result(tmp_path / f"{n}.jsonl") for n in ("whole", "halves"))
    for result in (whole, two):
        del result["wall_s"]
        for record in result["evals"]:
            record.pop("wall_s", None)
            record.pop("kind", None)
    assert two == whole
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "halves.jsonl").open()]
    assert kinds.count("episode") == 3 and kinds.count("eval") == 1
    assert not list(tmp_path.glob("*.checkpoints"))
