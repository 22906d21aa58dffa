"""f: a new run that leaves the one on the screen at the playhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_runs import run_records, write_run
from live_run import until

from metarl_tui.app.app import MetarlApp
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunError, RunFolder


class Started:
    """A worker on its way for ever."""

    def check(self) -> str:
        return "starting"

    def end(self) -> None: ...


async def test_the_key_asks_and_opens_a_fork_at_the_playhead(tmp_path: Path) -> None:
    parent = RunFolder(write_run(tmp_path, records=run_records(60)))
    started: list[RunFolder] = []

    def start(folder: RunFolder) -> Any:
        started.append(folder)
        return Started()

    app = MetarlApp(tmp_path, run=parent, start=start)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(pilot, lambda: screen.follower is not None and screen.follower.complete)
        screen.show_iteration(41)
        await pilot.press("f")
        assert "after iteration 41" in (screen.answer.question or "")
        assert not started
        await pilot.press("y")
        await until(pilot, lambda: started)
        fork = started[0]
        assert fork in list_runs(tmp_path)
        assert fork.config.parent is not None
        assert (fork.config.parent["run"], fork.config.parent["iteration"]) == (parent.id, 41)
        await until(pilot, lambda: app.screen is not screen)
        assert isinstance(app.screen, RunScreen)
        assert app.screen.folder == fork
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


class Refused:
    """A worker that could not start."""

    def check(self) -> str:
        raise RunError("nothing left to do: trained for 5000 steps")

    def end(self) -> None: ...


async def test_a_fork_that_can_not_start_is_taken_back_and_the_parent_says_why(tmp_path: Path) -> None:
    parent = RunFolder(write_run(tmp_path, records=run_records(60)))
    app = MetarlApp(tmp_path, run=parent, start=lambda folder: Refused())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(pilot, lambda: screen.follower is not None and screen.follower.complete)
        await pilot.press("f", "y")
        await until(pilot, lambda: "not forked: nothing left to do" in str(screen.answer.text))
        assert app.screen is screen
        assert list_runs(tmp_path) == [parent]
