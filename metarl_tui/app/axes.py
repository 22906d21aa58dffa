"""Axes: limits that rarely move, ticks on whole rows, labels as short as can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from metarl_tui.text import short_number

_NICE = (1.0, 2.0, 2.5, 5.0)
_LARGEST = 1e300
_MIDDLE = 0.375
"""Where in its row a tick stands: in the middle of a dot, so that values on it never flicker."""
_WIDEST_GAP = 8
_ROWS_FOR_TWO = 5
"""From so many rows on there are at least two ticks."""
_SPAN_TO_CHANGE, _SPAN_TO_STAY = 50.0, 20.0
"""Ratios of the largest to the smallest value from which on a logarithmic axis says more."""
_HEADROOM = 0.06
"""Share of the span added where data left the old limits, so that they need not move again at once."""


@dataclass(frozen=True)
class Tick:
    """A label on a row of cells, counted from the top."""

    row: int
    label: str


@dataclass(frozen=True)
class ValueAxis:
    """Limits of ``rows`` rows of cells, ``low`` at the bottom edge and ``high`` at the top edge."""

    low: float
    high: float
    rows: int
    ticks: tuple[Tick, ...]
    logarithmic: bool = False
    """Whether limits are decimal logarithms of the values."""

    @property
    def label_width(self) -> int:
        return max((len(tick.label) for tick in self.ticks), default=0)

    def holds(self, low: float, high: float) -> bool:
        """Whether data from ``low`` to ``high`` fits and uses at least half of the height."""
        span = self.high - self.low
        used = high - low
        return self.low <= low and high <= self.high and (used >= 0.5 * span or _flat(low, high))


def logarithmic_axis(low: float, high: float, rows: int, previous: ValueAxis | None = None) -> ValueAxis:
    """As :func:`value_axis` for positive data: limits are decimal logarithms, ticks powers of ten."""
    previous = previous if previous is not None and previous.logarithmic else None
    axis = value_axis(math.log10(low), math.log10(high), rows, previous, steps=_decades, label=_power_label)
    return axis if axis is previous else replace(axis, logarithmic=True)


def spans_decades(low: float, high: float, *, before: bool) -> bool:
    """Whether data from ``low`` to ``high`` wants a logarithmic axis; sooner if it had one ``before``."""
    return low > 0 and high < math.inf and high >= (_SPAN_TO_STAY if before else _SPAN_TO_CHANGE) * low


def value_axis(
    low: float,
    high: float,
    rows: int,
    previous: ValueAxis | None = None,
    *,
    steps: Callable[[float, float], list[float]] | None = None,
    label: Callable[[float, float, float], str] | None = None,
) -> ValueAxis:
    """Limits for data from ``low`` to ``high`` on ``rows`` rows; ``previous`` is kept while it fits.

    A tick stands on the middle of its row. Of all limits with a tick step of 1, 2, 2.5 or 5 × 10ⁿ and a
    whole number of rows between ticks, those nearest to the data are taken.
    """
    low, high = max(low, -_LARGEST), min(high, _LARGEST)
    steps, label = steps or _steps, label or _label
    if previous is not None and previous.rows == rows:
        if previous.holds(low, high):
            return previous
        room = _HEADROOM * (high - low)
        low, high = low - room * (low < previous.low), high + room * (high > previous.high)
    if _flat(low, high):
        room = abs(high) / 2 or 1.0
        low, high = low - room, high + room
    rows = max(rows, 1)
    spacing = range(2, 4) if rows < 8 else range(3, min(max(rows // 2, 4), _WIDEST_GAP) + 1)
    candidates = [
        candidate
        for step in steps((high - low) / rows * spacing[0], (high - low) * 2)
        for gap in spacing
        if (candidate := _fit(low, high, rows, step, gap)) is not None
    ]
    if not candidates:
        unit = (high - low) / rows
        text = label(low + unit / 2, abs(high - low) / 10, max(abs(low), abs(high)))
        return ValueAxis(low, high, rows, (Tick(rows - 1, text),))
    unit, _, _, step, gap, bottom, offset = min(candidates)
    edge = bottom - (offset + _MIDDLE) * unit
    ticks = tuple(
        Tick(rows - 1 - row, label(bottom + index * step, step, max(abs(low), abs(high))))
        for index, row in enumerate(range(offset, rows, gap))
    )
    return ValueAxis(edge, edge + rows * unit, rows, ticks)


def _flat(low: float, high: float) -> bool:
    """Whether the values are one value, as far as a chart can tell."""
    return high - low <= 1e-6 * max(abs(low), abs(high))


def _steps(smallest: float, largest: float) -> list[float]:
    first, last = math.floor(math.log10(smallest)), math.ceil(math.log10(largest))
    steps = [nice * 10.0**power for power in range(first, last + 1) for nice in _NICE]
    return [step for step in steps if smallest * 0.999 <= step <= largest]


def _decades(smallest: float, largest: float) -> list[float]:
    return [float(step) for step in (1, 2, 3, 5, 10, 20, 50, 100) if smallest * 0.999 <= step <= largest]


def _power_label(value: float, step: float, largest: float) -> str:
    """10 to the ``value``: plain between 0.001 and 1000, as 1e6 beyond."""
    power = round(value)
    if abs(value - power) > 1e-6:
        return short_number(10.0**value)
    return f"{10.0**power:g}" if -3 <= power <= 3 else f"1e{power}"


def _fit(
    low: float, high: float, rows: int, step: float, gap: int
) -> tuple[float, int, float, float, int, float, int] | None:
    """Limits with ticks every ``step`` and ``gap`` rows that hold the data, or ``None``.

    The tuple sorts by how little room is wasted, then by how few ticks are needed.
    """
    unit = step / gap
    if unit * rows < (high - low) * 0.999:
        return None
    # The lowest tick lies at or above the lower limit, at most gap - 1 rows from the bottom.
    bottom = math.ceil(low / step - 1e-9) * step
    for candidate in (bottom, bottom - step):
        offset = max(0, math.ceil((candidate - low) / unit - _MIDDLE - 1e-6))
        edge = candidate - (offset + _MIDDLE) * unit
        if (
            offset < gap
            and offset < rows - (gap if rows >= _ROWS_FOR_TWO else 0)
            and edge + rows * unit >= high - 1e-6 * unit
        ):
            return unit, len(range(offset, rows, gap)), -step, step, gap, candidate, offset
    return None


def _label(value: float, step: float, largest: float) -> str:
    """``value`` with as many decimals as ``step`` needs; thousands as k, M or G; tiny values as 2.5e-4."""
    if abs(value) < step / 1e6:
        value = 0.0
    if largest >= 1e13 or largest < 1e-3:
        if value == 0:
            return "0"
        power = math.floor(math.log10(abs(value)) + 1e-9)
        mantissa, _, exponent = f"{value:.{_decimals(step / 10.0**power)}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    suffix, divisor = "", 1.0
    for limit, size, name in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if largest >= limit and step >= size / 100:
            suffix, divisor = name, size
            break
    text = f"{value / divisor:.{_decimals(step / divisor)}f}"
    return text if value == 0 else text + suffix


def _decimals(step: float) -> int:
    """Decimals that tell multiples of ``step`` apart."""
    return next((count for count in range(7) if abs(round(step, count) - step) < 1e-6 * step), 7)


def iterations_per_dot(first: int, last: int, dots: int, *, settled: bool = False) -> float:
    """How many iterations one column of dots stands for.

    While a run grows this takes only values a sixteenth of an octave apart, so that curves stay where
    they are and grow to the right; a ``settled`` run fills the width exactly.
    """
    span = max(last - first, 1)
    exact = min(span / max(dots - 1, 1), (span + 1) / max(dots, 1))
    return exact if settled else 2.0 ** (math.ceil(math.log2(exact) * 16 - 1e-9) / 16)
