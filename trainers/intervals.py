"""How sure a mean over a few samples is: Student's distribution and the intervals that follow from it."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

from torch import Tensor

_SUMMED = 30
_HALVINGS = 60


@cache
def student_quantile(probability: float, freedom: int) -> float:
    """What Student's t, with ``freedom`` ≥ 1 degrees of freedom, stays below with ``probability`` ≥ ½.

    Abramowitz and Stegun, Handbook of Mathematical Functions: up to 30 degrees by bisection of the exact
    distribution (26.7.3, 26.7.4), beyond them by the expansion around the normal one (26.7.5), which is right
    to 3 in a million there, up to a probability of 0.9999.
    """
    if freedom > _SUMMED:
        return _expanded(NormalDist().inv_cdf(probability), freedom)
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        angle = (low + high) / 2
        if _within(angle, freedom) < 2 * probability - 1:
            low = angle
        else:
            high = angle
    return math.sqrt(freedom) * math.tan(low)


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """Mean over tasks and half-width of its 95 % interval, by Student's quantile; NaN for one task."""
    count = len(values)
    if count < 2:
        return float(values.mean()), math.nan
    error = float(values.std()) / math.sqrt(count)
    return float(values.mean()), student_quantile(0.975, count - 1) * error


def _within(angle: float, freedom: int) -> float:
    """The probability of |t| < √freedom tan(angle)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term, total = cosine if odd else 1.0, 0.0
    for degree in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (degree - 1) / degree
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _expanded(z: float, freedom: int) -> float:
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
