"""Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def generalized_advantages(
    rewards: Tensor, values: Tensor, terminated: Tensor, done: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Advantages [T, N] of a rollout.

    ``rewards`` [T, N]; ``values`` [T + 1, N], the last row being those of the observations after the
    rollout; ``terminated`` and ``done`` (terminated or truncated) [T, N] of zeros and ones.

        δₜ = rₜ + γ V(sₜ₊₁) (1 − terminatedₜ) − V(sₜ)
        Aₜ = δₜ + γ λ (1 − doneₜ) Aₜ₊₁

    Environments reset on the step after an episode's end, so the row after it shows the final observation
    and ``values`` there is what a truncated episode is bootstrapped with. That row itself is nobody's
    action: what stands in its place is to be given weight 0.
    """
    deltas = rewards + gamma * values[1:] * (1 - terminated) - values[:-1]
    decays = (gamma * gae_lambda) * (1 - done)
    # One after the other, and few numbers each: in NumPy, where an operation costs least to begin, but
    # for another device's, which stay there.
    rows, factors = (deltas.numpy(), decays.numpy()) if deltas.is_cpu else (deltas, decays)
    for t in reversed(range(len(rows) - 1)):
        row = rows[t]
        row += factors[t] * rows[t + 1]
    return deltas


def normalized(advantages: Tensor, shares: Tensor) -> Tensor:
    """``advantages`` [..., B] to mean 0 and deviation 1 under weights ``shares`` [..., B], whose sum is 1.

    Where one row has the whole weight, it has no deviation, and stays as it is.
    """
    centred = advantages - (shares * advantages).sum(-1, keepdim=True)
    scaled = centred / ((shares * centred.square()).sum(-1, keepdim=True).sqrt() + 1e-8)
    return torch.where(shares.amax(-1, keepdim=True) < 1, scaled, advantages)


@torch.no_grad()
def explained_variance(values: Tensor, targets: Tensor, weights: Tensor) -> float | None:
    """1 − Var[target − value] ⁄ Var[target] over rows of weight 1; ``None`` for a constant target."""
    shares = weights / weights.sum().clamp(min=1)

    def variance(rows: Tensor) -> Tensor:
        return (shares * (rows - (shares * rows).sum()).square()).sum()

    of_error, of_target = torch.stack((variance(targets - values), variance(targets))).tolist()
    return 1 - of_error / of_target if of_target > 0 else None
