"""Pieces of episodes: put together, refused when damaged, asked for when missing."""

import numpy as np
import pytest

from resfit_core.data.episode import Episode, EpisodeError
from resfit_core.data.intake import EpisodeIntake


def episode(number=1, revision=0):
    return Episode(
        observation=np.zeros((3, 2)), base_action=np.zeros((3, 1)), chunk_phase=np.zeros(3),
        action=np.zeros((2, 1)), reward=[0, 1], terminated=True, truncated=False,
        intervention=[False] * 2, explored=[False] * 2, episode=number, revision=revision,
        success=True,
    )  # fmt: skip


def send(intake, sent, order=(0, 1), sha256=None):
    data = sent.to_bytes()
    parts = [data[:100], data[100:]]
    got = None
    for n in order:
        got = intake.add(sent.episode, sent.revision, n, 2, parts[n], sha256 or sent.sha256)
    return got


def test_pieces_in_any_order_make_the_episode_once():
    intake = EpisodeIntake()
    assert send(intake, episode(), (1, 0)).sha256 == episode().sha256
    assert send(intake, episode()) is None
    assert send(intake, episode(revision=1)).revision == 1


def test_a_damaged_payload_is_refused_and_can_come_again():
    intake = EpisodeIntake()
    with pytest.raises(EpisodeError, match="announced 000000000000…; refused"):
        send(intake, episode(), sha256="0" * 64)
    assert send(intake, episode()) is not None


def test_a_payload_under_another_number_is_refused():
    sent = episode(2)
    with pytest.raises(EpisodeError, match="announced as episode 1 revision 0 holds episode 2"):
        EpisodeIntake().add(1, 0, 0, 1, sent.to_bytes(), sent.sha256)


def ask(intake, now_s, is_there=True):
    """Ask and be answered at once; return what was asked for."""
    asked = intake.to_ask(now_s)
    gone = [number for number in asked if intake.answered(number, is_there)]
    return asked, gone


def test_an_announced_episode_that_does_not_come_is_asked_for_until_five_answers():
    intake = EpisodeIntake(patience_s=2.0)
    intake.expect(1, 0, now_s=0.0)
    assert intake.to_ask(1.9) == []
    assert ask(intake, 2.0) == ([1], [])
    assert ask(intake, 2.1) == ([], [])
    asked = [ask(intake, 2.0 * n) for n in range(2, 7)]
    assert asked == [([1], [])] * 3 + [([1], [1])] + [([], [])]


def test_an_unanswered_question_is_asked_for_ever_and_ever_less_often():
    """A link that was down for a minute: five tries were over before it came back."""
    intake = EpisodeIntake(patience_s=1.0)
    intake.expect(1, 0, now_s=0.0)
    times = [now for now in range(100) if intake.to_ask(float(now))]
    assert times[:6] == [1, 2, 4, 8, 16, 24]
    assert times[-1] > 90
    assert send(intake, episode()) is not None
    assert intake.to_ask(200.0) == []


def test_what_comes_piece_by_piece_is_not_asked_for_again():
    intake, sent = EpisodeIntake(patience_s=1.0), episode()
    intake.expect(1, 0, now_s=0.0)
    assert intake.to_ask(1.0) == [1]
    intake.add(1, 0, 0, 2, sent.to_bytes()[:100], sent.sha256)
    assert intake.to_ask(2.0) == []
    assert intake.to_ask(2.9) == []
    assert intake.to_ask(3.0) == [1]


def test_what_was_closed_unheard_is_asked_for_a_few_at_once():
    intake = EpisodeIntake(patience_s=1.0)
    intake.have(1, 0)
    intake.forget(2)
    intake.heard_of(8, 0.0)
    assert intake.to_ask(1.0) == [3, 4, 5, 6]
    assert intake.to_ask(1.1) == []
    send(intake, episode(3))
    assert intake.to_ask(1.2) == [7]
    intake.heard_of(9, 2.0)
    for number in (4, 5, 6, 7):
        send(intake, episode(number))
    assert intake.to_ask(4.0) == [8]


def test_after_a_silence_the_last_verdicts_are_asked_for_again():
    intake = EpisodeIntake(patience_s=1.0)
    assert not intake.link(False, 0.0)
    intake.link(True, 0.0)
    for number in (1, 2):
        intake.have(number, 0)
    intake.heard_of(3, 0.0)
    assert intake.to_ask(5.0) == []
    intake.link(False, 10.0)
    intake.link(True, 70.0)
    assert intake.to_ask(71.0) == [2, 3]
    assert not intake.answered(3, False), "it runs yet: nothing is done without"
    assert send(intake, episode(2)) is None
    assert intake.to_ask(79.0) == []
    intake.link(False, 80.0)
    intake.link(True, 90.0)
    assert intake.to_ask(91.0) == [2, 3]
    intake.expect(2, 0, 91.1)  # announced before its pieces come: it was asked for in vain
    assert send(intake, episode(2)) is None
    intake.answered(3, False)
    assert intake.to_ask(99.0) == []
    intake.link(False, 100.0)
    intake.link(True, 110.0)
    assert 2 in intake.to_ask(111.0)
    assert send(intake, episode(2, revision=1)).revision == 1, "the verdict was corrected unheard"


def test_a_corrected_verdict_is_asked_for():
    intake = EpisodeIntake()
    send(intake, episode(3))
    intake.expect(3, 0, 0.0)
    assert intake.to_ask(9.0) == []
    intake.expect(3, 1, 0.0)
    assert intake.to_ask(9.0) == [3]
