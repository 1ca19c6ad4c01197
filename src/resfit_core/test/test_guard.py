"""When the guard steps back to the base, and when it gives the residual another chance."""

import json

from resfit_core.control.episode_log import EpisodeLog
from resfit_core.control.guard import STEPPED_BACK, Guard, Standing, Verdict
from resfit_core.control.plan import make_plan
from resfit_core.control.records import Mode
from resfit_core.control.run_book import RunBook

BASE = [Verdict(False, i % 2 == 0) for i in range(10)]  # 5 of 10


def residual(successes, failures):
    return [Verdict(True, True)] * successes + [Verdict(True, False)] * failures


def test_evidence_decides():
    """Wilson at 80 %: 5 of 10 lies above .32; 0 of 4 may be .29, 0 of 3 may be .35."""
    guard = Guard()
    assert guard.judge(BASE).stepped_back == ""
    assert guard.judge(BASE + residual(0, 3)).stepped_back == ""
    why = guard.judge(BASE + residual(0, 4)).stepped_back
    assert "0 of its last 4" in why and "5 of 10" in why
    assert guard.judge(BASE + residual(10, 10)).stepped_back == ""


def test_it_ends_after_the_pause_and_begins_anew():
    guard = Guard(pause=3)
    bad = BASE + residual(0, 4)
    for done in range(3):
        assert guard.judge(bad + BASE[:done]).stepped_back
    assert guard.judge(bad + BASE[:3]).stepped_back == ""
    # What the residual did before no longer counts.
    assert guard.judge(bad + BASE[:3] + residual(0, 1)).stepped_back == ""
    assert guard.judge(bad + BASE[:3] + residual(0, 6)).stepped_back


def test_only_the_newest_count():
    guard = Guard(window=5)
    assert guard.judge(BASE + residual(30, 0)).stepped_back == ""
    assert guard.judge(BASE + residual(30, 5)).stepped_back
    assert Guard(window=40).judge(BASE + residual(30, 5)).stepped_back == ""


def test_switched_off_or_without_a_base_it_never_steps_back():
    assert Guard(confidence=0).judge(BASE + residual(0, 50)).stepped_back == ""
    assert Guard().judge(residual(0, 50)).stepped_back == ""


def test_the_residual_is_on_trial_until_it_is_shown_to_be_better():
    """Newcombe at 90 %: 16 of 20 against 5 of 10 is a gain beyond doubt, 15 of 20 is not."""
    guard = Guard()
    assert "nothing to show yet" in guard.judge(BASE).on_trial
    mixed = [Verdict(True, i % 4 > 0) for i in range(20)]
    trial = guard.judge(BASE + mixed)
    assert trial.stepped_back == "" and "15 of its last 20, the base 5 of 10" in trial.on_trial
    proven = BASE + mixed + residual(1, 0)
    assert guard.judge(proven) == Standing()
    # A few in a row are no proof.
    assert guard.judge(BASE + residual(9, 0)).on_trial
    assert guard.judge(BASE + residual(10, 0)) == Standing()
    # Proven it stays, whatever comes but being worse.
    assert guard.judge(proven + residual(0, 9)) == Standing()
    assert Guard(confidence=0).judge(BASE + residual(0, 9)) == Standing()


def test_after_a_step_back_the_trial_begins_anew():
    guard, played = Guard(), BASE + residual(12, 0)
    assert guard.judge(played) == Standing()
    while not guard.judge(played).stepped_back:
        played += residual(0, 1)
    back = guard.judge(played)
    assert back.stepped_back == back.on_trial
    played += [Verdict(False, True)] * 10
    anew = guard.judge(played)
    assert anew.stepped_back == "" and "nothing to show yet, the base 15 of 20" in anew.on_trial


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
    assert STEPPED_BACK in book.standing.stepped_back
    # Given back and logged as run by the base alone it is still the same slot of the plan.
    book.give_back(slot)
    assert book.take() == slot
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write(line(13, slot))
    again = RunBook(plan, EpisodeLog(tmp_path), 5)
    assert again.take().seed == plan[13].seed
    # With the guard off the residual acts.
    off = RunBook(plan, EpisodeLog(tmp_path), 5, Guard(confidence=0))
    assert off.take().use_residual and off.standing == Standing()
