"""Which client stands for the robot: a parameter, or `<robot>.driver.yaml` beside its YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node

from resfit_core.contract import Contract
from resfit_core.control.limits import beside
from resfit_core.strict_yaml import ContractError, check_keys_in, read_yaml
from resfit_vega_driver.client import RobotClient
from resfit_vega_driver.dexcontrol_client import DexcontrolClient, DexcontrolSettings
from resfit_vega_driver.fake_client import FakeClient, read_script
from resfit_vega_driver.hand_topics import TopicHand
from resfit_vega_driver.hands import HandTable, ModbusHand
from resfit_vega_driver.hands_client import Hand, WithHands
from resfit_vega_driver.twin_client import TwinClient

_BY_TOPIC = "topic:"  # before the name of the vendor's hand node
NAMES = ("twin", "fake", "dexcontrol", "external")


def make_client(
    name: str, robot_file: str | Path, node: Node, contract: Contract, clock: str
) -> RobotClient:
    """Return the client, not yet opened.

    Args:
        name: One of `NAMES`; empty: as `<robot>.driver.yaml` says, the twin where there is none.
        robot_file: `<robot>.yaml`; the settings lie beside it.
        node: For clients that speak by topics.
        contract: Joint order, limits.
        clock: `lockstep` or `realtime`.

    Raises:
        ContractError: The settings are wrong, or the client cannot work so; the text says the fix.
    """
    file = beside(robot_file, "driver")
    settings: Mapping[str, Any] = read_yaml(file) if file.is_file() else {}
    check_keys_in(settings, {"client", "hands", *NAMES}, str(file))
    name = name or str(settings.get("client", "twin"))
    if name not in NAMES:
        raise ContractError(f"{file}: client '{name}' is not one of {list(NAMES)}")
    own = settings.get(name) or {}
    if name == "twin":
        check_keys_in(own, set(), f"{file}: twin")
        return TwinClient(node, contract, clock)
    if clock == "lockstep":
        raise ContractError(f"client '{name}' is no simulator that waits: use clock:=realtime")
    if name == "external":
        check_keys_in(own, set(), f"{file}: external")
        return TwinClient(node, contract, clock)
    if name == "fake":
        check_keys_in(own, {"script", "start_rad"}, f"{file}: fake")
        script, start = own.get("script", ""), own.get("start_rad")
        if start is not None and len(start) != contract.action_dim:
            raise ContractError(
                f"{file}: fake: start_rad has {len(start)} numbers, not {contract.action_dim}"
            )
        return FakeClient(
            contract,
            read_script(file.parent / script) if script else (),
            None if start is None else np.array(start, np.float64),
        )
    ports = settings.get("hands") or {}
    site = DexcontrolSettings.read(own, f"{file}: dexcontrol")
    return _with_hands(DexcontrolClient(contract, site, tuple(ports)), ports, file, contract, node)


def _with_hands(
    client: RobotClient, ports: Mapping[str, Any], file: Path, contract: Contract, node: Node
) -> RobotClient:
    """Return the client with the hands at these serial ports or topics, by group."""
    if not ports:
        return client
    check_keys_in(ports, set(contract.groups()), f"{file}: hands")
    # `<robot>.hands.yaml`; a run's copy lies beside its copy of the robot.
    table = HandTable.read(file.with_name(file.name.replace(".driver.", ".hands.")))
    hands: dict[str, Hand] = {
        name: TopicHand(node, str(port).removeprefix(_BY_TOPIC), table)
        if str(port).startswith(_BY_TOPIC)
        else ModbusHand(str(port), table)
        for name, port in ports.items()
    }
    return WithHands(client, hands, contract)
