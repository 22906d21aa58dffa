"""Running means and deviations, of observations and of discounted returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.trainer import Array

_TINY = 1e-8
_LIMIT = 10.0
"""Normalised values are clipped to ± this, as in OpenAI's baselines (VecNormalize)."""


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen, in float64; merged batch by batch (Chan et al. 1979)."""

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> RunningMoments:
        # ``module.float()`` must not take the precision of sums over millions of rows.
        super()._apply(lambda tensor: fn(tensor).to(torch.float64), recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def update(self, rows: Tensor, weights: Tensor) -> None:
        """Take in ``rows`` [B, …], of which those with weight 0 in ``weights`` [B] do not count."""
        weights = weights.to(torch.float64)
        count = weights.sum()
        if not count:
            return
        rows = rows.to(torch.float64)
        share = (weights / count).reshape(-1, *[1] * (rows.dim() - 1))
        mean = (share * rows).sum(0)
        variance = (share * (rows - mean).square()).sum(0)
        total = self.count + count
        difference = mean - self.mean
        # Before the first batch ``count`` is 0, and the placeholder variance 1 drops out.
        self.variance.copy_(
            (self.variance * self.count + variance * count) / total
            + difference.square() * self.count * count / total.square()
        )
        self.mean += difference * count / total
        self.count.copy_(total)

    def forward(self, rows: Tensor) -> Tensor:
        """``rows`` to mean 0 and deviation 1, clipped to ± 10; unchanged before the first update."""
        scale = (self.variance + _TINY).rsqrt()
        return ((rows - self.mean.to(rows.dtype)) * scale.to(rows.dtype)).clamp(-_LIMIT, _LIMIT)


class RewardNormalizer:
    """Divides rewards by the running deviation of the discounted return (Engstrom et al. 2020, section 3)."""

    def __init__(self, num_envs: int) -> None:
        self.moments = RunningMoments(())
        self.returns: Array = np.zeros(num_envs)

    def __call__(self, rewards: Array, done: Array, weights: Array, gamma: float) -> Array:
        """Rewards [T, N] in units of the deviation, which takes in these rewards first.

        ``done`` [T, N] ends an episode's return; rows of weight 0 in ``weights`` [T, N] do not count.
        """
        returns = np.empty_like(rewards, np.float64)
        running = self.returns
        for step, reward in enumerate(rewards):
            running = running * gamma + reward
            returns[step] = running
            running = np.where(done[step], 0.0, running)
        self.returns = running
        self.moments.update(torch.from_numpy(returns.ravel()), torch.from_numpy(weights.ravel()))
        deviation = float(self.moments.variance + _TINY) ** 0.5
        scaled: Array = np.clip(rewards / deviation, -_LIMIT, _LIMIT)
        return scaled
