"""Whole charts as text, drawn by plotext: for a terminal after the fact, and for a pipe.

plotext takes ten milliseconds a chart, too slow for one that moves; the screen draws those itself. It is
imported when a chart is drawn. Every chart is a figure of its own: plotext's global one is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metarl_tui.tape import Tape
from metarl_tui.text import clean, short_number
from trainers.metrics import metric

CHART_HEIGHT = 12
NARROWEST, WIDEST_SINGLE = 24, 110
_CURVE, _CHANGE = "cyan", "magenta"
_FEW = 5
"""Iterations or steps up to which each has its tick."""


def summary_charts(
    tape: Tape, keys: Sequence[str], width: int, *, height: int | None = None, colour: bool = False
) -> str:
    """A chart for each of ``keys`` that has been measured, in one or two columns of ``width`` characters.

    Without ``colour`` there is no escape sequence in the text. Keys that were never measured are left out.
    """
    drawn = [key for key in keys if len(tape.series(key)[0])]
    columns = 2 if len(drawn) > 1 and width >= WIDEST_SINGLE else 1
    each = max((width - 2 * (columns - 1)) // columns, NARROWEST)
    charts = [chart(tape, key, each, height or CHART_HEIGHT, colour=colour) for key in drawn]
    rows = []
    for start in range(0, len(charts), columns):
        beside = [text.split("\n") for text in charts[start : start + columns]]
        rows.append("\n".join("  ".join(lines).rstrip() for lines in zip(*beside, strict=True)))
    return "\n\n".join(rows)


def chart(tape: Tape, key: str, width: int, height: int, *, colour: bool = False) -> str:
    """One metric over iterations, with the newest value in its title and a line where a value was changed."""
    iterations, values = tape.series(key)
    finite = np.isfinite(values)
    figure = new_figure(width, height)
    figure.title(_title(key, values, int((~finite).sum())))
    x, y = _thinned(iterations[finite], values[finite], 4 * width)
    _axes(figure, iterations, y)
    for marker in tape.markers:
        if iterations[0] <= marker.iteration <= iterations[-1]:
            figure.line(marker.iteration, orientation="vertical", pixel=_ink(_CHANGE))
    if len(x):
        curve = figure.signal(x.tolist(), y.tolist(), marker=new_marker(_CURVE)).lines(len(x) > 1)
        figure.draw(curve)
    text: str = figure.build().string(colorless=not colour)
    return text.rstrip("\n")


def steps_chart(
    curves: Sequence[Sequence[float]],
    width: int,
    height: int,
    inks: Sequence[str],
    *,
    marks: Sequence[str] | None = None,
    colour: bool = True,
) -> str:
    """Values by step of an adaptation, beginning before the first; a curve each in plotext's ``inks``.

    Values that are not finite are left out; the empty string when none is left. ``marks`` are what the
    curves are drawn with, by default ``braille``. The inks are escape sequences in the text; without
    ``colour`` there are none.
    """
    points = [[(step, value) for step, value in enumerate(curve) if math.isfinite(value)] for curve in curves]
    values = np.array([value for curve in points for _, value in curve])
    if not len(values):
        return ""
    figure = new_figure(width, height)
    _axes(figure, np.array([0, max(len(curve) for curve in curves) - 1]), values)
    for curve, ink, mark in zip(points, inks, marks or ["braille"] * len(points), strict=True):
        if curve:
            marker = new_marker(ink, mark)
            steps, heights = zip(*curve, strict=True)
            figure.draw(figure.signal(list(steps), list(heights), marker=marker).lines(len(curve) > 1))
    text: str = figure.build().string(colorless=not colour)
    return text.rstrip("\n")


def _title(key: str, values: npt.NDArray[np.floating[Any]], missing: int) -> str:
    described = metric(key)
    unit = f" {described.unit}" if described.unit else ""
    note = f", {missing} not finite" if missing else ""
    return clean(f"{described.title} {short_number(float(values[-1]))}{unit}  ({key}{note})")


def _thinned(
    x: npt.NDArray[Any], y: npt.NDArray[np.floating[Any]], most: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.floating[Any]]]:
    """At most about ``most`` points: of each stretch its lowest and its highest, so that spikes stay."""
    if len(x) <= most:
        return x, y
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(x)), most // 2):
        part = y[stretch]
        kept += sorted({int(stretch[part.argmin()]), int(stretch[part.argmax()])})
    return x[kept], y[kept]


def _axes(figure: Any, iterations: npt.NDArray[Any], y: npt.NDArray[np.floating[Any]]) -> None:
    first, last = int(iterations[0]), int(iterations[-1])
    middle = (first + last) // 2
    marks = list(range(first, last + 1)) if last - first <= _FEW else sorted({first, middle, last})
    figure.ruler("x").lim(first, max(last, first + 1)).ticks(marks, labels=[str(mark) for mark in marks])
    if not len(y):
        return
    low, high = float(y.min()), float(y.max())
    if high - low <= abs(high) * 1e-9:
        room = abs(high) * 0.1 or 1.0
        low, high = low - room, high + room
    heights = [low, (low + high) / 2, high]
    figure.ruler("y").lim(low, high).ticks(heights, labels=[_tick(value, high - low) for value in heights])


def _tick(value: float, span: float) -> str:
    """``value`` with as many digits as tell it from its neighbours."""
    if abs(value) < span * 1e-9:
        return "0"
    if max(abs(value), span) >= 1e4 or span < 1e-3:
        return short_number(value)
    decimals = max(0, 2 - math.floor(math.log10(span)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def new_figure(width: int, height: int) -> Any:
    """An empty figure of its own, in characters."""
    import plotext

    figure = type(plotext.figure)(parent=plotext.terminal)
    figure.theme("colorless")
    figure.plot_size(width, height)
    return figure


def _ink(colour: str) -> Any:
    import plotext

    return plotext.pixel(foreground=colour, background="default")


def new_marker(colour: str, kind: str = "braille") -> Any:
    """What a curve is drawn with: plotext's ``colour`` and a character, or a ``kind`` that it knows."""
    import plotext

    return plotext.marker(kind, pixel=_ink(colour))
