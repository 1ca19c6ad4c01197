"""The twin that a contract describes; named by `package.module:callable` where it is wanted."""

from __future__ import annotations

from resfit_core.contract import Contract, ContractError
from resfit_sim.twin import Twin


def twin_for(contract: Contract) -> Twin:
    """Return a twin with the contract's task, rate, joint order and objects.

    Raises:
        ContractError: The twin's task has other objects, or an order of its own.
        SimError: The task or a joint is unknown to the twin.
    """
    twin = Twin(contract.task, contract.control_rate_hz, contract.joint_names)
    if tuple(twin.task.object_names) != tuple(contract.objects):
        raise ContractError(
            f"task '{contract.task}': objects are {list(contract.objects)}, the twin has "
            f"{list(twin.task.object_names)}: put the same into config/task"
        )
    return twin
