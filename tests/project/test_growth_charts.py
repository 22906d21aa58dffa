"""The charts of the page on how cost grows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from growth_charts import growth_chart


def test_growth_in_proportion_is_a_diagonal_on_logarithmic_axes() -> None:
    lines = growth_chart([[(x, 3.0 * x) for x in (1, 10, 100, 1000)]], 60, 14, ["●"]).split("\n")
    columns = [line.index("●") for line in lines if "●" in line]
    straight = np.linspace(columns[0], columns[-1], len(columns))
    assert columns[0] - columns[-1] > 40
    assert np.abs(straight - columns).max() < 5  # a row is so wide
    assert lines[-1].split() == ["1", "10", "100", "1000"]
    assert [line.split("┤")[0].strip() for line in lines if "┤" in line] == ["1000", "100", "10"]


def test_growth_that_hardly_grows_has_ticks_between_powers_of_ten() -> None:
    text = growth_chart([[(1, 12.0), (4, 30.0)], [(1, 60.0), (4, 40.0)]], 50, 12, ["●", "○"])
    assert {"20┤", "50┤"} <= {line.split()[0][:3] for line in text.split("\n") if "┤" in line}
    assert "●" in text
    assert "○" in text
    assert "\x1b" not in text
