"""A Gymnasium environment behind the loop: what is executed, how episodes end, what is seen."""

import gym_cases
import numpy as np
import pytest

from resfit_core.action_space import ActionSpace
from resfit_core.data.episode import DEMO, TRAIN
from resfit_core.loop import rollout
from resfit_core.train.base import NamedBase
from resfit_core.train.demos import read_demos, relabel
from resfit_core.train.gym_task import GymTask
from resfit_core.train.spaces import read_spaces

SEED = 7


class Pusher:
    """Pushes on whatever the base says."""

    def __init__(self, action):
        self.action, self.images = np.array([action], np.float32), []

    def begin_episode(self, seed, mode, use_residual=True):
        pass

    def executed(self, action_norm):
        pass

    def act(self, observation, base_action, chunk_phase, images=None):
        self.images.append(images)
        return self.action, False


def parts(kind, low, high, base="gym_cases:base"):
    env = kind()
    spaces = read_spaces(env, "test")
    space = ActionSpace(np.array([low]), np.array([high]))
    first = spaces.split(env.reset(seed=0)[0], "test")
    named = NamedBase(base, spaces).chunked(space, "c" * 64, *first)
    return env, GymTask(env, "test", spaces, space), named


def play(kind, action, low=-100.0, high=100.0, **more):
    env, task, base = parts(kind, low, high, **more)
    policy = Pusher(action)
    return env, rollout(task, base, policy, seed=SEED, mode=TRAIN, number=1), policy


def test_the_action_reaches_the_environment_in_its_own_units():
    env, episode, _ = play(gym_cases.Slide, 0.5)
    assert {float(a[0]) for a in env.taken} == {50.0}
    assert (episode.action == 0.5).all()


def test_the_executed_action_is_what_the_box_let_through():
    """The range of [-1, 1] is wider than the Box here: 1 means 300 mm, the Box ends at 100."""
    env, episode, _ = play(gym_cases.Slide, 1.0, -300.0, 300.0)
    assert {float(a[0]) for a in env.taken} == {100.0}
    assert episode.action == pytest.approx(1 / 3)


def test_the_range_is_that_of_the_demos_widened_by_the_scale():
    """One rule for robot and library: METHOD, half-range at least .05, times 1 + scale."""
    space = ActionSpace.from_demos(np.array([[0.0, 1.0], [4.0, 1.0]]), np.array([0.5, 0.2]))
    assert space.low == pytest.approx([-1.0, 1 - 0.06])
    assert space.high == pytest.approx([5.0, 1 + 0.06])


def test_a_success_terminates_with_reward():
    env, task, base = parts(gym_cases.Slide, -100, 100)
    task.reset(SEED)
    task._env.goal = 0.1
    result = task.step(np.array([1.0], np.float32))
    assert (result.success, result.failed, result.done) == (True, False, False)
    del env, base


def test_a_time_out_is_truncated():
    _, episode, _ = play(gym_cases.Slide, 0.0)
    assert (episode.terminated, episode.truncated, episode.success) == (False, True, False)
    assert episode.steps == gym_cases.HORIZON


def test_a_fall_is_terminated_without_reward():
    _, episode, _ = play(gym_cases.Falling, 0.9)
    assert (episode.terminated, episode.truncated, episode.success) == (True, False, False)
    assert episode.reward.sum() == 0
    assert episode.steps < gym_cases.HORIZON


def test_images_reach_policy_episode_and_base():
    """The base asserts that it sees the environment's own sizes."""
    _, episode, policy = play(gym_cases.Seen, 0.2, base="gym_cases:seen_base")
    shapes = {name: image.shape for name, image in episode.images.items()}
    assert shapes == {"top": (13, 84, 84, 3), "wrist": (13, 24, 24, 3)}
    assert episode.observation.shape == (13, 1)
    for step, images in enumerate(policy.images):
        assert np.array_equal(images["top"], episode.images["top"][step])
    assert episode.images["top"][..., 1].any()
    assert not episode.images["top"][..., 0].any()


@pytest.mark.parametrize("kind", [gym_cases.Slide, gym_cases.Seen])
def test_demos_are_relabelled_open_loop(tmp_path, kind):
    base = "gym_cases:base" if kind is gym_cases.Slide else "gym_cases:seen_base"
    env, _, chunked = parts(kind, -100, 100, base)
    spaces = read_spaces(env, "test")
    arrays = gym_cases.record(kind(), 3)
    arrays["actions"][0] = 250.0  # the environment would have clipped it
    np.savez(tmp_path / "d.npz", **arrays)
    demos = read_demos(tmp_path / "d.npz", spaces)
    episodes = relabel(demos, spaces, chunked, ActionSpace(np.array([-100.0]), np.array([100.0])))
    assert [e.steps for e in episodes] == np.diff(arrays["episode_ends"], prepend=0).tolist()
    assert episodes[0].action[0] == 1.0
    for episode in episodes:
        assert (episode.mode, episode.success, episode.terminated) == (DEMO, True, True)
        assert episode.reward.tolist() == [0] * (episode.steps - 1) + [1]
        phases = (np.arange(episode.steps + 1) % gym_cases.CHUNK) / gym_cases.CHUNK
        assert episode.chunk_phase == pytest.approx(phases)
        # Within a chunk the base goes on with the plan that it made at the chunk's start.
        row = 4 * (episode.steps // 4)
        seen = {"": episode.observation[row][None]}[""]
        if kind is gym_cases.Slide:
            assert episode.base_action[row] == pytest.approx(gym_cases.base(seen)[0, 0] / 100)
        assert np.array_equal(episode.observation[-1], episode.observation[-2])
        assert set(episode.images) == set(spaces.cameras)
