"""The header: what it leaves out where room is short, and what it never cuts while there is room."""

from __future__ import annotations

import pytest

from metarl_tui.app.moment import Moment
from metarl_tui.app.widgets.header import header_row
from metarl_tui.app.widgets.rows import width_of

LOST = "its process 28768 ended without a word, perhaps killed"


def told(width: int, **what: object) -> str:
    moment = Moment("ppo", "CartPole-v1", seed=3, iteration=900, total=1485, **what)  # type: ignore[arg-type]
    row = header_row(moment, width)
    assert width_of(row) <= width
    return "".join(segment.text for segment in row)


@pytest.mark.parametrize("width", [100, 120, 200])
def test_why_a_run_is_lost_is_told_whole(width: int) -> None:
    assert LOST in told(width, state="lost", why=LOST, title="a name of some length", share=0.6)


def test_a_name_is_whole_where_there_is_room() -> None:
    name = "a larger inner rate, then a narrower clip"
    assert name in told(200, state="finished", title=name)
    assert name[:29] + "…" in told(100, state="finished", title=name)
    assert name[:10] not in told(80, state="running", title=name, share=0.5, speed=1000.0)


@pytest.mark.parametrize("width", [20, 40, 60, 79])
def test_state_and_iteration_stay_on_the_narrowest(width: int) -> None:
    shown = told(width, state="lost", why=LOST, share=0.6, speed=1000.0, left=60.0)
    assert "lost" in shown
    assert "900" in shown
