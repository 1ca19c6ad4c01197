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


def test_an_announced_episode_that_does_not_come_is_asked_for_a_few_times():
    intake = EpisodeIntake(patience_s=2.0)
    intake.expect(1, 0, now_s=0.0)
    assert intake.to_ask(1.9) == []
    assert intake.to_ask(2.0) == [1]
    assert intake.to_ask(2.1) == []
    assert [intake.to_ask(2.0 * n) for n in range(2, 8)] == [[1], [1], [1], [1], [], []]
    assert (intake.given_up(), intake.given_up()) == ([1], [])


def test_what_came_or_cannot_be_had_is_not_asked_for():
    intake = EpisodeIntake()
    intake.expect_all(range(1, 5), 0.0)
    intake.have(1, 0)
    intake.forget(2)
    send(intake, episode(3))
    assert intake.to_ask(9.0) == [4]
    intake.expect(3, 0, 0.0)
    intake.expect(3, 1, 0.0)  # a corrected verdict
    assert intake.to_ask(9.0) == [3]
