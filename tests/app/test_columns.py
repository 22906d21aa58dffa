"""Columns hold every value exactly, in few bytes."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from metarl_tui.columns import Table


def assert_holds(table: Table, key: str, iterations: Sequence[int], values: Sequence[float]) -> None:
    """Exactly these: the sign of a zero counts as well."""
    found, numbers = table.series(key)
    assert found.tolist() == list(iterations)
    np.testing.assert_array_equal(numbers, values)
    np.testing.assert_array_equal(np.signbit(numbers), np.signbit(values))


def test_values_come_back_exactly_whatever_they_need() -> None:
    table = Table()
    halves, thirds = [0.5, float("nan"), float("inf")], [1 / 3, 2**24 + 1.0, 1e300]
    table.extend({("half", "third"): ([1, 2, 3], list(zip(halves, thirds, strict=True)))})
    table.extend({("half", "third"): ([4], [(1e300, 0.25)])})
    assert_holds(table, "half", range(1, 5), [*halves, 1e300])
    assert_holds(table, "third", range(1, 5), [*thirds, 0.25])


@pytest.mark.parametrize("same", [0.5, 1 / 3, 0.0, -0.0, math.nan, math.inf])
@pytest.mark.parametrize("other", [0.25, 2 / 3, 0.0, -0.0, math.nan, -math.inf])
def test_a_value_that_stays_the_same_comes_back_until_it_changes(same: float, other: float) -> None:
    table = Table()
    table.extend({("a",): ([1, 2, 3], [(same,)] * 3)})
    table.extend({("a",): ([4], [(same,)])})
    assert_holds(table, "a", range(1, 5), [same] * 4)
    table.grow(10)
    table.extend({("a",): ([5, 6], [(other,), (same,)])})
    assert_holds(table, "a", range(1, 7), [same] * 4 + [other, same])
    table.cut_above(0)
    table.extend({("a",): ([1], [(other,)])})
    assert_holds(table, "a", [1], [other])


def test_rows_that_lack_a_metric_leave_the_others_in_order() -> None:
    table = Table()
    table.extend({("a", "b"): ([1, 3], [(1, 10), (3, 30)]), ("a",): ([2], [(2,)])})
    table.extend({("a",): ([4], [(4,)]), ("b",): ([5], [(50,)])})
    assert_holds(table, "a", [1, 2, 3, 4], [1, 2, 3, 4])
    assert_holds(table, "b", [1, 3, 5], [10, 30, 50])
    table.cut_above(3)
    table.extend({("a", "b"): ([4], [(-4, -40)])})
    assert_holds(table, "a", [1, 2, 3, 4], [1, 2, 3, -4])
    assert_holds(table, "b", [1, 3, 4], [10, 30, -40])
    assert table.iterations.tolist() == [1, 2, 3, 4]


def share_iterations(table: Table, *keys: str) -> bool:
    first, *others = (table.series(key)[0] for key in keys)
    return all(np.shares_memory(first, other) for other in others)


def test_metrics_of_the_same_rows_share_their_iterations_until_they_part() -> None:
    table = Table()
    table.extend({("a", "low", "high"): ([1, 2], [(1, 2, 3)] * 2)})
    assert share_iterations(table, "a", "low", "high")
    table.extend({("a",): ([3], [(1,)]), ("a", "low", "high"): ([4], [(1, 2, 3)])})
    table.extend({("a", "late", "later"): ([5], [(1, 5, 6)])})
    table.extend({("a", "low", "high", "late", "later"): ([6], [(1, 2, 3, 5, 6)])})
    assert share_iterations(table, "low", "high")
    assert share_iterations(table, "late", "later")
    assert not share_iterations(table, "a", "low")
    assert not share_iterations(table, "a", "late")
    table.extend({("a", "low"): ([7], [(1, 2)]), ("a", "high"): ([8], [(1, 3)])})
    assert not share_iterations(table, "low", "high")
    table.extend({("a", "later"): ([9], [(1, 6)])})
    table.extend({("a", "late", "later"): ([10], [(1, 5, 6)])})
    expected = {
        "a": [*range(1, 11)],
        "low": [1, 2, 4, 6, 7],
        "high": [1, 2, 4, 6, 8],
        "late": [5, 6, 10],
        "later": [5, 6, 9, 10],
    }
    for key, iterations in expected.items():
        assert table.series(key)[0].tolist() == iterations
    assert table.keys == list(expected)


def test_metrics_that_share_their_iterations_are_cut_together() -> None:
    table = Table()
    table.extend({("a", "low", "high"): ([1, 3, 5], [(1, 2, 3)] * 3), ("a",): ([2, 4], [(1,)] * 2)})
    table.extend({("low",): ([6], [(7,)])})
    table.cut_above(4)
    assert table.iterations.tolist() == [1, 2, 3, 4]
    for key, value in (("low", 2), ("high", 3)):
        assert_holds(table, key, [1, 3], [value] * 2)
    table.extend({("a", "low", "high"): ([5], [(8, 8, 8)])})
    assert_holds(table, "a", [1, 2, 3, 4, 5], [1, 1, 1, 1, 8])
    for key, value in (("low", 2), ("high", 3)):
        assert_holds(table, key, [1, 3, 5], [value, value, 8])
    table.cut_above(0)
    assert table.keys == []
    assert table.newest("low", 10) is None
    table.extend({("low",): ([1], [(4,)])})
    assert table.newest("low", 10) == (1, 4.0)


@pytest.mark.parametrize("seed", range(20))
def test_any_rows_come_back_as_they_are(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"metric/{number}" for number in range(7)]
    table, rows = Table(), dict[int, dict[str, float]]()
    iteration = 0
    for _ in range(60):
        if chance.random() < 0.1:
            iteration = chance.randrange(iteration + 1)
            table.cut_above(iteration)
            rows = {one: row for one, row in rows.items() if one <= iteration}
        if chance.random() < 0.1:
            table.grow(chance.uniform(0.5, 4))
        groups: dict[tuple[str, ...], tuple[list[int], list[list[Any]]]] = {}
        kinds = [tuple(chance.sample(names, chance.randrange(8))) for _ in range(chance.choice([1, 1, 2, 4]))]
        for _ in range(chance.choice([1, 3, 200])):
            iteration += chance.choice([1, 1, 1, 5])
            keys = chance.choice(kinds)
            row = {key: chance.choice([0.0, 0.0, 1.5, 1 / 3, -0.0, math.nan]) for key in keys}
            iterations, lines = groups.setdefault(keys, ([], []))
            iterations.append(iteration)
            lines.append(list(row.values()))
            rows[iteration] = row
        table.extend(groups)
        assert table.iterations.tolist() == list(rows)
        for key in names:
            held = {one: row[key] for one, row in rows.items() if key in row}
            assert_holds(table, key, list(held), list(held.values()))
            assert (key in table.keys) == bool(held)
            moment = chance.randrange(iteration + 2)
            before = [one for one in held if one <= moment]
            newest = table.newest(key, moment)
            assert (newest[0] if newest else None) == (before[-1] if before else None)


_NUMBERS = np.random.default_rng(1).normal(size=(1000, 20))


@pytest.mark.parametrize(
    ("numbers", "limit"),
    [(np.ones((1000, 20)), 0.3), (_NUMBERS.astype(np.float32).astype(float), 4.4), (_NUMBERS, 8.5)],
)
def test_a_value_takes_the_bytes_that_it_needs(numbers: np.ndarray, limit: float) -> None:
    keys = tuple(f"metric/{number}" for number in range(20))
    assert held_by_rows({keys: numbers.tolist()}) < limit


def test_iterations_of_metrics_of_the_same_rows_are_held_once() -> None:
    keys = tuple(f"metric/{number}" for number in range(20))
    lines = _NUMBERS.tolist()
    rows = {keys: lines[:500], keys[:10]: [line[:10] for line in lines[500:]]}
    assert held_by_rows(rows) < 8.8


def held_by_rows(rows: dict[tuple[str, ...], list[list[float]]]) -> float:
    """Bytes that a table takes for a value, when it was given ``rows`` thirty times."""
    values = sum(len(keys) * len(lines) for keys, lines in rows.items())
    tracemalloc.start()
    try:
        table, last = Table(), 0
        for _ in range(30):
            given = {}
            for keys, lines in rows.items():
                given[keys] = range(last + 1, last + 1 + len(lines)), lines
                last += len(lines)
            table.extend(given)
        del given
        return tracemalloc.get_traced_memory()[0] / (30 * values)
    finally:
        tracemalloc.stop()


def test_columns_move_to_larger_arrays_one_after_another() -> None:
    """All at once, a million rows long, they would keep a screen from answering."""
    keys = tuple(f"metric/{number}" for number in range(20))
    table, most = Table(), 0
    for start in range(0, 60_000, 20):
        before = [table.series(key)[1] for key in keys]
        table.extend({keys: (range(start + 1, start + 21), _NUMBERS[start % 1000 :][:20])})
        if start > 20_000:
            after = [table.series(key)[1] for key in keys]
            moved = [not np.shares_memory(*pair) for pair in zip(before, after, strict=True)]
            most = max(most, sum(moved))
    assert most == 1
