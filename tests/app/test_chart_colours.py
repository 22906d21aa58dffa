"""The two tones and the meanings stay apart when a terminal has few colours."""

from __future__ import annotations

from itertools import combinations

import pytest
from rich.color import Color, ColorSystem

from metarl_tui.app import colours


def shown(colour: str, system: ColorSystem) -> tuple[int, ...]:
    """What a terminal with few colours makes of it."""
    return tuple(Color.parse(colour).downgrade(system).get_truecolor())


@pytest.mark.parametrize("system", [ColorSystem.EIGHT_BIT, ColorSystem.STANDARD])
def test_meanings_stay_apart(system: ColorSystem) -> None:
    meanings = (
        colours.ACCENT,
        colours.BAND,
        colours.STEERED,
        colours.ATTENTION,
        colours.WELL,
        colours.BROKEN,
    )
    for one, other in combinations(meanings, 2):
        assert shown(one, system) != shown(other, system)


@pytest.mark.parametrize("system", [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT, ColorSystem.STANDARD])
def test_the_line_is_brighter_than_the_band_and_the_band_than_the_ground(system: ColorSystem) -> None:
    line, band, ground = (
        sum(shown(one, system)) for one in (colours.ACCENT, colours.BAND, colours.BACKGROUND)
    )
    assert line > band + 100
    assert band > ground + 100
