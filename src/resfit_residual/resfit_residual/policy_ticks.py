"""What `residual_policy` takes from others: ticks, and whether they are of its own contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resfit_interfaces import msg as ours
from resfit_ros import conversions


class Tick(NamedTuple):
    """What the residual needs of a `PolicyStep`, with the message it came in."""

    stamp_ns: int
    episode: int
    is_last: bool
    observation: np.ndarray
    base_action: np.ndarray
    chunk_phase: float
    images: dict[str, np.ndarray]
    message: ours.PolicyStep


def tick_from_msg(
    msg: ours.PolicyStep,
    cameras: Sequence[str],
    base_action: Callable[[ours.PolicyStep], np.ndarray],
) -> Tick:
    """Return a tick's numbers.

    Args:
        msg: The message; its images stand in the order of `cameras`.
        cameras: Streams that the residual sees.
        base_action: Reads the base's action out of the message, normalised. Shape: (action_dim,).

    Raises:
        ConversionError: An image has an encoding or a size that is none.
    """
    return Tick(
        conversions.stamp_from_msg(msg.header.stamp),
        msg.episode,
        msg.is_last,
        np.array(msg.observation, np.float32),
        base_action(msg),
        msg.chunk_phase,
        {
            camera: conversions.image_from_msg(image)
            for camera, image in zip(cameras, msg.images, strict=False)
        },
        msg,
    )


class Kin(NamedTuple):
    """Contract and base that a node runs, by hash; what was made for others is not taken."""

    contract_sha256: str
    base_sha256: str

    def why_not_step(self, msg: ours.PolicyStep) -> str:
        """Return in words why a tick is of another contract or base; empty: it is not."""
        if self == (msg.contract_sha256, msg.base_sha256):
            return ""
        return (
            f"policy_step was made for contract {msg.contract_sha256[:12]} and base "
            f"{msg.base_sha256[:12]}, this node runs {self.contract_sha256[:12]} and "
            f"{self.base_sha256[:12]}; start both nodes with the same robot, task, base"
        )

    def why_not_weights(self, msg: ours.PolicyWeights) -> str:
        """Return in words why weights are of another contract or base; empty: they are not."""
        theirs = (msg.contract_sha256, msg.base_sha256)
        for name, other, own in zip(("contract", "base"), theirs, self, strict=True):
            if other != own:
                return (
                    f"weights version {msg.version}: {name} is {other[:12] or '(none)'}, this "
                    f"policy runs {own[:12]}; start learner and residual with the same {name}"
                )
        return ""
