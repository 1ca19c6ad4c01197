"""A robot whose hands are wired on their own: Modbus for them, another client for the rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from resfit_core.contract import Contract
from resfit_core.strict_yaml import ContractError
from resfit_vega_driver.client import ClientError, Ears, RobotClient


class Hand(Protocol):
    """Six joints that are wired on their own; `ModbusHand` and `TopicHand` are two.

    Attributes:
        asks: Reading and writing wait for the hand's answer, and belong on a thread of their own.
    """

    asks: bool

    def open(self) -> None:
        """Connect."""

    def read(self) -> np.ndarray:
        """Return joint positions [rad]. Shape: (6,)."""

    def write(self, rad: np.ndarray) -> None:
        """Set all six targets [rad]. Shape: (6,)."""

    def close(self) -> None:
        """Release everything."""


class _Line(threading.Thread):
    """Asks one hand as fast as its line allows; newest target in, newest angles out."""

    def __init__(self, name: str, hand: Hand, angles: np.ndarray) -> None:
        super().__init__(name=name, daemon=True)
        self.hand = hand
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._target: np.ndarray | None = None
        self._angles = angles
        self._error: ClientError | None = None

    def run(self) -> None:
        while not self._leave.is_set():
            with self._lock:
                target, self._target = self._target, None
            try:
                if target is not None:
                    self.hand.write(target)
                angles = self.hand.read()
            except ClientError as error:
                with self._lock:
                    self._error = error
                self._leave.wait(0.05)
                continue
            with self._lock:
                self._angles, self._error = angles, None

    def take(self) -> np.ndarray:
        """Return the newest angles, at most a question and its time-out old."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._angles

    def put(self, target_rad: np.ndarray) -> None:
        """Set the next target. Never refuses: the rest of the robot has its own by now."""
        with self._lock:
            self._target = target_rad

    def leave(self) -> None:
        """End the thread, with its last target written."""
        self._leave.set()
        self.join(timeout=1.0)
        with self._lock:
            target, self._target = self._target, None
        if target is not None:
            with contextlib.suppress(ClientError):
                self.hand.write(target)
        self.hand.close()


class _Heard:
    """A hand that speaks by itself: its newest angles, and its targets at once."""

    def __init__(self, hand: Hand) -> None:
        self.take, self.put, self.leave = hand.read, hand.write, hand.close


class WithHands:
    """Puts the angles of hands of their own into the rest's joint states, and splits targets.

    Where a hand does not answer no joint state is reported and no target sent, to nobody: the
    driver holds by the age of what it knows.
    """

    def __init__(self, rest: RobotClient, hands: Mapping[str, Hand], contract: Contract) -> None:
        """Take the client of the rest and a hand for each group of joints that is wired apart.

        Raises:
            ContractError: A group is not of the contract or has not six joints.
        """
        self.poll_period_s, self.publishes = rest.poll_period_s, rest.publishes
        self._rest = rest
        groups = np.array(contract.groups())
        self._at = {}
        for name in hands:
            at = np.flatnonzero(groups == name)
            if len(at) != 6:
                raise ContractError(
                    f"hand '{name}' has {len(at)} joints in the robot YAML, six are needed; "
                    f"groups: {sorted(set(groups.tolist()))}"
                )
            self._at[name] = at
        self._hands = dict(hands)
        self._lines: dict[str, _Line | _Heard] = {}
        self._dead: ClientError | None = None

    def open(self, ears: Ears) -> None:
        """Open every hand, then the rest; see `RobotClient`."""
        for name, hand in self._hands.items():
            hand.open()
            if not hand.asks:
                self._lines[name] = _Heard(hand)
                continue
            self._lines[name] = line = _Line(name, hand, hand.read())
            line.start()

        def state(stamp_ns: int, position: np.ndarray, velocity: np.ndarray) -> None:
            whole = np.array(position)
            try:
                for name, line in self._lines.items():
                    whole[self._at[name]] = line.take()
            except ClientError as error:
                self._dead = error
                return
            self._dead = None
            ears.state(stamp_ns, whole, velocity)

        self._rest.open(ears._replace(state=state))

    def poll(self) -> None:
        """Measure the rest, and say which hand does not answer; see `RobotClient`."""
        self._rest.poll()
        if self._dead is not None:
            raise self._dead

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Send to the hands and the rest, or to nobody: a hand in error is seen before."""
        for line in self._lines.values():
            line.take()
        self._rest.send(stamp_ns, target_rad)
        for name, line in self._lines.items():
            line.put(np.array(target_rad[self._at[name]]))

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Hold; see `RobotClient`."""
        self._rest.stop(target_rad)
        if target_rad is not None:
            for name, line in self._lines.items():
                with contextlib.suppress(ClientError):
                    line.put(np.array(target_rad[self._at[name]]))

    def close(self) -> None:
        """Close every hand and the rest."""
        for line in self._lines.values():
            line.leave()
        self._lines = {}
        for hand in self._hands.values():
            hand.close()
        self._rest.close()
