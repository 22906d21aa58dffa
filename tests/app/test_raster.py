"""Points become cells, and nothing that matters gets lost on the way."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from metarl_tui.app.axes import iterations_per_dot, value_axis
from metarl_tui.app.raster import DIM, FAULT, LINE, Columns, Points, Raster, dot_columns, draw, row_text


def columns_of(values: Any, width: int = 20, **more: Any) -> Columns:
    """``values``, one an iteration from 1 on, on ``width`` cells."""
    iterations = np.arange(1, len(values) + 1, dtype=np.int32)
    per_dot = iterations_per_dot(1, len(values), 2 * width, settled=True)
    return dot_columns(Points(iterations, np.array(values, float)), 1, per_dot, 2 * width, **more)


def drawn(columns: Columns, rows: int = 8, **more: Any) -> Raster:
    return draw(columns, value_axis(*(columns.limits or (0.0, 1.0)), rows), **more)


def dots(raster: Raster, *tones: int) -> np.ndarray[Any, Any]:
    """Dots of the cells of these tones, as rows × columns of booleans."""
    bits = np.where(np.isin(raster.tones, tones) & (raster.codes >= 0x2800), raster.codes - 0x2800, 0)
    order = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]]
    height, width = bits.shape
    result = np.zeros((height * 4, width * 2), bool)
    for y in range(4):
        for x in range(2):
            result[y::4, x::2] = bits & order[y][x] > 0
    return result


def test_one_point_for_each_column_is_drawn_at_its_height() -> None:
    raster = drawn(columns_of(np.linspace(0, 1, 40)))
    line = dots(raster, LINE)
    heights = [int(np.flatnonzero(line[:, column]).max()) for column in range(40)]
    assert heights == sorted(heights, reverse=True)
    assert line.any(axis=0).all()


def test_the_line_is_unbroken_and_thin() -> None:
    line = dots(drawn(columns_of([0.0] * 20 + [1.0] * 20)), LINE)
    spans = [np.flatnonzero(line[:, column]) for column in range(40)]
    for before, after in pairwise(spans):
        assert after.min() <= before.max() + 1
        assert before.min() <= after.max() + 1
    assert sum(len(span) > 1 for span in spans) == 1


@pytest.mark.parametrize("where", [1, 4_999, 54_321, 99_998])
def test_a_spike_of_one_iteration_survives(where: int) -> None:
    values = np.zeros(100_000)
    values[where] = 10.0
    columns = columns_of(values, width=50, smooth=2)
    assert columns.high.max() == 10.0
    raster = drawn(columns, rows=10)
    inked = (raster.codes != ord(" ")).any(axis=1)
    assert inked[:2].any()
    assert inked[-1]


def test_the_band_reaches_from_the_smallest_to_the_largest() -> None:
    values = np.tile([0.0, 1.0], 500)
    columns = columns_of(values)
    assert columns.low.min() == 0.0
    assert columns.high.max() == 1.0
    assert np.allclose(columns.line, 0.5, atol=0.05)
    raster = drawn(columns)
    assert (raster.tones == DIM).sum() > (raster.tones == LINE).sum() > 0


def test_bounds_widen_the_band_and_only_where_they_were_measured() -> None:
    mean = np.full(40, 5.0)
    low = Points(np.arange(1, 21, dtype=np.int32), np.full(20, 2.0))
    high = Points(np.arange(1, 21, dtype=np.int32), np.full(20, 9.0))
    columns = columns_of(mean, low=low, high=high)
    assert columns.limits == (2.0, 9.0)
    assert (columns.low[20:] == 5.0).all()
    assert (columns.high[:20] == 9.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_shown_and_never_drawn_over(bad: float) -> None:
    values = np.ones(40)
    values[20] = bad
    columns = columns_of(values)
    raster = drawn(columns)
    row = 0 if bad == np.inf else raster.codes.shape[0] - 1
    assert raster.codes[row, 10] == ord("×")
    assert raster.tones[row, 10] == FAULT
    assert (raster.tones == FAULT).sum() == 1
    assert not dots(raster, LINE, DIM)[:, 20].any()


def test_a_fault_among_many_points_is_shown_with_them() -> None:
    values = np.ones(4000)
    values[2000] = np.nan
    raster = drawn(columns_of(values))
    assert (raster.tones == FAULT).sum() == 1
    assert dots(raster, LINE).any(axis=0).all()


def test_a_line_between_few_points_breaks_at_a_fault() -> None:
    columns = columns_of([1.0, 2.0, np.nan, 2.0, 1.0], width=20)
    known = ~np.isnan(columns.line)
    assert known[:10].all()
    assert not known[11:29].any()
    assert known[30:].all()


def test_only_faults_draw_nothing_else() -> None:
    columns = columns_of([np.nan] * 5)
    assert columns.limits is None
    assert set(np.unique(drawn(columns).tones)) == {0, FAULT}


def test_blank_cells_are_spaces() -> None:
    raster = drawn(columns_of(np.linspace(0, 1, 40)))
    assert 0x2800 not in raster.codes
    assert (raster.codes[raster.tones == 0] == ord(" ")).all()


def test_smoothing_stops_at_a_change() -> None:
    values = [0.0] * 200 + [1.0] * 200
    blurred = columns_of(values, width=50, smooth=4).line
    sharp = columns_of(values, width=50, smooth=4, breaks=[201]).line
    assert ((blurred > 0.01) & (blurred < 0.99)).sum() > 4
    assert ((sharp > 0.01) & (sharp < 0.99)).sum() <= 1


def test_smoothing_calms_the_line_but_not_the_band() -> None:
    noise = np.random.default_rng(1).normal(size=400)
    rough, calm = columns_of(noise, width=50), columns_of(noise, width=50, smooth=3)
    assert np.std(calm.line) < 0.6 * np.std(rough.line)
    np.testing.assert_array_equal(rough.low, calm.low)
    np.testing.assert_array_equal(rough.high, calm.high)


def test_what_lies_after_the_playhead_is_dim() -> None:
    raster = drawn(columns_of(np.linspace(0, 1, 40)), dim_after=9)
    assert LINE in raster.tones[:, :10]
    assert LINE not in raster.tones[:, 10:]


def test_ascii_uses_ascii() -> None:
    values = np.random.default_rng(1).normal(size=400)
    values[100] = np.nan
    raster = drawn(columns_of(values), ascii=True)
    assert all(row_text(row).isascii() for row in raster.codes)
    assert {":", "x"} <= set("".join(row_text(row) for row in raster.codes))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("width", [1, 2, 15])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_small_plots_of_few_points(count: int, width: int, rows: int) -> None:
    raster = drawn(columns_of(np.arange(count, dtype=float), width=width, smooth=1), rows=rows)
    assert raster.codes.shape == (rows, width)
    assert LINE in raster.tones


@pytest.mark.parametrize("values", [[1e300, -1e300], [1e-300, 2e-300], [5.0] * 9, [0.0] * 9, [1e9, 1e9 + 1]])
def test_extreme_values(values: list[float]) -> None:
    assert LINE in drawn(columns_of(values)).tones


def test_a_hundred_thousand_points_take_little_time() -> None:
    iterations, values = np.arange(1, 100_001, dtype=np.int32), np.random.default_rng(1).normal(size=100_000)
    per_dot = iterations_per_dot(1, 100_000, 100)
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        columns = dot_columns(Points(iterations, values), 1, per_dot, 100, smooth=2)
        draw(columns, value_axis(*(columns.limits or (0, 1)), 12))
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.002
