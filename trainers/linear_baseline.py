"""The linear feature baseline of Duan et al. 2016 (arXiv:1604.06778), fitted to each task by itself."""

from __future__ import annotations

import torch
from torch import Tensor

_LIMIT = 10.0
_RIDGE = 1e-5


@torch.no_grad()
def fitted_values(observations: Tensor, returns: Tensor, shares: Tensor) -> Tensor:
    """What a linear function of observation and time expects of ``returns`` [T, n, K], likewise [T, n, K].

    ``observations`` [T, n, K, size]. The features are o, o², t, t², t³ and 1, with o clipped to ± 10 and t
    in hundreds of steps. Each task has the coefficients of least weighted squares over its own rows, with a
    ridge of 1e-5; rows of weight 0 in ``shares`` [T, n, K] do not count. In float64, because powers of the
    time are nearly multiples of each other.
    """
    steps, tasks = returns.shape[:2]
    clipped = observations.double().clamp(-_LIMIT, _LIMIT)
    time = torch.arange(steps, dtype=torch.float64, device=returns.device).div(100).view(-1, 1, 1, 1)
    over_time = torch.cat([time**power for power in range(4)], -1).expand(*returns.shape, 4)
    features = torch.cat((clipped, clipped.square(), over_time), -1)
    # Rows of each task together: [n, T × K, features].
    x, y, weights = (
        rows.transpose(0, 1).reshape(tasks, steps * returns.shape[2], -1)
        for rows in (features, returns.double(), shares.double())
    )
    weighted = (x * weights).transpose(1, 2)
    ridge = _RIDGE * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    coefficients, _ = torch.linalg.solve_ex(weighted @ x + ridge, weighted @ y)
    values: Tensor = (x @ coefficients).view(tasks, steps, -1).transpose(0, 1)
    return values.to(returns.dtype)
