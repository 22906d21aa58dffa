"""Whole charts by plotext."""

from __future__ import annotations

import math

import plotext
import pytest

from metarl_tui.plots import chart, summary_charts
from metarl_tui.tape import Tape


def tape_of(values: list[float], key: str = "rollout/ep_rew_mean") -> Tape:
    tape = Tape()
    tape.extend(
        {"seq": number, "time": float(number), "iteration": number, "kind": "metrics", "values": {key: value}}
        for number, value in enumerate(values, 1)
    )
    return tape


@pytest.mark.parametrize(("width", "height"), [(100, 12), (40, 10), (24, 8)])
def test_chart_has_the_size_asked_for(width: int, height: int) -> None:
    lines = chart(tape_of([math.sqrt(x) for x in range(200)]), "rollout/ep_rew_mean", width, height).split(
        "\n"
    )
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_title_gives_the_newest_value_and_axes_give_the_limits() -> None:
    text = chart(tape_of([0.0, 500.0, 475.0]), "rollout/ep_rew_mean", 60, 12)
    assert "return 475  (rollout/ep_rew_mean)" in text
    assert "500┤" in text
    assert text.split("\n")[-1].split() == ["1", "2", "3"]


def test_a_single_spike_among_many_points_is_drawn() -> None:
    values = [0.0] * 20_000
    values[13_000] = 100.0
    top = chart(tape_of(values), "rollout/ep_rew_mean", 80, 12).split("\n")[2]
    assert "100" in top
    assert any(0x2800 < ord(letter) < 0x2900 for letter in top)


@pytest.mark.parametrize(
    "values",
    [[1.0], [5.0, 5.0, 5.0], [math.nan] * 3, [1.0, math.nan, math.inf, 2.0], [1e-9, 2e-9], [-1e12, 1e12]],
)
def test_odd_values_are_drawn_without_complaint(values: list[float]) -> None:
    text = chart(tape_of(values), "rollout/ep_rew_mean", 60, 10)
    missing = sum(not math.isfinite(value) for value in values)
    assert (f"{missing} not finite" in text) == bool(missing)


def test_colour_only_where_it_is_wanted() -> None:
    tape = tape_of([1.0, 2.0, 3.0])
    assert "\x1b" not in summary_charts(tape, tape.keys, 80)
    assert "\x1b[" in summary_charts(tape, tape.keys, 80, colour=True)


def test_what_was_never_measured_is_left_out() -> None:
    tape = tape_of([1.0, 2.0, 3.0])
    assert summary_charts(tape, ["rollout/ep_rew_mean", "eval/return_mean"], 80).count("┌") == 1
    assert summary_charts(tape, ["eval/return_mean"], 80) == ""


def test_wide_terminals_get_two_columns() -> None:
    tape = tape_of([1.0, 2.0, 3.0])
    keys = ["rollout/ep_rew_mean"] * 2
    assert len(summary_charts(tape, keys, 80).split("\n")) > len(summary_charts(tape, keys, 140).split("\n"))
    assert max(map(len, summary_charts(tape, keys, 140).split("\n"))) <= 140


def test_plotexts_own_figure_is_left_alone() -> None:
    before = str(plotext.figure), len(list(plotext.figure._signals))
    summary_charts(tape_of([1.0, 2.0]), ["rollout/ep_rew_mean"], 80)
    assert (str(plotext.figure), len(list(plotext.figure._signals))) == before
