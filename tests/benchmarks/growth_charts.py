"""How something grows, as a chart in text on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from metarl_tui.plots import new_figure, new_marker
from metarl_tui.text import short_number

_LOG_MARGIN = 1.25
_LOG_WIDE = 300.0
"""From this ratio of an axis's ends on, powers of ten are ticks enough."""


def growth_chart(
    curves: Sequence[Sequence[tuple[float, float]]], width: int, height: int, marks: Sequence[str]
) -> str:
    """How something grows: curves of (x, y), all above 0, on logarithmic axes, without colour.

    The ticks of x are the values that were measured. ``marks`` are what the curves are drawn with.
    """
    figure = new_figure(width, height)
    xs = sorted({x for curve in curves for x, _ in curve})
    _log_axis(figure.ruler("x"), xs[0], xs[-1], xs)
    heights = [y for curve in curves for _, y in curve]
    low, high = min(heights) / _LOG_MARGIN, max(heights) * _LOG_MARGIN
    _log_axis(figure.ruler("y"), low, high, _round_values(low, high))
    for curve, mark in zip(curves, marks, strict=True):
        across, up = ([math.log10(value) for value in values] for values in zip(*curve, strict=True))
        figure.draw(figure.signal(across, up, marker=new_marker("default", mark)).lines(len(curve) > 1))
    text: str = figure.build().string(colorless=True)
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _log_axis(ruler: Any, low: float, high: float, values: Sequence[float]) -> None:
    labels = [short_number(value) for value in values]
    ruler.lim(math.log10(low), math.log10(high))
    ruler.ticks([math.log10(value) for value in values], labels=labels)


def _round_values(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``; where they are few, halves and fifths of them as well."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    steps = (1,) if high / low > _LOG_WIDE else (1, 2, 5)
    return [step * power for power in powers for step in steps if low <= step * power <= high]
