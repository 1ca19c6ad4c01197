"""The hands: calibration table both ways, and Modbus-RTU against a simulated hand over a pty."""

import asyncio
import contextlib
import os
import pty
import threading
import time
import tty
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resfit_vega_driver", reason="the workspace is not built: run 'make setup'")

from resfit_core.contract import load_contract
from resfit_core.strict_yaml import ContractError
from resfit_vega_driver import hands
from resfit_vega_driver.client import ClientError, Ears
from resfit_vega_driver.fake_client import FakeClient
from resfit_vega_driver.hands import HandTable, ModbusHand
from resfit_vega_driver.hands_client import WithHands

CONFIG = Path(__file__).parents[3] / "config"
TABLE = CONFIG / "robot/vega_1.hands.yaml"


@pytest.fixture(scope="module")
def contract():
    return load_contract(CONFIG / "robot/vega_1.yaml", CONFIG / "task/woolly_ball_pnp.yaml")


@pytest.fixture(scope="module")
def table():
    return HandTable.read(TABLE)


# --- table ---------------------------------------------------------------------------------------


def test_ends_of_the_ranges_meet(table, contract):
    at = [contract.joint_names.index(f"L_{name}") for name in hands.JOINTS]
    for side, bound in ((0, contract.lower), (1, contract.upper)):
        degree = table.to_degree(bound[at])
        np.testing.assert_allclose(table.to_rad(degree), bound[at], atol=1e-12)
        limits = [(-12.69, 36.76), (91, 180.91), (89.58, 178.52), (89.47, 179.04), (88.05, 177.33)]
        np.testing.assert_allclose(degree[:5], [pair[side] for pair in limits])


def test_round_trip_within_the_hands_resolution(table, contract):
    at = [contract.joint_names.index(f"R_{name}") for name in hands.JOINTS]
    rng = np.random.default_rng(0)
    for _ in range(300):
        rad = rng.uniform(contract.lower[at], contract.upper[at])
        raw = np.round(table.to_degree(rad) * 100) / 100
        np.testing.assert_allclose(table.to_rad(raw), rad, atol=np.deg2rad(0.01))


def test_falling_and_bent_tables_round_trip():
    bent = {name: [[0, 1.0], [40, 0.5], [90, -1.0]] for name in hands.JOINTS}
    table = HandTable(bent)
    np.testing.assert_allclose(table.to_rad(np.full(6, 20.0)), 0.75)
    for degree in (0, 7, 40, 66, 90):
        np.testing.assert_allclose(table.to_degree(table.to_rad(np.full(6, degree))), degree)


def test_beyond_the_table_its_ends_count(table):
    np.testing.assert_allclose(table.to_degree(np.full(6, 99.0)), table.to_degree(np.full(6, 9.0)))


@pytest.mark.parametrize(
    "points",
    [[[0, 0]], [[0, 0], [10, 0]], [[0, 0], [5, 1], [9, 0.5]], [[0, 0], [0, 1]], [[0, 1, 2]]],
)
def test_tables_without_an_inverse_are_refused(points):
    good = {name: [[0, 0], [90, 1]] for name in hands.JOINTS}
    with pytest.raises(ContractError, match="mf_j1"):
        HandTable({**good, "mf_j1": points})


def test_a_missing_joint_is_named():
    with pytest.raises(ContractError, match="th_j0"):
        HandTable({name: [[0, 0], [90, 1]] for name in hands.JOINTS[:-1]})


# --- bus -----------------------------------------------------------------------------------------


class SimulatedHand:
    """A Modbus-RTU server with the hand's registers at the far end of a pty."""

    def __init__(self) -> None:
        from pymodbus.simulator import DataType, SimData, SimDevice

        self.near, self.far = pty.openpty()
        for end in (self.near, self.far):
            tty.setraw(end)
        self.port = os.ttyname(self.far)
        # Two ptys, one wire: what comes out of one goes into the other.
        self.server_near, server_far = pty.openpty()
        for end in (self.server_near, server_far):
            tty.setraw(end)
        self._server_port = os.ttyname(server_far)
        self.memory = np.zeros(2000, np.int16)  # by register address
        registers = SimData(1000, count=300, values=0, datatype=DataType.REGISTERS)
        self._device = SimDevice(hands.DEVICE_ID, simdata=[registers], action=self._asked)
        self.cut = threading.Event()
        self._leave = threading.Event()
        for a, b in ((self.near, self.server_near), (self.server_near, self.near)):
            threading.Thread(target=self._wire, args=(a, b), daemon=True).start()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        assert self._ready.wait(10)
        time.sleep(0.3)

    def _wire(self, source: int, sink: int) -> None:
        while not self._leave.is_set():
            try:
                data = os.read(source, 256)
            except OSError:
                return
            if not self.cut.is_set():
                os.write(sink, data)

    def _serve(self) -> None:
        from pymodbus.server import ModbusSerialServer

        asyncio.set_event_loop(self._loop)

        async def serve() -> None:
            self._server = ModbusSerialServer(
                self._device, port=self._server_port, baudrate=hands.BAUD
            )
            self._ready.set()
            await self._server.serve_forever()

        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(serve())

    async def _asked(self, function, first, address, count, registers, values):
        if values is not None:
            written = np.array(values, np.uint16).view(np.int16)
            self.memory[address : address + count] = written
        now = self.memory[address : address + count].view(np.uint16)
        registers[address - first : address - first + count] = [int(v) for v in now]

    def registers(self, address: int) -> np.ndarray:
        return self.memory[address : address + 6].copy()

    def set_angles(self, degree) -> None:
        self.memory[hands.ANGLE : hands.ANGLE + 6] = np.round(np.asarray(degree) * 100)

    def close(self) -> None:
        self._leave.set()
        future = asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop)
        future.result(5)


@pytest.fixture
def simulated():
    pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install pymodbus")
    pytest.importorskip("serial", reason="pyserial is not installed: pip install pyserial")
    made = SimulatedHand()
    yield made
    made.close()


@pytest.fixture
def hand(simulated, table):
    made = ModbusHand(simulated.port, table, timeout_s=1.0)
    simulated.set_angles([-12.69, 100, 100, 100, 100, 0])
    made.open()
    yield made
    made.close()


def test_angles_are_read_signed_from_the_vendors_registers(hand, table):
    expected = table.to_rad(np.array([-12.69, 100, 100, 100, 100, 0]))
    np.testing.assert_allclose(hand.read(), expected, atol=1e-9)


def test_targets_land_in_the_vendors_registers(hand, simulated, table):
    target = table.to_rad(np.array([-5.25, 170.0, 95.5, 120.25, 130.0, 45.0]))
    hand.write(target)
    written = simulated.registers(hands.ANGLE_TARGET)
    np.testing.assert_array_equal(written, [-525, 17000, 9550, 12025, 13000, 4500])
    assert not simulated.registers(hands.ANGLE_TARGET + 6)[:4].any()  # up to the angles


def test_a_cut_line_is_a_client_error_and_comes_back(hand, simulated):
    hand._bus.comm_params.timeout_connect = 0.2
    simulated.cut.set()
    with pytest.raises(ClientError, match="hand on"):
        hand.read()
    simulated.cut.clear()
    for _ in range(20):
        try:
            hand.read()
            break
        except ClientError:
            time.sleep(0.1)
    else:
        pytest.fail("the hand did not come back")


def test_no_number_is_written_that_is_none(hand, simulated):
    with pytest.raises(ClientError, match="six finite"):
        hand.write(np.full(6, np.nan))
    assert not simulated.registers(hands.ANGLE_TARGET).any()


def test_a_port_that_is_not_there_is_said(table):
    pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install pymodbus")
    with pytest.raises(ClientError, match="cannot be opened"):
        ModbusHand("/dev/no-such-hand", table).open()


def test_hands_of_their_own_join_the_robot(hand, simulated, table, contract):
    hand.close()
    rest = FakeClient(contract)
    robot = WithHands(rest, {"left_hand": hand}, contract)
    states = []
    robot.open(Ears(lambda *a: states.append(a), lambda *a: None, lambda p: None))
    try:
        degree = np.array([10.0, 150, 151, 152, 153, 30])
        simulated.set_angles(degree)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            robot.poll()
            if states and np.allclose(states[-1][1][7:13], table.to_rad(degree), atol=1e-9):
                break
            time.sleep(0.02)
        else:
            pytest.fail("the hand's angles did not reach the joint state")
        target = contract.lower.copy()
        robot.send(1, target)
        end = time.monotonic() + 5
        while not simulated.registers(hands.ANGLE_TARGET).any() and time.monotonic() < end:
            time.sleep(0.02)
        np.testing.assert_array_equal(
            simulated.registers(hands.ANGLE_TARGET)[1:5], [9100, 8958, 8947, 8805]
        )
        np.testing.assert_array_equal(rest.sent[-1][2], target)
    finally:
        robot.close()


def test_a_dead_hand_stops_the_whole_robot(hand, simulated, contract):
    hand.close()
    rest = FakeClient(contract)
    robot = WithHands(rest, {"left_hand": hand}, contract)
    states = []
    robot.open(Ears(lambda *a: states.append(a), lambda *a: None, lambda p: None))
    try:
        simulated.cut.set()
        time.sleep(1.5)
        states.clear()
        with pytest.raises(ClientError):
            robot.poll()
        assert not states
        with pytest.raises(ClientError):
            robot.send(1, contract.lower)
        assert not rest.sent  # all or none
    finally:
        simulated.cut.clear()
        robot.close()


def test_a_hand_that_dies_while_the_rest_is_sent_stops_the_next_command(contract):
    """Bug: it was said that nothing had been sent, although the arms had their targets."""

    class Still:
        asks = True
        open = close = write = lambda *_: None

        def read(self):
            return np.zeros(6)

    class Rest(FakeClient):
        def send(self, stamp_ns, target_rad):
            super().send(stamp_ns, target_rad)
            (line,) = robot._lines.values()
            line._leave.set()  # it would find its hand well again
            line.join()
            line._error = ClientError("dead")

    rest = Rest(contract)
    robot = WithHands(rest, {"left_hand": Still()}, contract)
    robot.open(Ears(lambda *a: None, lambda *a: None, lambda p: None))
    try:
        robot.send(1, contract.lower)
        with pytest.raises(ClientError, match="dead"):
            robot.send(2, contract.lower)
        assert len(rest.sent) == 1
    finally:
        robot.close()


# --- by the vendor's ROS 2 node ------------------------------------------------------------------


@pytest.fixture
def graph():
    pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed: run 'make setup'")
    from resfit_ros.testing import graph

    with graph() as made:
        yield made


def test_a_hand_behind_topics_speaks_degrees(graph, table, contract):
    """Angles in, targets out, in degrees; silence and cut messages are no angles."""
    from sensor_msgs.msg import JointState

    from resfit_ros import qos
    from resfit_vega_driver.hand_topics import TopicHand

    at = [contract.joint_names.index(f"L_{name}") for name in hands.JOINTS]
    measured, target = contract.lower[at] * 0.4, contract.upper[at] * 0.7
    vendor, ours = graph.probe("vendor"), graph.probe("ours")
    heard: list[JointState] = []
    vendor.create_subscription(
        JointState, "left/target_joint_states", heard.append, qos.reliable(10)
    )
    out = vendor.create_publisher(JointState, "left/current_joint_states", qos.reliable(10))
    hand = TopicHand(ours, "left", table, max_age_s=60.0)
    fake = FakeClient(contract)
    client = WithHands(fake, {"left_hand": hand}, contract)
    states: list[np.ndarray] = []
    client.open(Ears(lambda at, q, v: states.append(q), lambda *_: None, lambda _: None))
    with pytest.raises(ClientError, match="is the vendor's node running"):
        client.poll()
    with pytest.raises(ClientError, match="vendor's node running"):
        client.send(0, fake.position)
    assert not fake.sent and not states  # all or none
    assert graph.connected(vendor, "left/current_joint_states", "left/target_joint_states")
    out.publish(JointState(position=[1.0, 2.0]))  # cut short
    out.publish(JointState(position=table.to_degree(measured).tolist()))
    assert graph.spin_until(lambda: _sound(hand))
    client.poll()
    np.testing.assert_allclose(states[-1][at], measured, atol=1e-9)
    whole = fake.position.copy()
    whole[at] = target
    client.send(0, whole)
    assert graph.spin_until(lambda: heard)
    assert list(heard[0].name) == list(hands.JOINTS)
    np.testing.assert_allclose(heard[0].position, table.to_degree(target), atol=1e-9)
    hand._max_age_s = -1.0
    with pytest.raises(ClientError, match="silent for"):
        hand.read()
    client.close()
    with pytest.raises(ClientError, match="not open"):
        hand.write(target)


def _sound(hand) -> bool:
    with contextlib.suppress(ClientError):
        hand.read()
        return True
    return False
