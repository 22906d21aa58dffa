"""Steering from the screen: wishes, requests, answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_run import LiveRun, app_on, lines, text, until


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRun]:
    run = LiveRun(tmp_path)
    yield run
    run.close()


def row(pilot, name: str) -> str:
    return next(line for line in lines(pilot) if name in line and "rejected" not in line)


async def test_typed_value_is_queued_then_applied(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", "down", "0", ".", "1", "enter")
        await until(pilot, lambda: live.queued())
        await until(pilot, lambda: "0.2 ⋯ 0.1" in row(pilot, "clip_epsilon"))
        assert live.queued()[0].changes == {"clip_epsilon": 0.1}
        live.answer(old={"clip_epsilon": 0.2})
        await until(pilot, lambda: "applied at iteration 61" in text(pilot))
        assert "⋯" not in row(pilot, "clip_epsilon")
        assert row(pilot, "clip_epsilon").rstrip(" ◀▶").endswith("0.1")
        assert "ε 0.2 → 0.1 applied" in text(pilot)


async def test_nudges_are_sent_as_one_request(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", "down", "right", "right", "right")
        assert not live.queued()
        assert "0.2 ⋯ 0.35" in row(pilot, "clip_epsilon")
        await until(pilot, lambda: live.queued())
        assert [one.changes for one in live.queued()] == [{"clip_epsilon": 0.35}]


async def test_rejection_says_why(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", "left", "enter")
        await until(pilot, lambda: live.queued())
        live.answer(why="the run is stopping")
        await until(pilot, lambda: "rejected: the run is stopping" in text(pilot))
        assert "⋯" not in row(pilot, "learning_rate")


@pytest.mark.parametrize(
    ("downs", "typed", "said"),
    [
        (2, "1.2", "gamma = 1.2"),
        (5, "1000", "minibatch_size = 1000: must divide"),
        (0, "-1", "learning_rate = -1"),
        (1, "abc", "clip_epsilon = abc"),
    ],
)
async def test_what_can_not_be_is_not_sent(
    tmp_path: Path, live: LiveRun, downs: int, typed: str, said: str
) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(150, 40)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", *["down"] * downs, "enter", *typed, "enter")
        await until(pilot, lambda: said.split(":")[0] in text(pilot))
        assert not live.queued()
        await pilot.press("escape")
        await until(pilot, lambda: said.split(":")[0] not in text(pilot))


async def test_escape_gives_up_an_edit_and_then_the_panel(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "running" in text(pilot))
        assert "learning_rate" not in text(pilot)
        await pilot.press("e")
        await until(pilot, lambda: "learning_rate" in text(pilot))
        await pilot.press("5", "escape")
        assert "learning_rate" in text(pilot)
        assert pilot.app.screen.panel.edited is None
        await pilot.press("escape")
        await until(pilot, lambda: "learning_rate" not in text(pilot))
        assert not live.queued()


async def test_off_and_pace_are_values_too(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 44)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", *["down"] * 16, "2", "0", "enter")
        await until(pilot, lambda: live.queued())
        assert live.queued()[0].changes == {"pace": 20.0}
        live.answer(old={"pace": None})
        await until(pilot, lambda: row(pilot, " pace ").rstrip(" ◀▶").endswith("20"))
        await pilot.press("o", "f", "f", "enter")
        await until(pilot, lambda: live.queued())
        assert live.queued()[0].changes == {"pace": None}


async def test_schedule_is_marked_until_a_hand_takes_over(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        assert "↘" in row(pilot, "learning_rate")
        await pilot.press("e", "0", ".", "0", "0", "2", "enter")
        await until(pilot, lambda: live.queued())
        live.answer(old={"learning_rate": 0.001})
        await until(pilot, lambda: "applied at iteration 61" in text(pilot))
        assert "↘" not in row(pilot, "learning_rate")
        assert "0.002" in row(pilot, "learning_rate")


async def test_charts_make_room_for_the_panel_on_a_narrow_screen(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "live" in text(pilot))
        grid = pilot.app.screen.grid
        whole = grid.region.right
        await pilot.press("e")
        await until(pilot, lambda: grid.region.right <= pilot.app.screen.side.region.x)
        await pilot.press("escape")
        await until(pilot, lambda: grid.region.right == whole)


async def test_what_was_asked_is_whole_beside_a_long_value(tmp_path: Path, live: LiveRun) -> None:
    async with app_on(tmp_path, live.folder).run_test(size=(120, 44)) as pilot:
        await until(pilot, lambda: "running" in text(pilot) and "steer" in text(pilot))
        await pilot.press("e", *["down"] * 4, *"1234567", "enter")
        await until(pilot, lambda: live.queued())
        await until(pilot, lambda: "⋯ 1234567" in row(pilot, "total_steps"))
