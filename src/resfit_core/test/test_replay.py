"""Replay: n-step windows worked by hand, the ring, revisions and the mixing of both halves."""

import numpy as np
import pytest
from learning_cases import ACT, OBS, episode

from resfit_core.data.episode import DEMO, EVALUATE, EpisodeError
from resfit_core.data.mixed import MixedReplay
from resfit_core.data.replay import ReplayBuffer, ReplayError

GAMMA = 0.5


def buffer(capacity=100, **kwargs):
    return ReplayBuffer(OBS, ACT, capacity, **kwargs)


def mixed(demos=1000, online=1000, **changes):
    options = {"n_step": 3, "gamma": 0.9, "demo_fraction": 0.5, **changes}
    return MixedReplay(buffer(demos), buffer(online), **options)


def all_windows(ring, n_step, gamma=GAMMA):
    return ring.windows(ring._locate(np.arange(len(ring))), n_step, gamma)


def test_windows_that_end_in_success_are_not_bootstrapped():
    """4 steps, reward 1 at the last, n = 3, gamma = 1/2.

    t=0: steps 0 1 2: reward 0; goes on at 3 with 1/8.
    t=1: steps 1 2 3: 1/4; ends.   t=2: steps 2 3: 1/2; ends.   t=3: step 3: 1; ends.
    """
    ring = buffer()
    ring.add(episode(1, 4, True))
    windows = all_windows(ring, 3)
    np.testing.assert_allclose(windows.reward, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(windows.discount, [0.125, 0, 0, 0])
    assert windows.next_observation[0, 0] == 103


def test_windows_that_end_in_a_time_out_bootstrap_from_the_last_observation():
    """The bug pinned: a time-out stored as termination, or a window leaking across the reset.

    4 steps, n = 3: lengths 3 3 2 1, so 1/8 1/8 1/4 1/2, next observation 3 4 4 4.
    """
    ring = buffer()
    first = episode(1, 4, reward=np.array([1.0, 2.0, 4.0, 8.0]))
    ring.add(first)
    ring.add(episode(2, 4, True))
    windows = all_windows(ring, 3)
    np.testing.assert_allclose(windows.reward[:4], [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8])
    np.testing.assert_allclose(windows.discount[:4], [0.125, 0.125, 0.25, 0.5])
    np.testing.assert_array_equal(windows.next_observation[:4, 0], [103, 104, 104, 104])
    np.testing.assert_array_equal(windows.next_base_action[1], first.base_action[4])
    np.testing.assert_array_equal(windows.next_chunk_phase[:, 0][1:4], 0)


def test_what_was_stored_comes_back():
    images = {"left": np.random.default_rng(0).integers(0, 255, (5, 2, 2, 3), np.uint8)}
    ring = buffer(7, image_shapes={"left": (2, 2, 3)})
    for number in (1, 2, 3):  # the ring of 7 rows wraps
        stored = episode(
            number, 4, True, images=images, revision=1, intervention=[True, False, True, False],
            proposed=np.full((4, ACT), 0.1 * number),
        )  # fmt: skip
        ring.add(stored)
        assert ring.get(stored.key).to_bytes() == stored.to_bytes()
    windows = ring.windows(ring._locate(np.array([1])), 2, GAMMA)
    np.testing.assert_array_equal(windows.images["left"][0], images["left"][1])
    np.testing.assert_array_equal(windows.next_images["left"][0], images["left"][3])


def test_the_last_action_follows_the_observation_and_never_crosses_an_episode():
    buffer = ReplayBuffer(OBS, ACT, 100, last_action=True)
    first, second = episode(1, 4), episode(2, 3, True)
    buffer.add(first)
    buffer.add(second)
    windows = buffer.windows(np.arange(4), 1, 0.9)
    wanted = np.concatenate((np.zeros((1, ACT)), first.action[:-1]))
    assert np.array_equal(windows.observation[:, OBS:], wanted.astype(np.float32))
    assert np.array_equal(windows.next_observation[:, OBS:], first.action)
    assert np.array_equal(buffer.windows(np.array([5]), 1, 0.9).observation[0, OBS:], [0, 0])
    assert buffer.get(second.key).sha256 == second.sha256


def test_oldest_episodes_make_room_and_windows_stay_whole():
    ring = buffer(12)
    for number in range(1, 8):
        ring.add(episode(number, 4))
        windows = all_windows(ring, 10)
        # From every step the window ends at its own episode's last observation.
        np.testing.assert_array_equal(
            windows.next_observation[:, 0] // 100, windows.observation[:, 0] // 100
        )
        np.testing.assert_array_equal(windows.next_observation[:, 0] % 100, 4)
    assert ring.episodes == 2
    assert len(ring) == 8


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_a_higher_revision_replaces_and_a_repeated_one_does_nothing(steps):
    ring = buffer()
    ring.add(episode(1, 4, True))
    ring.add(episode(2, 4))
    assert not ring.add(episode(1, 4, True))
    corrected = episode(1, steps, revision=1)
    assert ring.add(corrected)
    assert not ring.add(episode(1, 4, True))
    assert ring.episodes == 2
    assert len(ring) == steps + 4
    assert ring.get(corrected.key).sha256 == corrected.sha256
    assert all_windows(ring, 3).discount.min() > 0


def test_hash_depends_on_content_and_order_not_on_place():
    wrapped, fresh, other = buffer(12), buffer(), buffer()
    for number in (1, 2, 3, 4):
        wrapped.add(episode(number, 4))
    for number in (3, 4):
        fresh.add(episode(number, 4))
    for number in (4, 3):
        other.add(episode(number, 4))
    assert wrapped.sha256() == fresh.sha256() != other.sha256()


def test_refusals():
    with pytest.raises(ReplayError, match="raise replay_capacity"):
        buffer(4).add(episode(1, 4))
    with pytest.raises(ReplayError, match="use the contract"):
        ReplayBuffer(OBS + 1, ACT, 100).add(episode(1, 4))
    with pytest.raises(ReplayError, match="empty"):
        buffer().draw(np.random.default_rng(0), 1)
    with pytest.raises(ReplayError, match="never see it"):
        mixed().add(episode(1, 4, mode=EVALUATE))


def test_batch_is_half_demos_first_then_online():
    replay = mixed()
    assert replay.add_demo(episode(1, 5, True, mode=DEMO))
    only = replay.sample(8)
    assert only.demos == 8
    replay.add(episode(2, 5))
    batch = replay.sample(8)
    assert batch.demos == 4
    assert (batch.observation[:4, 0] < 200).all()
    assert (batch.observation[4:, 0] >= 200).all()
    assert batch.observation.dtype == batch.reward.dtype == batch.discount.dtype == np.float32


def test_without_demos_the_batch_is_online():
    replay = mixed()
    replay.add(episode(2, 5))
    assert replay.sample(8).demos == 0


def test_success_joins_the_demos_until_its_verdict_is_corrected():
    replay = mixed(successes_to_demos=True)
    replay.add_demo(episode(1, 5, True, mode=DEMO))
    replay.add(episode(1, 6, True))  # same number as the demo, yet another episode
    assert replay.demos.episodes == 2
    assert replay.online.episodes == 1
    replay.add(episode(1, 6, False, revision=1))
    assert replay.demos.episodes == 1
    assert replay.online.episodes == 1


def test_drawing_by_episode_gives_short_ones_the_same_chance():
    ring = buffer()
    ring.add(episode(1, 2))
    ring.add(episode(2, 60))
    index = ring.draw(np.random.default_rng(0), 4000, per_episode=True)
    share = (ring.windows(index, 1, 0.9).observation[:, 0] < 200).mean()
    assert 0.46 < share < 0.54
    share = (
        ring.windows(ring.draw(np.random.default_rng(0), 4000), 1, 0.9).observation[:, 0] < 200
    ).mean()
    assert 0.02 < share < 0.05


def test_what_a_person_did_joins_the_demo_half():
    """Windows of the demo half begin at a person's steps, in an episode that failed as well.

    8 steps, a person at 2, 3 and 6, n = 3: the windows of 2, 3 and 6 end at 5, 6 and 8.
    """
    replay = mixed()
    replay.add_demo(episode(1, 5, True, mode=DEMO))
    mask = np.isin(np.arange(8), [2, 3, 6])
    replay.add(episode(7, 8, intervention=mask))
    replay.add(episode(8, 8))
    assert (len(replay.demos), len(replay.online)) == (5 + 3, 16)
    windows = all_windows(replay.demos, 3)
    np.testing.assert_array_equal(windows.observation[5:, 0], [702, 703, 706])
    np.testing.assert_array_equal(windows.next_observation[5:, 0], [705, 706, 708])
    rng, drawn = np.random.default_rng(0), set()
    for per_episode in (False, True):
        index = replay.demos.draw(rng, 400, per_episode)
        drawn |= set(replay.demos.windows(index, 1, GAMMA).observation[:, 0] // 1)
    assert drawn == {100.0 + k for k in range(5)} | {702.0, 703.0, 706.0}


def test_corrected_verdict_keeps_a_persons_steps_in_the_demo_half():
    replay = mixed(successes_to_demos=True)
    mask = np.isin(np.arange(6), [1, 2])
    replay.add(episode(1, 6, True, intervention=mask))
    assert len(replay.demos) == 6
    replay.add(episode(1, 6, intervention=mask, revision=1))
    assert len(replay.demos) == 2
    assert not replay.demos.get((False, 1)).success
    replay.add(episode(1, 4, True, intervention=mask[:4], revision=2))
    assert len(replay.demos) == 4


def test_restored_halves_are_sampled_as_before():
    """A checkpoint names whole episodes: the demo half must not grow by reading it back."""
    replay = mixed(seed=3)
    replay.add_demo(episode(1, 5, True, mode=DEMO))
    for number in (4, 5):
        replay.add(episode(number, 8, intervention=np.arange(8) > 5))
    copy = mixed(seed=3)
    held = [[half.get(key) for key, _ in half.entries()] for half in (replay.demos, replay.online)]
    copy.restore(*held)
    assert copy.sha256() == replay.sha256()
    for name in ("observation", "action", "discount"):
        first, second = (getattr(r.sample(32), name) for r in (replay, copy))
        np.testing.assert_array_equal(first, second)


def test_proposals_of_another_shape_are_refused():
    with pytest.raises(EpisodeError, match="proposed has shape"):
        episode(1, 4, proposed=np.zeros((5, ACT)))
