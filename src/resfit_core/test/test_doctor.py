"""Each check of `resfit doctor` with a case that passes and one that fails."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed ('make setup' installs it)")
from bag_maker import vega_contract
from learning_cases import ACT, episode, learner, small_config

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase
from resfit_core.control.guard import Guard
from resfit_core.doctor import critic, live, names, policy, practice
from resfit_core.doctor.finding import FAIL, OK, SKIPPED
from resfit_core.run_log import EpisodeLine

JOINTS = ("hip", "knee", "toe")
SPACE = ActionSpace(np.full(3, -1.0), np.full(3, 1.0))


def wave(rows=200, joints=3):
    """Each joint moves in its own way. Shape: (rows, joints)."""
    t = np.linspace(0, 6, rows)[:, None]
    return 0.6 * np.sin(t * np.arange(1, joints + 1) + np.arange(joints))


def line(number, success, mode="train", **changes):
    ended_by = "success" if success else "timeout"
    fields = {"use_residual": True, "weights_version": 1, "seed": number, "steps": 9,
              "ended_by": ended_by, "start_s": 0.0, "end_s": 1.0}  # fmt: skip
    return EpisodeLine(episode=number, mode=mode, success=success, **{**fields, **changes})


class Sticky(ChunkedBase):
    """A base whose reset forgets to drop the chunk."""

    def reset(self, seed=None):
        pass


class Noisy(ChunkedBase):
    """A base whose noise does not start anew."""

    def act(self, observation, images=None):
        self.count = getattr(self, "count", 0) + 1
        proposal = super().act(observation, images)
        return proposal._replace(action_norm=proposal.action_norm + np.float32(0.001 * self.count))


def base(kind=ChunkedBase):
    return kind(lambda o, i: np.tile(o[:3], (4, 1)), 4, SPACE, "b" * 64, "c" * 64)


def test_scale_zero():
    actions = np.clip(wave(), -1, 1)
    assert policy.scale_zero(actions, JOINTS).state == OK
    actions[7, 1] = 1.25
    found = policy.scale_zero(actions, JOINTS)
    assert found.failed
    assert "'knee'" in found.says and "[-1, 1]" in found.fix
    smaller = policy.scale_zero(
        np.clip(wave(), -1, 1), JOINTS, lambda b, r, s: b * np.float32(0.999)
    )
    assert smaller.failed and "combine" in smaller.fix


@pytest.mark.parametrize(("kind", "state"), [(ChunkedBase, OK), (Sticky, FAIL), (Noisy, FAIL)])
def test_queue_reset(kind, state):
    found = policy.queue_reset(base(kind), wave(20).astype(np.float32), [{}] * 20)
    assert found.state == state
    assert bool(found.fix) == (state == FAIL)


def test_queue_reset_in_run():
    assert policy.queue_reset_in_run([(1, 0.0), (2, 0.0)]).state == OK
    found = policy.queue_reset_in_run([(1, 0.0), (2, 0.35)])
    assert found.failed and "episode 2" in found.says


def test_base_passed_on():
    actions = wave(10).astype(np.float32)
    assert policy.passed_on([]).state == SKIPPED
    assert policy.passed_on([(1, actions, actions.copy())]).state == OK
    touched = actions.copy()
    touched[4, 0] = np.nextafter(touched[4, 0], np.float32(2))
    found = policy.passed_on([(3, actions, touched)])
    assert found.failed and "episode 3" in found.says and "step 4" in found.says


def test_joint_order():
    targets = wave()
    assert policy.joint_order(JOINTS, targets, targets + 0.01, "a, b", "mend").state == OK
    found = policy.joint_order(JOINTS, targets, targets[:, [0, 2, 1]] + 0.01, "a, b", "mend")
    assert found.failed and "'knee'" in found.says and "'toe'" in found.says
    still = policy.joint_order(JOINTS, targets * 0.01, targets, "a, b", "mend")
    assert still.state == SKIPPED


def test_blocked_finger_is_no_swap():
    """Of two fingers told the same, the one that a grasped ball stops was taken for the other."""
    targets = wave()
    targets[:, 2] = targets[:, 1]
    measured = targets.copy()
    measured[:, 1] = np.minimum(measured[:, 1], -0.1)
    assert policy.joint_order(JOINTS, targets, measured, "a, b", "mend").state == OK


def test_joint_limits_and_action_range():
    low, high = np.full(3, -0.7), np.full(3, 0.7)
    assert policy.joint_limits(JOINTS, low, high, wave(), "demos").state == OK
    degrees = policy.joint_limits(JOINTS, low, high, np.rad2deg(wave()), "demos")
    assert degrees.failed and "rad" in degrees.says
    assert policy.within_range(JOINTS, low, high, wave()).state == OK
    assert policy.within_range(JOINTS, low, high / 7, wave()).failed


def test_control_rate():
    even = np.arange(0, 10**9, 50_000_000)
    assert policy.gaps([even], 0.05).state == OK
    assert policy.gaps([even * 2], 0.05).failed
    assert policy.gaps([even[:1]], 0.05).state == SKIPPED


def test_drift_names_the_number_that_moved():
    rng = np.random.default_rng(0)
    demos, run = rng.normal(size=(500, 3)), rng.normal(size=(300, 3))
    assert practice.drift(demos, run, JOINTS).state == OK
    run[:, 2] += 4.0
    found = practice.drift(demos, run, JOINTS)
    assert found.failed and "'toe'" in found.says and "1 of 3" in found.says
    run[:, 2] = np.where(rng.random(300) < 0.3, 8.0, 0.0)  # the mean alone would not tell
    assert practice.drift(demos, run, JOINTS).failed


def test_dimensions_have_names_and_pictures_count():
    contract = vega_contract("pixels")
    named = names.dimension_names(contract)
    rows = np.zeros((2, contract.obs_dim), np.float32)
    dark = [np.zeros((2, 4, 4, 3), np.uint8) for _ in contract.images]
    light = [np.full((2, 4, 4, 3), 60, np.uint8) for _ in contract.images]
    floor = names.floors(contract, 0.01)
    assert len(named) == names.with_pictures(rows, dark).shape[1] == len(floor)
    found = practice.drift(
        names.with_pictures(rows, dark), names.with_pictures(rows, light), named, floor
    )
    assert found.failed and f"image {contract.images[0]} red" in found.says


def test_saturation():
    used = np.full((100, 3), 0.5)
    scale = np.array([0.1, 0.1, 0.0])
    assert practice.saturation(used, JOINTS, scale).state == OK
    used[:80, 1:] = 1.0
    found = practice.saturation(used, JOINTS, scale)
    assert found.failed and "'knee' 80%" in found.says
    assert "toe" not in found.says  # scale 0: it is not corrected
    assert practice.saturation(used[:0], JOINTS, scale).state == SKIPPED


def test_rewards():
    never = [line(n, False) for n in range(1, practice.NO_REWARD_AFTER + 1)]
    assert practice.rewards(never).failed
    assert practice.rewards(never[:-1]).state == OK  # too early to tell
    assert practice.rewards([*never, line(99, True)]).state == OK
    assert practice.rewards([], demo_successes=0).failed
    assert practice.rewards([]).state == SKIPPED


def test_success_below_the_base_is_what_the_guard_says():
    base_lines = [line(n, True, "warmup", weights_version=0) for n in range(1, 11)]
    worse = [line(n, False) for n in range(11, 31)]
    found = practice.success([*base_lines, *worse], Guard())
    assert found.failed and "stepped back to the base" in found.says
    early = practice.success([*base_lines, line(11, True)], Guard())
    assert early.state == OK and "on trial: the residual had 1 of its last 1" in str(early)
    # Without a guard nothing is compared, and nothing is claimed.
    unguarded = practice.success([*base_lines, *worse], Guard(confidence=0))
    assert unguarded.state == OK and "the base" not in str(unguarded)
    assert practice.success(base_lines, Guard()).state == SKIPPED
    pairs = [line(n, n % 2 == 0, "evaluate", use_residual=n % 2 == 1) for n in range(40)]
    assert practice.success(pairs, Guard()).failed


def trained():
    made = learner(small_config(critic_output_init=0.3))
    for number in (1, 2, 3):
        made.add_episode(episode(number, 12, number == 2))
    made.train(30)
    return made


def test_q_sensitivity_and_a_critic_that_is_blind_to_the_action():
    assert critic.sensitivity(critic.measure(learner())).state == SKIPPED
    made = trained()
    share = critic.measure(made)
    assert critic.sensitivity(share).state == OK
    with critic.torch.no_grad():
        made.algorithm.critic.weight1[:, -ACT:] = 0.0
    assert critic.sensitivity(critic.measure(made)).failed


def test_learner_that_is_looked_at_stays_the_same_run():
    looked, left = trained(), trained()
    critic.measure(looked)
    live.reach(looked, JOINTS[:ACT])
    for made in (looked, left):
        made.add_episode(episode(4, 12))
        made.train(20)
    assert looked.weights_bytes(1) == left.weights_bytes(1)


def test_live_complaint_of_an_actor_at_its_limit(monkeypatch):
    made = trained()
    assert live.complaints(made, JOINTS[:ACT]) == ""  # hardly begun: nothing can be judged
    monkeypatch.setattr(live, "_SETTLED_UPDATES", 0)
    assert live.complaints(made, JOINTS[:ACT]) == ""
    with critic.torch.no_grad():
        list(made.algorithm.actor.parameters())[-1].fill_(9.0)
    assert "2 joints have their residual at its end" in live.complaints(made, JOINTS[:ACT])
