"""Columns hold every value exactly, in few bytes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from metarl_tui.columns import Table


def test_values_come_back_exactly_whatever_they_need() -> None:
    table = Table()
    halves, thirds = [0.5, float("nan"), float("inf")], [1 / 3, 2**24 + 1.0, 1e300]
    table.extend({("half", "third"): ([1, 2, 3], list(zip(halves, thirds, strict=True)))})
    table.extend({("half", "third"): ([4], [(1e300, 0.25)])})
    np.testing.assert_array_equal(table.series("half")[1], [*halves, 1e300])
    np.testing.assert_array_equal(table.series("third")[1], [*thirds, 0.25])


def test_rows_that_lack_a_metric_leave_the_others_in_order() -> None:
    table = Table()
    table.extend({("a", "b"): ([1, 3], [(1, 10), (3, 30)]), ("a",): ([2], [(2,)])})
    table.extend({("a",): ([4], [(4,)]), ("b",): ([5], [(50,)])})
    assert [column.tolist() for column in table.series("a")] == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert [column.tolist() for column in table.series("b")] == [[1, 3, 5], [10, 30, 50]]
    table.cut_above(3)
    table.extend({("a", "b"): ([4], [(-4, -40)])})
    assert [column.tolist() for column in table.series("a")] == [[1, 2, 3, 4], [1, 2, 3, -4]]
    assert [column.tolist() for column in table.series("b")] == [[1, 3, 4], [10, 30, -40]]
    assert table.iterations.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 5.0), (np.float64, 9.0)])
def test_a_value_takes_the_bytes_that_it_needs(dtype: type, limit: float) -> None:
    keys = tuple(f"metric/{number}" for number in range(20))
    numbers = np.random.default_rng(1).normal(size=(1000, 20)).astype(dtype).astype(float)
    lines = numbers.tolist()
    tracemalloc.start()
    try:
        table = Table()
        for start in range(0, 30_000, 1000):
            table.extend({keys: (range(start + 1, start + 1001), lines)})
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held / (30_000 * 20) < limit
