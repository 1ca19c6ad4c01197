"""The clients without a robot: the scriptable fake, and the vendor's SDK by its stand-in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import sdk_stand_in

pytest.importorskip("resfit_vega_driver", reason="the workspace is not built: run 'make setup'")

from resfit_core.contract import Contract, load_contract
from resfit_core.strict_yaml import ContractError
from resfit_vega_driver.client import ClientError, Ears
from resfit_vega_driver.dexcontrol_client import DexcontrolClient, DexcontrolSettings
from resfit_vega_driver.fake_client import KINDS, FakeClient, Fault, read_script

CONFIG = Path(__file__).parents[3] / "config"
MS = 1_000_000


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml")


class Heard:
    """What a client said."""

    def __init__(self) -> None:
        self.states, self.wrenches, self.stops = [], [], []
        self.ears = Ears(
            lambda *a: self.states.append(a),
            lambda *a: self.wrenches.append(a),
            self.stops.append,
        )


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --- fake ----------------------------------------------------------------------------------------


class FakeBench:
    """A fake robot whose time passes by `pass_s`."""

    def __init__(self, contract: Contract, heard: Heard, script=()) -> None:
        self.now = 0
        self.client = FakeClient(
            contract, script, steady_ns=lambda: self.now, wall_ns=lambda: 10**18 + self.now
        )
        self.heard = heard
        self.client.open(heard.ears)

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.now += 10 * MS
            self.client.poll()


@pytest.fixture
def fake(contract, heard) -> FakeBench:
    return FakeBench(contract, heard)


def test_joints_follow_at_their_velocity_limits(fake, contract) -> None:
    target = fake.client.position.copy()
    target[0] += 1.0
    fake.client.send(7, target)
    fake.pass_s(0.1)
    assert fake.client.position[0] == pytest.approx(0.24)  # 2.4 rad/s
    fake.pass_s(0.5)
    np.testing.assert_array_equal(fake.client.position, target)
    assert fake.client.sent[0][1] == 7
    stamps = [stamp for stamp, *_ in fake.heard.states]
    assert np.diff(stamps).tolist() == [10 * MS] * (len(stamps) - 1)


def test_drop_delay_nan_freeze_jump_and_force(fake) -> None:
    fake.pass_s(0.1)
    fake.client.fault("drop", 0.105)
    fake.pass_s(0.1)
    assert len(fake.heard.states) == 10
    fake.client.fault("delay", 0.05, 0.2)
    fake.pass_s(0.1)
    late = len(fake.heard.states)
    fake.pass_s(0.2)
    assert late < len(fake.heard.states)
    fake.client.mend()
    for kind, holds in (
        ("nan", lambda p, w: np.isnan(p[0])),
        ("force", lambda p, w: w[0][2][2] == 50.0),
    ):
        fake.client.fault(kind, 0.02, 50.0)
        fake.heard.wrenches.clear()
        fake.pass_s(0.01)
        assert holds(fake.heard.states[-1][1], fake.heard.wrenches)
        fake.client.mend()
    before = fake.heard.states[-1][0]
    fake.client.fault("jump", value=-10.0)
    fake.pass_s(0.01)
    assert fake.heard.states[-1][0] < before
    fake.client.mend()
    fake.client.fault("freeze")
    fake.client.send(1, fake.client.position + 0.05)
    fake.pass_s(0.1)
    frozen = [position for _, position, _ in fake.heard.states[-5:]]
    assert all(np.array_equal(frozen[0], position) for position in frozen)


def test_never_still_to_the_last_bit_when_alive(fake) -> None:
    fake.pass_s(0.02)
    first, second = (position for _, position, _ in fake.heard.states)
    assert not np.array_equal(first, second)


def test_refusals_send_nothing(fake) -> None:
    for kind, error in (
        ("refuse", ClientError),
        ("estop", ClientError),
        ("crash", ZeroDivisionError),
    ):
        fake.client.fault(kind)
        with pytest.raises(error):
            fake.client.send(1, fake.client.position)
        fake.client.mend()
    assert not fake.client.sent


def test_emergency_stop_is_told_at_both_edges(contract, heard) -> None:
    bench = FakeBench(contract, heard, [Fault("estop", 0.1, 0.2)])
    bench.pass_s(0.3)
    assert heard.stops == [True, False]


def test_script_is_read_and_checked(tmp_path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text("faults:\n  - {kind: drop, start_s: 1, end_s: 2, value: 0}\n")
    assert read_script(file) == [Fault("drop", 1.0, 2.0, 0.0)]
    for text, message in (
        ("{kind: fire, start_s: 1, end_s: 2, value: 0}", "kind 'fire'"),
        ("{kind: drop, start_s: 2, end_s: 2, value: 0}", "start_s 2.0 must lie before"),
        ("{kind: drop, start_s: soon, end_s: 2, value: 0}", "soon"),
        ("{kind: drop, start_s: 1, end_s: 2}", "missing key 'value'"),
    ):
        file.write_text(f"faults:\n  - {text}\n")
        with pytest.raises(ContractError, match=message):
            read_script(file)


def test_every_kind_of_fault_is_known_by_the_client() -> None:
    import inspect

    source = inspect.getsource(FakeClient)
    assert all(f'"{kind}"' in source for kind in KINDS)


# --- dexcontrol ----------------------------------------------------------------------------------


@pytest.fixture
def sdk(monkeypatch):
    made = sdk_stand_in.module()
    monkeypatch.setitem(sys.modules, "dexcontrol", made)
    return made


@pytest.fixture
def vega(contract, heard, sdk):
    client = DexcontrolClient(contract, DexcontrolSettings())
    client.open(heard.ears)
    client.robot = sdk_stand_in.Robot.made[-1]
    return client


def test_all_parts_are_read_as_one_state_in_contract_order(vega, contract, heard) -> None:
    for name, part in vega.robot.parts.items():
        part.position = np.arange(len(part.position)) + 100.0 * list(sdk_stand_in.PARTS).index(
            name
        )
    vega.poll()
    (_, position, velocity), *more = heard.states
    assert not more
    assert position[contract.joint_names.index("R_arm_j3")] == 202
    assert position[contract.joint_names.index("head_j1")] == 400
    assert len(velocity) == 29
    assert [stream for stream, *_ in heard.wrenches] == [0, 1]


def test_a_set_is_as_old_as_its_oldest_part(vega, heard) -> None:
    vega.robot.parts["left_hand"].stamp_ns = 5
    vega.poll()
    vega.poll()  # the hand has nothing new: this is no new measurement
    assert [stamp for stamp, *_ in heard.states] == [5]


def test_targets_go_to_all_parts_in_one_call(vega) -> None:
    vega.poll()
    vega.send(1, np.linspace(-0.2, 0.2, 29))
    (call,) = vega.robot.calls
    assert list(call) == list(sdk_stand_in.PARTS)
    np.testing.assert_array_equal(np.concatenate(list(call.values())), np.linspace(-0.2, 0.2, 29))


@pytest.mark.parametrize("joint", [0, 28])
def test_the_vendors_step_guard_refuses_all(vega, joint) -> None:
    vega.poll()
    target = np.zeros(29)
    target[joint] = 0.31
    with pytest.raises(ClientError, match=r"InvalidCommand.*max_step"):
        vega.send(1, target)
    assert not vega.robot.calls


def test_old_state_is_refused_by_the_vendor(vega) -> None:
    vega.robot.parts["head"].stamp_ns = 5
    with pytest.raises(ClientError, match="StaleState"):
        vega.send(1, np.zeros(29))


def test_emergency_stop_is_heard_by_looking_and_by_writing(vega, heard) -> None:
    vega.poll()
    vega.robot.estop.sources.append("button")
    with pytest.raises(ClientError, match="E-stop active"):
        vega.send(1, np.zeros(29))
    vega.poll()
    assert heard.stops == [False, True]
    vega.robot.estop.sources.clear()
    vega.poll()
    assert heard.stops == [False, True, False]


def test_a_stop_that_nobody_observes_counts_as_pressed(vega, heard) -> None:
    vega.robot.estop.observed = False
    vega.poll()
    assert heard.stops == [True]


def test_silent_wrist_is_not_reported(vega, heard) -> None:
    vega.robot.sensors.wrenches["left_arm"].active = False
    vega.poll()
    assert [stream for stream, *_ in heard.wrenches] == [1]


def test_a_robot_that_does_not_answer_is_said(contract, heard, sdk) -> None:
    class Dead(sdk_stand_in.Robot):
        def wait_for_active(self, timeout=5.0):
            return False

    sdk.Robot = Dead
    with pytest.raises(ClientError, match="ROBOT_NAME"):
        DexcontrolClient(contract, DexcontrolSettings(wait_s=0.1)).open(heard.ears)
    assert sdk_stand_in.Robot.made[-1].shut_down


def test_lost_connection_is_a_client_error(vega) -> None:
    vega.robot.alive = False
    with pytest.raises(ClientError, match="nobody answers"):
        vega.poll()


def test_other_joint_names_are_refused_when_opening(contract, heard, sdk, monkeypatch) -> None:
    monkeypatch.setitem(sdk_stand_in.PARTS, "head", ["head_j1", "head_j3", "head_j2"])
    with pytest.raises(ClientError, match="head_j3"):
        DexcontrolClient(contract, DexcontrolSettings()).open(heard.ears)


def test_hands_that_are_wired_apart_are_left_out(contract, heard, sdk, monkeypatch) -> None:
    for name in ("left_hand", "right_hand"):
        monkeypatch.delitem(sdk_stand_in.PARTS, name)
    client = DexcontrolClient(contract, DexcontrolSettings(), ("left_hand", "right_hand"))
    client.open(heard.ears)
    client.poll()
    client.send(1, np.full(29, 0.1))
    assert list(sdk_stand_in.Robot.made[-1].calls[0]) == ["left_arm", "right_arm", "head"]


def test_leaving_holds_then_shuts_down(vega) -> None:
    vega.poll()
    vega.stop(np.full(29, 0.1))
    vega.close()
    assert len(vega.robot.calls) == 1
    assert vega.robot.shut_down
    vega.close()  # twice is once


def test_leaving_a_stopped_robot_asks_nothing_of_it(vega) -> None:
    vega.robot.estop.sources.append("button")
    vega.poll()
    vega.stop(np.zeros(29))
    assert not vega.robot.calls


def test_missing_sdk_is_said_with_its_licence(contract, heard, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "dexcontrol", None)
    with pytest.raises(ClientError, match=r"AGPL.*pip install dexcontrol"):
        DexcontrolClient(contract, DexcontrolSettings()).open(heard.ears)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"profil": "x"}, "did you mean 'profile'"),
        ({"wait_s": 0}, "'wait_s' is 0"),
        ({"simulation": "yes"}, "'simulation' is 'yes'"),
    ],
)
def test_wrong_settings_are_refused(data, message) -> None:
    with pytest.raises(ContractError, match=message):
        DexcontrolSettings.read(data, "vega_1.driver.yaml: dexcontrol")
