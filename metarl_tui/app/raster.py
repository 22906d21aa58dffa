"""Thousands of points as a few rows of characters: a dim min/max band and a bright mean line.

A cell of braille holds 2 × 4 dots. Each column of dots stands for a stretch of iterations: the band
reaches from the smallest to the largest value measured in it, so a spike of one iteration survives any
zoom; the line is the mean, smoothed over a few columns, never across a change made by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from metarl_tui.app.axes import ValueAxis

Array: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]

BLANK, DIM, LINE, FAULT = 0, 1, 2, 3
"""Tones of a cell: nothing, the dim band, the bright line, a value that is not a number."""

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_STRETCHES = np.array(
    [[_DOTS[first:end, side].sum() for first in range(5) for end in range(5)] for side in (0, 1)], np.uint8
)
"""Bits of a cell's left and right dots from row ``first`` to before ``end``, at ``5 * first + end``."""
_ASCII_LINE = np.array([ord(character) for character in " '-'-||:.|=|.||:"], np.uint32)
_SPACE, _BRAILLE = 0x20, 0x2800


class Points(NamedTuple):
    """Iterations, ascending, and the values measured at them."""

    iterations: Array
    values: Array


@dataclass(frozen=True)
class Columns:
    """One number for each column of dots; NaN where nothing is drawn.

    ``line`` is the smoothed mean, ``low`` and ``high`` bound the band. ``faults`` holds the non-finite
    value that was measured in a column, 0 where there was none.
    """

    line: Array
    low: Array
    high: Array
    faults: Array

    @property
    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest value drawn; ``None`` when there is none."""
        drawn = ~np.isnan(self.low)
        return (float(self.low[drawn].min()), float(self.high[drawn].max())) if drawn.any() else None

    def logarithmic(self) -> Columns:
        """Decimal logarithms of these, which are positive."""
        return Columns(np.log10(self.line), np.log10(self.low), np.log10(self.high), self.faults)


@dataclass(frozen=True)
class Raster:
    """Cells, rows from the top: the code of each character and its tone."""

    codes: npt.NDArray[np.uint32]
    tones: npt.NDArray[np.uint8]


def dot_columns(
    points: Points,
    first: float,
    per_dot: float,
    dots: int,
    *,
    low: Points | None = None,
    high: Points | None = None,
    smooth: int = 0,
    breaks: Sequence[int] = (),
) -> Columns:
    """Gather ``points`` into ``dots`` columns of ``per_dot`` iterations each, the first at ``first``.

    ``low`` and ``high`` widen the band. The line is averaged over ``smooth`` columns to either side, but
    not across the iterations in ``breaks``.
    """
    edges = np.ceil(first + per_dot * np.arange(dots + 1) - 1e-9)
    edges = np.minimum(edges, np.iinfo(np.int32).max).astype(np.int32)  # as the tape's, or all are converted
    faults = np.zeros(dots)
    points = _split_faults(points, edges, faults)
    full, starts, counts = _groups(points, edges)
    line, bottom, top = (np.full(dots, np.nan) for _ in range(3))
    if not len(full):
        return Columns(line, bottom, top, faults)
    values = points.values[: starts[-1] + counts[-1]]
    sums = np.add.reduceat(values, starts, dtype=np.float64)
    line[full] = _smoothed(sums, counts, full, smooth, _regimes(edges, breaks))
    bottom[full], top[full] = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    gap_faults = (faults != 0) & np.isnan(line)
    reach = int(np.ceil(1 / per_dot)) + 1
    bottom, top = _bridged(bottom, gap_faults), _bridged(top, gap_faults)
    _widen(bottom, low, edges, np.minimum, reach)
    _widen(top, high, edges, np.maximum, reach)
    return Columns(_bridged(line, gap_faults), bottom, top, faults)


def _split_faults(points: Points, edges: Array, faults: Array) -> Points:
    """The finite points; the others are noted in ``faults``."""
    finite = np.isfinite(points.values)
    if finite.all():
        return points
    bad = ~finite
    column = np.searchsorted(edges, points.iterations[bad], side="right") - 1
    inside = (column >= 0) & (column < len(faults))
    faults[column[inside]] = points.values[bad][inside]
    return Points(points.iterations[finite], points.values[finite])


def _groups(points: Points, edges: Array) -> tuple[Array, Array, Array]:
    """Columns that hold points, where each one's points start, and how many they are."""
    bounds = np.searchsorted(points.iterations, edges, side="left")
    full = np.flatnonzero(bounds[1:] > bounds[:-1])
    return full, bounds[full], bounds[full + 1] - bounds[full]


def _regimes(edges: Array, breaks: Sequence[int]) -> Array:
    """Columns at which something new begins; one that holds values from before and after stands alone."""
    mixed, pure = (
        np.searchsorted(edges, breaks, side="right") - 1,
        np.searchsorted(edges, breaks, side="left"),
    )
    return np.sort(np.concatenate([mixed, pure]))


def _smoothed(sums: Array, counts: Array, full: Array, smooth: int, breaks: Array) -> Array:
    """Means over windows of columns that end at ``breaks`` (sorted), one for each column in ``full``."""
    if smooth <= 0:
        return sums / counts
    regime = np.searchsorted(breaks, full, side="right")
    start = np.maximum(np.searchsorted(full, full - smooth), np.searchsorted(regime, regime, side="left"))
    stop = np.minimum(
        np.searchsorted(full, full + smooth, side="right"), np.searchsorted(regime, regime, side="right")
    )
    total = np.concatenate([[0.0], np.cumsum(sums)])
    number = np.concatenate([[0], np.cumsum(counts)])
    means: Array = (total[stop] - total[start]) / (number[stop] - number[start])
    return means


def _bridged(values: Array, faults: Bools) -> Array:
    """Straight lines over columns without a value, except where a fault lies between."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return values
    columns = np.arange(len(values))
    bridged: Array = np.interp(columns, known, values[known], left=np.nan, right=np.nan)
    if faults.any():
        passed = np.cumsum(faults)
        nearest = np.clip(np.searchsorted(known, columns, side="right") - 1, 0, len(known) - 1)
        following = np.clip(nearest + 1, 0, len(known) - 1)
        broken = passed[known[following]] > passed[known[nearest]]
        bridged[broken & np.isnan(values)] = np.nan
    return bridged


def _widen(edge: Array, bound: Points | None, edges: Array, reduce: np.ufunc, reach: int) -> None:
    """Move the band's ``edge`` out to ``bound``, bridging no more than ``reach`` columns without a value."""
    if bound is None:
        return
    bound = _split_faults(bound, edges, np.zeros(len(edge)))
    full, starts, counts = _groups(bound, edges)
    if not len(full):
        return
    columns = np.arange(len(edge))
    values = reduce.reduceat(bound.values[: starts[-1] + counts[-1]], starts)
    wide = np.interp(columns, full, values, left=np.nan, right=np.nan)
    before = full[np.clip(np.searchsorted(full, columns, side="right") - 1, 0, None)]
    after = full[np.clip(np.searchsorted(full, columns, side="left"), None, len(full) - 1)]
    held = ~np.isnan(wide) & ~np.isnan(edge) & (after - before <= reach)
    edge[held] = reduce(edge[held], wide[held])


def draw(columns: Columns, axis: ValueAxis, *, dim_after: int | None = None, ascii: bool = False) -> Raster:
    """The cells of a plot, two columns of dots to a cell.

    ``dim_after`` is the cell column after which the line is dim as well: what the playhead has not
    reached. A value that is not a number is a cross on the bottom row, +∞ on the top row.
    """
    line_bits = _stroke(*_rows(columns.line, columns.line, axis), axis.rows)
    band_bits = _stroke(*_rows(columns.low, columns.high, axis), axis.rows)
    on_line = line_bits > 0
    bits = np.where(on_line, line_bits, band_bits)
    tones = np.where(on_line, LINE, np.where(band_bits > 0, DIM, BLANK)).astype(np.uint8)
    if ascii:
        codes = _ascii_codes(bits, on_line)
    else:
        codes = np.where(bits > 0, bits.astype(np.uint32) + _BRAILLE, _SPACE).astype(np.uint32)
    if dim_after is not None:
        future = tones[:, max(dim_after + 1, 0) :]
        future[future == LINE] = DIM
    for column in np.flatnonzero(columns.faults):
        row = 0 if columns.faults[column] == np.inf else axis.rows - 1
        codes[row, column // 2] = ord("x" if ascii else "×")
        tones[row, column // 2] = FAULT
    return Raster(codes, tones)


def behind(front: Raster, back: Raster, *, ascii: bool = False) -> Raster:
    """``back`` as a dim curve behind ``front``: it shows wherever the bright line is not."""
    drawn = back.tones != BLANK
    free = drawn & (front.tones == BLANK)
    codes = np.where(free, back.codes, front.codes).astype(np.uint32)
    shared = drawn & (front.tones == DIM)
    # Braille cells of one tone hold the dots of both.
    codes[shared] = back.codes[shared] if ascii else codes[shared] | back.codes[shared]
    return Raster(codes, np.where(free, DIM, front.tones).astype(np.uint8))


def _rows(low: Array, high: Array, axis: ValueAxis) -> tuple[Array, Array]:
    """Dot rows, counted from the top, of the upper and lower end in each column; -1 where there is none."""
    height = axis.rows * 4
    scale = height / (axis.high - axis.low)
    ends = []
    for values in (high, low):
        inside = np.clip((axis.high - np.nan_to_num(values, nan=axis.high)) * scale, 0, height - 1)
        ends.append(np.where(np.isnan(values), -1, inside.astype(np.int64)))
    return ends[0], ends[1]


def _stroke(top: Array, bottom: Array, rows: int) -> Array:
    """Bits of the cells that dots from ``top`` to ``bottom`` fill, reaching towards the column before."""
    if len(top) > 1:
        joined = (top[1:] >= 0) & (top[:-1] >= 0)
        reach_up = np.where(joined & (bottom[:-1] < top[1:]), bottom[:-1] + 1, top[1:])
        reach_down = np.where(joined & (top[:-1] > bottom[1:]), top[:-1] - 1, bottom[1:])
        top, bottom = np.concatenate([top[:1], reach_up]), np.concatenate([bottom[:1], reach_down])
    # Where a stretch begins and ends in each cell, as there are eight times as many dots as cells.
    start = 4 * np.arange(rows, dtype=np.int16)[:, None]
    first, end = (np.clip(rows_of_dots.astype(np.int16) - start, 0, 4) for rows_of_dots in (top, bottom + 1))
    stretches = 5 * first + end
    cells: Array = _STRETCHES[0].take(stretches[:, 0::2]) | _STRETCHES[1].take(stretches[:, 1::2])
    return cells


def _cells(dots: Bools, rows: int, columns: int) -> Array:
    """Dots, 4 × 2 to a cell, as the bits of braille characters."""
    cells: Array = np.einsum("ribj,ij->rb", dots.reshape(rows, 4, columns, 2), _DOTS, dtype=np.uint8)
    return cells


def _ascii_codes(bits: Array, on_line: Bools) -> Array:
    """The nearest ASCII character of each cell: the line by the height of its dots, the band as colons."""
    heights = np.zeros(bits.shape, np.uint8)
    for row in range(4):
        heights |= ((bits & int(_DOTS[row].sum())) > 0).astype(np.uint8) << row
    codes: Array = np.where(on_line, _ASCII_LINE[heights], np.where(bits > 0, ord(":"), _SPACE)).astype(
        np.uint32
    )
    return codes


def braille(dots: Bools, *, ascii: bool = False) -> npt.NDArray[np.uint32]:
    """Codes of the cells that show ``dots``, 4 × 2 to a cell."""
    bits = _cells(dots, dots.shape[0] // 4, dots.shape[1] // 2)
    if ascii:
        return _ascii_codes(bits, bits > 0).astype(np.uint32)
    codes: npt.NDArray[np.uint32] = np.where(bits > 0, bits.astype(np.uint32) + _BRAILLE, _SPACE)
    return codes.astype(np.uint32)


def row_text(codes: Array) -> str:
    """A row of codes as text."""
    return codes.astype("<u4").tobytes().decode("utf-32-le")
