"""When the guard steps back to the base, and when it gives the residual another chance."""

import json

from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.guard import Guard, Verdict
from resfit_core.control.plan import make_plan
from resfit_core.control.records import Mode
from resfit_core.control.run_book import RunBook

BASE = [Verdict(False, i % 2 == 0) for i in range(10)]  # 5 of 10


def residual(successes, failures):
    return [Verdict(True, True)] * successes + [Verdict(True, False)] * failures


def test_evidence_decides():
    """Wilson at 80 %: 5 of 10 lies above .32; 0 of 4 may be .29, 0 of 3 may be .35."""
    guard = Guard()
    assert guard.judge(BASE) == ""
    assert guard.judge(BASE + residual(0, 3)) == ""
    why = guard.judge(BASE + residual(0, 4))
    assert "0 of its last 4" in why and "5 of 10" in why
    assert guard.judge(BASE + residual(10, 10)) == ""


def test_it_ends_after_the_pause_and_begins_anew():
    guard = Guard(pause=3)
    bad = BASE + residual(0, 4)
    for done in range(3):
        assert guard.judge(bad + BASE[:done])
    assert guard.judge(bad + BASE[:3]) == ""
    # What the residual did before no longer counts.
    assert guard.judge(bad + BASE[:3] + residual(0, 1)) == ""
    assert guard.judge(bad + BASE[:3] + residual(0, 6))


def test_only_the_newest_count():
    guard = Guard(window=5)
    assert guard.judge(BASE + residual(30, 0)) == ""
    assert guard.judge(BASE + residual(30, 5))
    assert Guard(window=40).judge(BASE + residual(30, 5)) == ""


def test_switched_off_or_without_a_base_it_never_steps_back():
    assert Guard(confidence=0).judge(BASE + residual(0, 50)) == ""
    assert Guard().judge(residual(0, 50)) == ""


def line(number, slot, **changes):
    values = {
        "episode": number,
        "mode": slot.mode.name.lower(),
        "use_residual": slot.use_residual,
        "seed": slot.seed,
        "ended_by": "failure",
        "success": False,
        "steps": 9,
        "start_s": 0.0,
        "end_s": 1.0,
        "weights_version": 0 if slot.mode == Mode.WARMUP else 3,
    }
    return json.dumps({**values, **changes}) + "\n"


def test_a_run_steps_back_goes_on_and_remembers_it_after_a_restart(tmp_path):
    plan = make_plan("train", episodes=30, warmup_episodes=4, evaluate_episodes=1)
    lines = [line(i + 1, slot, success=True) for i, slot in enumerate(plan[:4])]
    lines += [line(i + 5, slot) for i, slot in enumerate(plan[4:12])]
    (tmp_path / "episodes.jsonl").write_text("".join(lines))
    book = RunBook(plan, EpisodeLog(tmp_path), 5)
    slot = book.take()
    assert (slot.seed, slot.mode, slot.use_residual) == (plan[12].seed, Mode.TRAIN, False)
    assert "stepped back" in book.stepped_back
    # Given back and logged as run by the base alone it is still the same slot of the plan.
    book.give_back(slot)
    assert book.take() == slot
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write(line(13, slot))
    again = RunBook(plan, EpisodeLog(tmp_path), 5)
    assert again.take().seed == plan[13].seed
    # With the guard off the residual acts.
    off = RunBook(plan, EpisodeLog(tmp_path), 5, Guard(confidence=0))
    assert off.take().use_residual and off.stepped_back == ""
