"""PPO's clipped surrogate objective (Schulman et al. 2017, arXiv:1707.06347, equation 7)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Surrogate(NamedTuple):
    """The loss, with its derivatives, and what is measured of the ratios on the way, without; each []."""

    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    ratio_max: Tensor


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, shares: Tensor, clip_epsilon: float
) -> Surrogate:
    """−E[min(r A, clip(r, 1 − ε, 1 + ε) A)] with r = π ⁄ π_old, E the sum under ``shares``, all of one shape.

    Rows of share 0 do not count, whatever they hold but NaN.
    """
    counted = shares > 0
    # Of a row that does not count the ratio may be infinite, and 0 × ∞ is no number.
    log_ratio = (log_probs - old_log_probs) * counted
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon)
    loss = -(shares * torch.minimum(ratio * advantages, clipped * advantages)).sum()
    with torch.no_grad():
        # k3 of Schulman, "Approximating KL Divergence": unbiased and never negative, but for rounding.
        approx_kl = (shares * ((ratio - 1) - log_ratio)).sum().clamp(min=0)
        clip_fraction = (shares * ((ratio - 1).abs() > clip_epsilon)).sum()
        return Surrogate(loss, approx_kl, clip_fraction, (ratio * counted).amax())
