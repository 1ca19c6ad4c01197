"""The arithmetic of PPO (Schulman et al. 2017) as pure functions."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def advantages(
    reward: np.ndarray, value: np.ndarray, terminated: bool, gamma: float, lam: float
) -> np.ndarray:
    """Return the generalised advantage estimate of one episode (Schulman et al. 2016).

        delta_t = r_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lam A_{t+1}

    Args:
        reward: shape (T,).
        value: of every observation, the last one included. Shape (T + 1,).
        terminated: nothing follows the last step; otherwise its value is bootstrapped, for a
            time-out is no failure.
        gamma: discount per step.
        lam: share of the next advantage.

    Returns:
        float32 of shape (T,).
    """
    after = value[1:].astype(np.float64).copy()
    if terminated:
        after[-1] = 0.0
    delta = reward + gamma * after - value[:-1]
    result = np.zeros(len(reward))
    running = 0.0
    for t in reversed(range(len(reward))):
        running = delta[t] + gamma * lam * running
        result[t] = running
    return result.astype(np.float32)


def log_probability(sample: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density of a diagonal normal distribution. Shape (batch, n) to (batch,)."""
    z = (sample - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Return the entropy of a diagonal normal distribution, a scalar."""
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return PPO's loss: minus the mean of min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)."""
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, bounded * advantage).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Return an estimate of KL(old, new) that is never negative: mean of (ratio - 1) - log."""
    return (log_ratio.exp() - 1.0 - log_ratio).mean()
