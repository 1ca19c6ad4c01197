"""A base policy for tests: chunks of four, a fixed action of our own hash."""

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase

SHA256 = "b" * 64


def make(contract):
    """Return it; called by `load_base`."""
    chunk = np.zeros((4, contract.action_dim), np.float32)
    chunk[:, 0] = [0.0, 0.1, 0.2, 0.3]
    return ChunkedBase(
        lambda observation, images: chunk,
        4,
        ActionSpace.from_limits(contract),
        SHA256,
        contract.sha256,
    )
