"""What the death of a node means."""

from resfit_bringup.rules import Limits, Outcome, Restart, Rules


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def rules(clock: Clock | None = None) -> Rules:
    return Rules(Limits(), "episode_manager", clock or Clock())


def test_the_manager_leaving_with_zero_finishes_the_run():
    assert rules().exited("episode_manager", False, 0) == Outcome(0, "finished")


def test_a_manager_that_fails_is_started_again():
    assert isinstance(rules().exited("episode_manager", False, 1), Restart)


def test_a_required_node_ends_the_run_with_its_last_words_whatever_its_code():
    assert rules().exited("twin", True, 3, "no answer").code == 1
    assert rules().exited("twin", True, 3, "no answer").reason == (
        "twin ended with exit code 3: no answer"
    )
    assert rules().exited("twin", True, 0).code == 1
    assert rules().exited("twin", True, -9).reason == "twin was ended by SIGKILL"


def test_refused_input_is_not_tried_again():
    outcome = rules().exited("learner", False, 2, "demos are of another contract")
    assert outcome == Outcome(2, "learner ended with exit code 2: demos are of another contract")


def test_restarts_wait_longer_each_time_and_come_to_an_end():
    r = rules()
    waits = [r.exited("learner", False, 1).wait_s for _ in range(5)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    last = r.exited("learner", False, 1, "bang")
    assert last.code == 1
    assert "6th" in last.reason
    assert "bang" in last.reason
    # another node's count is its own
    assert r.exited("recorder", False, 1).wait_s == 0.5


def test_panel_never_ends_the_run():
    r = rules()
    waits = [r.exited("panel", False, 2, "no NiceGUI").wait_s for _ in range(12)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 60.0


def test_restarts_long_ago_are_forgotten():
    clock = Clock()
    r = rules(clock)
    for _ in range(5):
        r.exited("learner", False, 1)
    clock.now += 121
    assert r.exited("learner", False, 1).wait_s == 0.5
