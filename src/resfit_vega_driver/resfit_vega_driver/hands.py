"""One OyMotion hand wired on its own: calibration table, and its registers by Modbus-RTU.

On a stock Vega the hands come through the vendor's SDK and none of this is used. `pymodbus` is
optional and imported when a hand is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resfit_core.strict_yaml import ContractError, check_keys, read_yaml
from resfit_vega_driver.client import ClientError

JOINTS = ("th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1", "th_j0")
"""The vendor's order: thumb, index, middle, ring, little, thumb rotation; the contract's too."""

BAUD = 115_200
DEVICE_ID = 2
ANGLE_TARGET = 1155
ANGLE = 1165
_PER_DEGREE = 100  # int16 registers count hundredths of a degree
_COUNT = len(JOINTS)


class HandTable:
    """Angle at the hand [degree] <-> joint of the URDF [rad], straight lines between points."""

    def __init__(self, points: Mapping[str, Any], where: str = "hand table") -> None:
        """Take the points of each joint.

        Raises:
            ContractError: A joint is missing or its points do not rise or fall strictly.
        """
        check_keys(points, set(JOINTS), where)
        self._degree, self._rad = [], []
        for name in JOINTS:
            table = np.array(points[name], np.float64)
            if table.ndim != 2 or table.shape[1:] != (2,) or len(table) < 2:
                raise ContractError(
                    f"{where}: '{name}' is {points[name]!r}; two or more [degree, rad] are needed"
                )
            table = table[np.argsort(table[:, 0])]
            steps = np.diff(table, axis=0)
            turns = np.all(steps[:, 1] > 0) or np.all(steps[:, 1] < 0)
            if not np.isfinite(table).all() or not np.all(steps[:, 0] > 0) or not turns:
                raise ContractError(
                    f"{where}: '{name}' {points[name]!r} must rise or fall strictly on both "
                    "sides, or no angle has one joint position"
                )
            self._degree.append(table[:, 0])
            self._rad.append(table[:, 1])

    @classmethod
    def read(cls, file: str | Path) -> HandTable:
        """Read `<robot>.hands.yaml`.

        Raises:
            ContractError: The file is missing or wrong.
        """
        return cls(read_yaml(file), str(file))

    def to_rad(self, degree: np.ndarray) -> np.ndarray:
        """Return joint positions [rad]; beyond the table its ends. Shapes: (6,)."""
        return np.array(
            [np.interp(v, d, r) for v, d, r in zip(degree, self._degree, self._rad, strict=True)]
        )

    def to_degree(self, rad: np.ndarray) -> np.ndarray:
        """Return angles at the hand [degree]; beyond the table its ends. Shapes: (6,)."""
        out = []
        for value, degree, radian in zip(rad, self._degree, self._rad, strict=True):
            order = np.argsort(radian)  # falling tables too
            out.append(np.interp(value, radian[order], degree[order]))
        return np.array(out)


class ModbusHand:
    """One hand on one serial line; every call is one question and its answer.

    A question takes some milliseconds at 115200 baud: ask from a thread of its own where two hands
    hang on the driver of a 50 Hz robot.
    """

    asks = True  # `read` and `write` wait for the line

    def __init__(
        self, port: str, table: HandTable, device_id: int = DEVICE_ID, timeout_s: float = 0.05
    ) -> None:
        """Prepare; nothing is opened before `open`.

        Args:
            port: Serial device, `/dev/ttyUSB0`; stable names lie in `/dev/serial/by-id`.
            table: Calibration of this very hand.
            device_id: On the bus.
            timeout_s: Wait so long for an answer [s].
        """
        self._port, self._table, self._id = port, table, device_id
        self._timeout_s = timeout_s
        self._bus: Any = None

    def open(self) -> None:
        """Open the line and ask once.

        Raises:
            ClientError: pymodbus is missing, the port cannot be opened or nobody answers.
        """
        try:
            from pymodbus.client import ModbusSerialClient
        except ImportError as error:
            raise ClientError(
                f"hands of their own need pymodbus ({error}): pip install pymodbus pyserial"
            ) from error
        self._bus = ModbusSerialClient(
            self._port, baudrate=BAUD, timeout=self._timeout_s, retries=0
        )
        if not self._bus.connect():
            self.close()
            raise ClientError(
                f"hand: port {self._port} cannot be opened; is it there, is it free?"
            )
        self.read()

    def read(self) -> np.ndarray:
        """Return joint positions [rad], `JOINTS` order. Shape: (6,).

        Raises:
            ClientError: No sound answer came in time.
        """
        answer = self._ask("read_holding_registers", ANGLE, count=_COUNT)
        if len(answer.registers) != _COUNT:
            raise ClientError(
                f"hand on {self._port}: {len(answer.registers)} angles came, {_COUNT} are needed"
            )
        raw = np.array(answer.registers, np.uint16).view(np.int16)
        return self._table.to_rad(raw / _PER_DEGREE)

    def write(self, rad: np.ndarray) -> None:
        """Set all six targets [rad] in one message. Shape: (6,).

        Raises:
            ClientError: A target is not finite, or the hand did not confirm.
        """
        target = np.asarray(rad, np.float64)
        if target.shape != (_COUNT,) or not np.isfinite(target).all():
            raise ClientError(
                f"hand on {self._port}: target {rad!r}, six finite numbers are needed"
            )
        raw = np.round(self._table.to_degree(target) * _PER_DEGREE).astype(np.int16)
        self._ask("write_registers", ANGLE_TARGET, [int(v) for v in raw.view(np.uint16)])

    def close(self) -> None:
        """Close the line; called with partial state too."""
        bus, self._bus = self._bus, None
        if bus is not None:
            with contextlib.suppress(Exception):
                bus.close()

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        if self._bus is None:
            raise ClientError(f"hand on {self._port} is not open")
        try:
            answer = getattr(self._bus, what)(*arguments, device_id=self._id, **options)
        except Exception as error:
            words = " ".join(str(error).split())
            raise ClientError(f"hand on {self._port}: {type(error).__name__}: {words}") from error
        if answer.isError():
            raise ClientError(f"hand on {self._port} answered {answer}")
        return answer
