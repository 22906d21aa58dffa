"""The linear feature baseline of Duan et al. 2016 (arXiv:1604.06778), fitted to each task by itself."""

from __future__ import annotations

import torch
from torch import Tensor

_LIMIT = 10.0
_RIDGE = 1e-5
_OVER_TIME = 4
_ROWS_PER_FEATURE = 3
"""With fewer the fit would follow each row, and leave no advantage to learn from."""


@torch.no_grad()
def fitted_values(observations: Tensor, returns: Tensor, shares: Tensor) -> Tensor:
    """What a linear function of observation and time expects of ``returns`` [T, n, K], likewise [T, n, K].

    ``observations`` [T, n, K, size]. The features are o, o², 1, t, t² and t³, with o clipped to ± 10 and t
    in hundreds of steps. Each task has the coefficients of least weighted squares over its own rows, with a
    ridge of 1e-5; rows of weight 0 in ``shares`` [T, n, K] do not count. A task that has fewer than three
    rows for each feature does without those of the observation, and one that has fewer than three for each
    power of the time without these. In float64, because powers of the time are nearly multiples of each
    other.
    """
    steps, tasks = returns.shape[:2]
    clipped = observations.double().clamp(-_LIMIT, _LIMIT)
    time = torch.arange(steps, dtype=torch.float64, device=returns.device).div(100).view(-1, 1, 1, 1)
    over_time = torch.cat([time**power for power in range(_OVER_TIME)], -1)
    features = torch.cat((clipped, clipped.square(), over_time.expand(*returns.shape, -1)), -1)
    # Rows of each task together: [n, T × K, features].
    x, y, weights = (
        rows.transpose(0, 1).reshape(tasks, steps * returns.shape[2], -1)
        for rows in (features, returns.double(), shares.double())
    )
    rows_wanted = torch.full((x.shape[-1],), _ROWS_PER_FEATURE * x.shape[-1], device=x.device)
    rows_wanted[-_OVER_TIME:] = _ROWS_PER_FEATURE * _OVER_TIME
    rows_wanted[-_OVER_TIME] = 0
    x *= (weights > 0).sum(1, keepdim=True) >= rows_wanted
    weighted = (x * weights).transpose(1, 2)
    ridge = _RIDGE * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    coefficients, _ = torch.linalg.solve_ex(weighted @ x + ridge, weighted @ y)
    values: Tensor = (x @ coefficients).view(tasks, steps, -1).transpose(0, 1)
    return values.to(returns.dtype)


def fitting_bytes(rows: int, size: int) -> int:
    """What :func:`fitted_values` takes for one task of ``rows`` rows, with observations of ``size``."""
    features = _OVER_TIME + 2 * size
    # The features, in rows of their task, and weighted; products of features, with the ridge, and factored.
    return 8 * (3 * rows * features + 3 * features**2)
