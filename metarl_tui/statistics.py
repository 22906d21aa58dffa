"""What is said of several runs at once, so that one lucky or unlucky seed does not decide."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of what is left without the lowest and the highest quarter, each rounded down.

    Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
    arXiv:2108.13264. Raises :class:`ValueError` where there is no value.
    """
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    if not middle:
        raise ValueError("no values")
    return statistics.fmean(middle)


def over_runs(rows: Iterable[Mapping[str, object]]) -> dict[str, dict[str, float]]:
    """For every number that any of ``rows`` has: ``median``, ``iqm`` and ``runs``, how many have it.

    What is not finite can't be ordered: a NaN in any run makes both NaN.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append(float(value))
    return {name: _summary(values) for name, values in found.items()}


def _summary(values: list[float]) -> dict[str, float]:
    if any(math.isnan(value) for value in values):
        return {"median": math.nan, "iqm": math.nan, "runs": len(values)}
    return {"median": statistics.median(values), "iqm": interquartile_mean(values), "runs": len(values)}
