"""Client of Dexmate's `dexcontrol`: the real Vega, or its in-process loopback.

`dexcontrol` is AGPL-3.0 or commercial. It is optional, imported when this client is opened and
nowhere else, and nothing of it is copied here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import numpy as np

from resfit_core.contract import Contract
from resfit_core.strict_yaml import ContractError, check_keys_in
from resfit_vega_driver.client import ClientError, Ears

_ARM_OF_WRIST = {"left_wrist": "left_arm", "right_wrist": "right_arm"}  # where the sensors sit


@dataclass(frozen=True)
class DexcontrolSettings:
    """What the site says about its Vega.

    Attributes:
        profile: The vendor's name of the configuration; empty: as its environment says.
        simulation: The vendor's loopback: no physics, the state equals the command.
        max_state_age_s: The vendor refuses targets on older joint states [s].
        wait_s: Wait so long for the robot when opening [s].
        poll_period_s: Time between two looks at the joints [s].
    """

    profile: str = "vega_1_f5d6"
    simulation: bool = False
    max_state_age_s: float = 0.2
    wait_s: float = 5.0
    poll_period_s: float = 0.01

    @classmethod
    def read(cls, data: Mapping[str, Any], where: str) -> DexcontrolSettings:
        """Check and take settings; those left out keep their defaults.

        Raises:
            ContractError: An unknown key or a value of the wrong type; the text names it.
        """
        check_keys_in(data, {f.name for f in fields(cls)}, where)
        for key, value in data.items():
            wanted = type(getattr(cls, key))
            given = float(value) if wanted is float and type(value) is int else value
            if type(given) is not wanted or (wanted is float and not given > 0):
                raise ContractError(f"{where}: '{key}' is {value!r}, {wanted.__name__} is needed")
        return cls(**data)


def import_sdk() -> ModuleType:
    """Return the vendor's package.

    Raises:
        ClientError: It is not installed.
    """
    try:
        import dexcontrol
    except ImportError as error:
        raise ClientError(
            f"the vendor's package 'dexcontrol' cannot be imported ({error}); it is AGPL-3.0 or "
            "commercial and not shipped: pip install dexcontrol==0.8.0, or choose another client"
        ) from error
    return dexcontrol


class DexcontrolClient:
    """Vega through the vendor's SDK; reads every part, sends all parts or none.

    The vendor's own guards stay on: a target more than .3 rad from the measured position, an old
    joint state, a value out of range are refused by the SDK as a whole, and said as `ClientError`.
    """

    publishes = True

    def __init__(
        self, contract: Contract, settings: DexcontrolSettings, apart: Collection[str] = ()
    ) -> None:
        """Split the contract's joints into the robot's parts.

        Args:
            contract: Joint order.
            settings: Of the site.
            apart: Groups that are wired on their own; they are measured as zero here.

        Raises:
            ContractError: A group's joints do not follow each other.
        """
        self.poll_period_s = settings.poll_period_s
        self._settings = settings
        self._parts: dict[str, slice] = {}
        groups = contract.groups()
        for name in dict.fromkeys(group for group in groups if group not in apart):
            at = [index for index, group in enumerate(groups) if group == name]
            if at != list(range(at[0], at[-1] + 1)):
                raise ContractError(
                    f"the joints of group '{name}' do not follow each other in the robot YAML; "
                    "the vendor takes each part as one vector"
                )
            self._parts[name] = slice(at[0], at[-1] + 1)
        unknown = sorted(set(contract.wrenches) - set(_ARM_OF_WRIST))
        if unknown:
            raise ContractError(
                f"wrench '{unknown[0]}' is not one that dexcontrol has: {sorted(_ARM_OF_WRIST)}"
            )
        self._names = contract.joint_names
        self._streams = {name: k for k, name in enumerate(contract.wrenches)}
        self._size = contract.action_dim
        self._sdk: ModuleType | None = None
        self._robot: Any = None
        self._ears: Ears | None = None
        self._seen_ns = 0
        self._pressed: bool | None = None

    def open(self, ears: Ears) -> None:
        """Connect; see `RobotClient`."""
        sdk = import_sdk()
        settings = self._settings
        try:
            self._robot = sdk.Robot(
                profile=settings.profile or None, simulation=settings.simulation
            )
            if not settings.simulation and not self._robot.wait_for_active(settings.wait_s):
                raise ClientError(
                    f"the robot did not answer within {settings.wait_s:g} s; is it on, is "
                    "ROBOT_NAME set, does the network reach it?"
                )
            self._check_joints()
        except ClientError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise ClientError(f"dexcontrol: {type(error).__name__}: {_line(error)}") from error
        # SIGTERM needs no handler of the vendor's: the node's own ends in `stop` and `close`.
        self._sdk, self._ears = sdk, ears

    def poll(self) -> None:
        """Read the emergency stop, the joints of all parts and the wrists; see `RobotClient`."""
        try:
            self._look_at_estop()
            position, velocity = np.zeros(self._size), np.zeros(self._size)
            stamps = []
            for name, at in self._parts.items():
                state = self._robot.joints(name).get_state()
                position[at], velocity[at] = state["position"], state["velocity"]
                stamps.append(int(state["timestamp_ns"]))
            self._feel()
        except Exception as error:
            raise ClientError(f"dexcontrol: {type(error).__name__}: {_line(error)}") from error
        # A set is as old as its oldest part; one that has not changed is no new measurement.
        if min(stamps) > self._seen_ns:
            self._seen_ns = min(stamps)
            self._ears.state(self._seen_ns, position, velocity)

    def send(self, stamp_ns: int, target_rad: np.ndarray) -> None:
        """Send all parts in one call, which the vendor carries out as a whole or not at all."""
        if self._pressed:
            raise ClientError("the robot's emergency stop is pressed")
        parts = {name: [float(v) for v in target_rad[at]] for name, at in self._parts.items()}
        try:
            self._robot.set_joint_pos(parts, max_state_age=self._settings.max_state_age_s)
        except self._sdk.EStopActiveError as error:
            self._hear_estop(True)
            raise ClientError(f"dexcontrol: {_line(error)}") from error
        except Exception as error:
            code = getattr(error, "code", type(error).__name__)
            raise ClientError(f"dexcontrol: {code}: {_line(error)}") from error

    def stop(self, target_rad: np.ndarray | None) -> None:
        """Hold: the joints keep their last target; nothing new is asked of a stopped robot."""
        if target_rad is not None and self._robot is not None and not self._pressed:
            with contextlib.suppress(ClientError):
                self.send(self._seen_ns, target_rad)

    def close(self) -> None:
        """Leave the robot: the vendor's shutdown, which requests its stop."""
        robot, self._robot = self._robot, None
        if robot is not None:
            with contextlib.suppress(Exception):
                robot.shutdown()

    def _check_joints(self) -> None:
        for name, at in self._parts.items():
            if not self._robot.has_component(name):
                raise ClientError(
                    f"profile '{self._settings.profile}' has no part '{name}'; "
                    "choose the profile of this robot"
                )
            theirs = tuple(self._robot.joints(name).joint_names)
            if theirs != self._names[at]:
                raise ClientError(
                    f"part '{name}' has joints {list(theirs)}, the robot YAML has "
                    f"{list(self._names[at])}: both must agree in name and order"
                )

    def _look_at_estop(self) -> None:
        status = self._robot.estop.get_status()
        # A state that nobody has observed is no state in which to move.
        self._hear_estop(bool(status["engaged"]) or not status.get("state_observed", True))

    def _hear_estop(self, pressed: bool) -> None:
        if pressed != self._pressed:
            self._pressed = pressed
            self._ears.estop(pressed)

    def _feel(self) -> None:
        """Report the wrists. A silent sensor is not reported: the driver refuses to move then.

        The vendor's loopback has no sensors; there, nothing pulls.
        """
        for name, stream in self._streams.items():
            if self._settings.simulation:
                self._ears.wrench(stream, time.time_ns(), np.zeros(6))
                continue
            sensor = self._robot.sensors.get_wrench(_ARM_OF_WRIST[name])
            if sensor.is_active():
                values = np.array(sensor.get_wrench_state(), np.float64)
                self._ears.wrench(stream, time.time_ns(), values)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
