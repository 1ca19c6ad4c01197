"""Learner and acting policy out of settings, contract and base: one rule for every front end."""

from __future__ import annotations

from resfit_core.algorithms.config import TrainConfig, resolve_scale
from resfit_core.base.protocol import BasePolicy
from resfit_core.base.sight import Sight, sight_of
from resfit_core.contract import Contract
from resfit_core.learner import Learner
from resfit_core.nets.views import View, make_view
from resfit_core.residual import ResidualPolicy


def build_learner(config: TrainConfig, contract: Contract, base: BasePolicy) -> Learner:
    """Return an empty learner.

    Raises:
        ConfigError, BaseError, ValueError: settings, contract and base do not go together.
    """
    sight = sight_of(base, contract, config.image_features)
    return Learner(
        config,
        (sight.contract if sight else contract).obs_dim,
        contract.action_dim,
        resolve_scale(config.residual_scale, contract.groups()),
        contract.sha256,
        base.base_sha256,
        build_view(config, contract, base, sight),
        image_shapes={} if sight else image_shapes(contract),
        sight=sight,
    )


def build_policy(config: TrainConfig, contract: Contract, base: BasePolicy) -> ResidualPolicy:
    """Return a policy without weights.

    Raises:
        ConfigError, BaseError, ValueError: settings, contract and base do not go together.
    """
    sight = sight_of(base, contract, config.image_features)
    return ResidualPolicy(
        config,
        resolve_scale(config.residual_scale, contract.groups()),
        contract.sha256,
        base.base_sha256,
        contract.control_rate_hz,
        build_view(config, contract, base, sight),
        sight,
    )


def build_view(
    config: TrainConfig, contract: Contract, base: BasePolicy, sight: Sight | None
) -> View:
    """Return what actor and critic see of the observation, with the base's places if it has any.

    Raises:
        ConfigError, ValueError: see `resolve_scale` and `make_view`.
    """
    return make_view(
        config.critic_view,
        sight.contract if sight else contract,
        base.action_space,
        resolve_scale(config.residual_scale, contract.groups()),
        config.observe_last_action,
    )


def image_shapes(contract: Contract) -> dict[str, tuple[int, int, int]]:
    """Return camera to (H, W, 3) of the contract's small images."""
    return {name: (contract.image_size, contract.image_size, 3) for name in contract.images}
