"""A base policy for tests: chunks of four whose first joint tells the place in the chunk."""

import numpy as np

from resfit_core.action_space import ActionSpace
from resfit_core.base.protocol import ChunkedBase


def make(contract, sick=0.0):
    """Return it; called by `load_base`."""
    chunk = np.zeros((4, contract.action_dim), np.float32)
    chunk[:, 0] = [0.0, 0.1, 0.2, 0.3]
    chunk[1, 3] = sick
    return ChunkedBase(
        lambda observation, images: chunk,
        4,
        ActionSpace.from_limits(contract),
        "b" * 64,
        contract.sha256,
    )


def make_nan(contract):
    """Return one that plans NaN for joint 3 at the second step of a chunk."""
    return make(contract, np.nan)
