"""f: a new run that leaves the one on the screen at the playhead."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_runs import run_records, write_run
from live_run import until

from metarl_tui.app.app import MetarlApp
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.worker import fork as fork_module


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


async def test_a_fork_that_is_still_made_when_the_app_is_left_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = RunFolder(write_run(tmp_path, records=run_records(60)))
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    make = fork_module.make_fork

    def slow(*arguments: Any) -> Any:
        begun.set()
        may_end.wait(10)
        made = make(*arguments)
        assert made.folder in list_runs(tmp_path)
        ended.set()
        return made

    monkeypatch.setattr(fork_module, "make_fork", slow)
    app = MetarlApp(tmp_path, run=parent, start=lambda folder: Started())
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(pilot, lambda: screen.follower is not None and screen.follower.complete)
        await pilot.press("f", "y")
        await until(pilot, begun.is_set)
    may_end.set()
    assert await asyncio.to_thread(ended.wait, 10)
    for _ in range(100):
        if list_runs(tmp_path) == [parent]:
            break
        await asyncio.sleep(0.02)
    assert list_runs(tmp_path) == [parent]


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
