"""Axes: data fits, labels tell apart, limits rarely move."""

from __future__ import annotations

import math
import random

import pytest

from metarl_tui.app.axes import iterations_per_dot, logarithmic_axis, spans_decades, value_axis


def labels(low: float, high: float, rows: int) -> list[str]:
    return [tick.label for tick in value_axis(low, high, rows).ticks]


def test_labels_are_short() -> None:
    assert labels(8, 500, 11) == ["0", "250", "500"]
    assert labels(0, 0.02, 11) == ["0.00", "0.01", "0.02"]
    assert labels(50_000, 52_000, 9) == ["50k", "51k", "52k"]
    assert labels(0, 4.2e6, 14)[:2] == ["0", "2M"]
    assert labels(1e-4, 1e-3, 12)[-1] in ("1e-3", "0.0010")
    assert labels(3e-9, 5e-9, 7) == ["3e-9", "4e-9", "5e-9"]


def test_any_data_fits_with_labels_that_differ() -> None:
    chance = random.Random(1)
    for _ in range(1000):
        low = chance.gauss(0, 10 ** chance.uniform(-6, 6))
        span = 10 ** chance.uniform(-6, 6)
        axis = value_axis(low, low + span, rows := chance.randint(1, 40))
        assert axis.low <= low + 1e-6 * span
        assert axis.high >= low + (1 - 1e-6) * span
        assert len({tick.label for tick in axis.ticks}) == len(axis.ticks) >= 1
        assert all(0 <= tick.row < rows for tick in axis.ticks)


def test_limits_move_rarely_while_data_grows() -> None:
    axis, moves = None, 0
    for step in range(500):
        high = 20 + 480 / (1 + math.exp(-(step / 500 - 0.28) * 22))
        before, axis = axis, value_axis(8, high, 12, axis)
        moves += axis is not before
    assert moves <= 20


def test_limits_move_when_data_uses_less_than_half() -> None:
    wide = value_axis(0, 100, 10)
    assert value_axis(20, 90, 10, wide) is wide
    assert value_axis(0, 30, 10, wide) is not wide


def test_one_value_is_in_the_middle() -> None:
    axis = value_axis(0.3, 0.3, 10)
    assert axis.low < 0.3 < axis.high
    assert value_axis(0.3, 0.3, 10, axis) is axis


@pytest.mark.parametrize("rows", range(1, 60))
def test_every_height_has_a_label(rows: int) -> None:
    for low, high in ((-1, 1), (0.0005, 0.017), (-0.03, 0.001), (8, 500)):
        assert len(value_axis(low, high, rows).ticks) >= (2 if rows >= 5 else 1)


def test_the_iteration_scale_moves_in_steps_while_a_run_grows() -> None:
    scales = [iterations_per_dot(1, last, 100) for last in range(1000, 2001)]
    assert len(set(scales)) <= 18
    filled = [last / (scale * 100) for scale, last in zip(scales, range(1000, 2001), strict=True)]
    assert 0.95 < min(filled) <= max(filled) <= 1
    assert iterations_per_dot(1, 100, 100, settled=True) == 1.0
    assert iterations_per_dot(1, 1, 1) > 0


def test_a_logarithmic_axis_has_powers_of_ten_and_rarely_moves() -> None:
    axis = logarithmic_axis(0.02, 150_000, 8)
    assert axis.low <= math.log10(0.02)
    assert math.log10(150_000) <= axis.high
    assert {tick.label for tick in axis.ticks} <= {"0.01", "0.1", "1", "10", "100", "1000", "1e4", "1e5"}
    assert len(axis.ticks) >= 2
    assert logarithmic_axis(0.03, 90_000, 8, axis) is axis
    assert logarithmic_axis(0.03, 90_000, 8, value_axis(0, 4, 8)).logarithmic


def test_a_logarithmic_axis_is_for_positive_values_that_span_decades() -> None:
    assert spans_decades(0.1, 10, before=False)
    assert not spans_decades(0.5, 20, before=False)
    assert spans_decades(0.5, 20, before=True)  # once there, a little less does not turn it back
    assert not spans_decades(0, 1e6, before=True)
    assert not spans_decades(-1, 1e6, before=True)
