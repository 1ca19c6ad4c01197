"""What the safety file adds to the filter: acceleration, force, collisions, slow starts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from resfit_core.contract import Contract, load_contract
from resfit_core.control.safety import LIMITED, Reason, SafetyFilter
from resfit_core.data.bag_reader import read_episodes
from resfit_core.strict_yaml import ContractError

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
TASK = CONFIG / "task/woolly_ball_pnp.yaml"
QUIET = np.zeros((2, 6))
ARM, HAND, HEAD = 0, 7, 26
PER_PERIOD = 40 / 20**2  # acceleration 40 rad/s^2 at 20 Hz: .1 rad per period more each period


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", TASK)


@pytest.fixture(scope="module")
def start() -> np.ndarray:
    """Where the demonstrations start: nothing touches there."""
    return read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos")[0].action_rad[0]


@pytest.fixture
def safety(contract: Contract, start: np.ndarray) -> SafetyFilter:
    made = SafetyFilter(contract)
    made.reset(start)
    return made


def moved(values: np.ndarray, joint: int, by: float) -> np.ndarray:
    out = values.copy()
    out[joint] += by
    return out


def pushed(stream: int, newton: float = 0.0, newton_metre: float = 0.0) -> np.ndarray:
    """Wrenches with one force along y and one torque about x."""
    out = QUIET.copy()
    out[stream, 1], out[stream, 3] = newton, newton_metre
    return out


# --- acceleration --------------------------------------------------------------------------------


def test_speeding_up_is_limited(safety, start) -> None:
    # The head: 3.2 rad/s is .16 rad per period; from rest .1 are allowed, then .16.
    first, reasons = safety.filter(moved(start, HEAD, 0.16), start)
    assert first[HEAD] - start[HEAD] == pytest.approx(PER_PERIOD)
    assert reasons == Reason.ACCELERATION_LIMIT
    second, reasons = safety.filter(first + (moved(start, HEAD, 0.16) - start), first)
    assert second[HEAD] - first[HEAD] == pytest.approx(0.16)
    assert reasons == 0


def test_braking_is_free_and_never_overshoots_what_was_told(safety, start) -> None:
    moving, _ = safety.filter(moved(start, HEAD, 0.09), start)
    stopped, reasons = safety.filter(moving, moving)
    np.testing.assert_array_equal(stopped, moving)
    assert reasons == 0


def test_turning_back_brakes_at_once_and_speeds_up_from_rest(safety, start) -> None:
    moving, _ = safety.filter(moved(start, HEAD, 0.09), start)
    back, reasons = safety.filter(moved(moving, HEAD, -0.15), moving)
    assert back[HEAD] - moving[HEAD] == pytest.approx(-PER_PERIOD)
    assert reasons == Reason.ACCELERATION_LIMIT


# --- force ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [pushed(1, newton=90.1), pushed(1, newton_metre=12.1)])
def test_an_overloaded_wrist_holds_its_arm_where_it_is(safety, start, load) -> None:
    behind = start - 0.05  # every joint lags its target
    action, reasons = safety.filter(start + 0.01, behind, load)
    assert reasons == Reason.FORCE_LIMIT
    assert not reasons & LIMITED
    np.testing.assert_array_equal(action[13:20], behind[13:20])  # the right arm gives way
    np.testing.assert_array_equal(action[:13], start[:13])
    np.testing.assert_array_equal(action[20:], start[20:])  # the grip stays


def test_force_has_hysteresis(safety, start) -> None:
    def reasons(newton: float) -> int:
        return safety.filter(start, start, pushed(0, newton)).reasons

    assert [reasons(n) for n in (89.9, 90.1, 89.0, 45.1)] == [0, *[int(Reason.FORCE_LIMIT)] * 3]
    assert [reasons(n) for n in (44.9, 89.9, 90.1)] == [0, 0, Reason.FORCE_LIMIT]


def test_held_arm_does_not_follow_its_own_sinking(safety, start) -> None:
    """Held once, where it was when the limit was passed: else it would creep away under load."""
    first, _ = safety.filter(start, start - 0.02, pushed(0, 95))
    second, _ = safety.filter(start, start - 0.09, pushed(0, 95))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("bad", [np.full((2, 6), np.nan), np.zeros((1, 6)), np.zeros((2, 3))])
def test_unsound_wrenches_hold(safety, start, bad) -> None:
    action, reasons = safety.filter(moved(start, HEAD, 0.05), start, bad)
    assert reasons == Reason.STALE_WRENCH
    np.testing.assert_array_equal(action, start)


def test_a_pause_does_not_forget_the_load(safety, start) -> None:
    """The hysteresis was forgotten at a reset: between release and limit the arm moved again."""
    safety.filter(start, start, pushed(0, 95))
    safety.reset(start)
    assert safety.filter(start, start, pushed(0, 60)).reasons == Reason.FORCE_LIMIT
    assert safety.filter(start, start, pushed(0, 30)).reasons == 0


# --- collisions ----------------------------------------------------------------------------------


def drive(safety: SafetyFilter, position: np.ndarray, step, ticks: int = 60):
    """Ask for `step(position)` again and again on a robot that follows at once."""
    seen = 0
    for _ in range(ticks):
        position, reasons = safety.filter(step(position), position, QUIET)
        seen |= reasons
    return position, seen


def test_an_arm_driven_into_the_table_stops_at_its_margin(contract) -> None:
    model, shoulder = contract.safety.collision, contract.joint_names.index("R_arm_j1")
    poses = read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos")[0].action_rad
    low = min(poses, key=lambda q: model.heights(q)["R_hand_base"])
    ahead = [model.heights(moved(low, shoulder, by))["R_hand_base"] for by in (-0.02, 0.02)]
    down = 0.02 if ahead[1] < ahead[0] else -0.02
    safety = SafetyFilter(contract)
    safety.reset(low)
    end, seen = drive(safety, low, lambda q: moved(q, shoulder, down))
    assert seen & Reason.OBSTACLE
    clear = {n: h for n, h in model.heights(end).items() if n.startswith(("R_arm", "R_hand"))}
    assert -0.03 <= min(clear.values()) < -0.01
    # And away from there again, freely.
    back, reasons = safety.filter(moved(end, shoulder, -down), end, QUIET)
    assert not reasons & Reason.OBSTACLE
    assert back[shoulder] == end[shoulder] - down


def test_fingers_stop_at_the_thumb_and_the_arm_goes_on(safety, contract, start) -> None:
    names = list(contract.joint_names)
    goal = start.copy()
    for joint, value in (("R_th_j0", 1.25), ("R_th_j1", -0.32), ("R_ff_j1", -0.63)):
        goal[names.index(joint)] = value
    goal[HEAD] += 0.4
    end, seen = drive(safety, start, lambda q: goal)
    assert seen & Reason.SELF_COLLISION
    gap = min(
        metres
        for (a, b), metres in contract.safety.collision.gaps(end).items()
        if a.startswith("R_th") and b.startswith("R_ff")
    )
    assert gap >= -0.021 - 1e-6
    assert end[HEAD] == pytest.approx(goal[HEAD])


def test_random_targets_never_bring_the_robot_together(safety, contract, start) -> None:
    """Whatever is asked for, what may be sent keeps every margin that the start keeps."""
    rng, model = np.random.default_rng(3), contract.safety.collision
    position = start
    for _ in range(150):
        target = rng.uniform(contract.lower, contract.upper)
        position, _ = safety.filter(target, position, QUIET)
        again = model.check(start, position)
        assert again is None, again.pairs


# --- as a whole ----------------------------------------------------------------------------------


def test_the_filter_alters_nothing_in_the_shipped_demonstrations(contract) -> None:
    """To the bit: who hits no limit is carried out as before."""
    layout, steps = contract.layout, 0
    for episode in read_episodes(CONFIG / "shipped/woolly_ball_pnp/demos"):
        seen = episode.observation.astype(np.float64)
        position, load = seen[:, layout["joint_position"]], seen[:, layout["wrench"]]
        safety = SafetyFilter(contract)
        safety.reset(position[0])
        for k, action in enumerate(episode.action_rad):
            out, reasons = safety.filter(action, position[k], load[k].reshape(2, 6))
            assert (reasons, out.tobytes()) == (0, action.tobytes())
            steps += 1
    assert steps > 2000


def test_slow_start_limits_velocity_and_says_ramp(safety, start) -> None:
    action, reasons = safety.filter(moved(start, ARM, 0.1), start, slow=0.1)
    assert action[ARM] - start[ARM] == pytest.approx(0.1 * 2.4 / 20)
    assert reasons == Reason.RAMP
    assert reasons & LIMITED


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def changed(tmp_path: Path):
    """Load the contract with one line of the safety file changed."""

    def load(old: str, new: str) -> Contract:
        for kind in ("", ".safety", ".collision"):
            text = (CONFIG / f"robot/vega_1{kind}.yaml").read_text()
            assert kind != ".safety" or old in text
            (tmp_path / f"robot{kind}.yaml").write_text(
                text.replace(old, new, 1) if kind == ".safety" else text
            )
        return load_contract(tmp_path / "robot.yaml", TASK)

    return load


def test_the_file_is_not_hashed(contract, changed) -> None:
    other = changed("limit_n: 90", "limit_n: 60")
    assert other.sha256 == contract.sha256
    assert other.safety.force[0].limit_n == 60


def test_a_robot_without_the_file_has_the_contracts_limits_alone(tmp_path, start) -> None:
    (tmp_path / "robot.yaml").write_text((CONFIG / "robot/vega_1.yaml").read_text())
    bare = load_contract(tmp_path / "robot.yaml", TASK)
    assert bare.safety is None
    safety = SafetyFilter(bare)
    safety.reset(start)
    assert safety.filter(moved(start, HEAD, 0.16), start, pushed(0, 500)).reasons == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("release_n: 45", "release_n: 95", "release_n 95 must lie below limit_n 90"),
        ("limit_nm: 12", "limit_nm: -6", "'limit_nm' is -6"),
        ("left_wrist:", "left_elbow:", "unknown key 'left_elbow'"),
        ("group: left_arm", "group: left_leg", "group 'left_leg'"),
        ("start_scale: 0.1", "start_scale: 1.5", "'start_scale' is 1.5"),
        ("frozen_state_s: 0.5", "frozen_state_s: .inf", "'frozen_state_s' is inf"),
        ("head: 40", "heart: 40", "unknown key 'heart'"),
        ("half: [0.26, 0.52, 0.35]", "half: [0.26, 0.52]", "'half'"),
        ("left_thumb/left_index", "left_thumb/left_toe", "left_thumb/left_toe"),
    ],
)
def test_wrong_settings_are_refused_by_name(changed, old, new, message) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        changed(old, new)


def test_margins_without_a_model_are_refused(tmp_path) -> None:
    for kind in ("", ".safety"):
        (tmp_path / f"robot{kind}.yaml").write_text(
            (CONFIG / f"robot/vega_1{kind}.yaml").read_text()
        )
    with pytest.raises(ContractError, match="collision model"):
        load_contract(tmp_path / "robot.yaml", TASK)
    settings = yaml.safe_load((tmp_path / "robot.safety.yaml").read_text())
    (tmp_path / "robot.safety.yaml").write_text(
        yaml.safe_dump({**settings, "margins_m": {}, "boxes": {}})
    )
    assert load_contract(tmp_path / "robot.yaml", TASK).safety.collision is None
