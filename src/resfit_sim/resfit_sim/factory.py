"""The twin that a contract describes; named by `package.module:callable` where it is wanted."""

from __future__ import annotations

from resfit_core.contract import Contract, ContractError
from resfit_core.control.limits import beside
from resfit_sim.mjcf_twin import MjcfTwin
from resfit_sim.twin import Twin

VEGA = "vega_1"


def twin_for(contract: Contract) -> Twin | MjcfTwin:
    """Return a twin with the contract's task, rate, joint order and objects.

    Vega's is `Twin`; any other robot's comes out of `<robot>.sim.yaml` and `<task>.sim.yaml`.

    Raises:
        ContractError: There is none, its task has other objects, or an order of its own.
        SimError: The task or a joint is unknown to the twin.
    """
    if contract.robot != VEGA:
        file = beside(contract.robot_file, "sim")
        if not file.is_file():
            raise ContractError(
                f"robot '{contract.robot}' has no simulator: {file} does not exist; write it "
                "(docs/another_robot.md), or use client:=fake or client:=external"
            )
        return MjcfTwin(contract)
    twin = Twin(contract.task, contract.control_rate_hz, contract.joint_names)
    if tuple(twin.task.object_names) != tuple(contract.objects):
        raise ContractError(
            f"task '{contract.task}': objects are {list(contract.objects)}, the twin has "
            f"{list(twin.task.object_names)}: put the same into config/task"
        )
    return twin
