"""What is checked before anything starts: bad input is said in one line, not in eight logs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from resfit_bringup import blind, paths, security
from resfit_bringup.errors import UsageError
from resfit_bringup.graph import Plan
from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.action_space import kind_of, load_action_space, read_base_file
from resfit_core.contract import Contract, load_contract
from resfit_core.data.bags import list_episodes, read_manifest


def check(plan: Plan) -> dict[str, str]:
    """Check everything a plan names; start and write nothing.

    Returns:
        `robot`, `task` (their names), `contract_sha256`, and `base_sha256` (empty where only the
        base itself can tell: a TorchScript file or a class).

    Raises:
        UsageError: Names the value and the fix.
    """
    values = plan.values
    try:
        contract = load_contract(
            plan.sources["robot"], plan.sources["task"], values["observation"]
        )
        config = TrainConfig.from_yaml(plan.sources["train"])
        resolve_scale(config.residual_scale, contract.groups())
        base_sha256 = _check_base(values["base"], contract)
        if "demos" in values:
            _check_demos(Path(values["demos"]), contract)
    except ValueError as error:  # all our typed errors are; their text is the line a user needs
        raise UsageError(str(error)) from error
    for node in plan.nodes:
        paths.executable(node.package, node.executable)
        security.enclave_arguments(node.name)
    security.require(plan.nodes[0].name)
    hashes = {"contract_sha256": contract.sha256, "base_sha256": base_sha256}
    if plan.job == blind.JOB:
        blind.check(plan, hashes)
    return {"robot": contract.robot, "task": contract.task, **hashes}


def _check_base(base: str, contract: Contract) -> str:
    load_action_space(base, contract)
    if kind_of(base) != "act":
        return ""
    _, header = read_base_file(Path(base), contract)
    return str(header.get("base_sha256", ""))


def _check_demos(folder: Path, contract: Contract) -> None:
    episodes = list_episodes(folder)
    if not episodes:
        raise UsageError(
            f"demos:={folder} holds no recorded episode: run 'make demos', or give another folder"
        )
    for path in episodes:
        manifest = read_manifest(path)
        contract.require(manifest.contract_sha256, f"demonstration {path}")
        bag = path / manifest.bag_file
        found = hashlib.sha256(bag.read_bytes()).hexdigest() if bag.is_file() else "missing"
        if found != manifest.bag_sha256:
            raise UsageError(
                f"demonstration {bag} is damaged (sha256 {found[:12]}, its manifest says "
                f"{manifest.bag_sha256[:12]}): fetch it again, or run 'make demos'"
            )
