"""The recorder keeps the weights of a learner that writes on another machine's disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node

from resfit_core import tensorfile
from resfit_core.contract import Contract
from resfit_core.weights import save_weights, weights_path
from resfit_interfaces.msg import PolicyWeights
from resfit_ros import qos
from resfit_ros.parameters import declare


def store_weights(
    node: Node, run_dir: Path, contract: Contract, do: Callable[[Callable[[], Any]], None]
) -> None:
    """Declare the node's parameters for it and, where asked to, keep every version that comes.

    `residual_policy` starts from these files, a report and a replay need them.

    Args:
        node: Gets parameters and subscription.
        run_dir: Of the run.
        contract: Weights for another one are left out.
        do: Runs work on the thread of the disk.
    """
    wanted = declare(
        node, "store_weights", False, "the learner runs on another machine: keep its weights here"
    )
    keep = declare(
        node, "keep_weights", 10, "versions of weights on disk; 0: all", range=(0, None)
    )
    if not wanted:
        return

    def take(msg: PolicyWeights) -> None:
        data = bytes(msg.data)
        reason = ""
        if msg.contract_sha256 != contract.sha256:
            reason = f"made for contract {msg.contract_sha256[:12]}, not {contract.sha256[:12]}"
        elif tensorfile.sha256(data) != msg.sha256:
            reason = "damaged on the way"
        if reason:
            node.get_logger().error(f"weights version {msg.version} are not kept: {reason}")
        elif not weights_path(run_dir, msg.version).exists():
            do(lambda: save_weights(run_dir, msg.version, data, keep))

    node.create_subscription(PolicyWeights, "policy_weights", take, qos.LATCHED_IN)
