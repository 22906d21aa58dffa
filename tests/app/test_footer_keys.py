"""Every key that the footer shows does something, in every state of a run and on every screen."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_runs import write_run
from live_run import LiveRun, app_on, lines, text, until
from textual.pilot import Pilot

from metarl_tui.app.commands import Command
from metarl_tui.app.commands import commands as all_commands
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.app.widgets.footer import KeysFooter
from metarl_tui.runs.folder import RunFolder

STEERING = {"choose": ["down"], "nudge": ["right"], "type": ["1"], "send": ["enter"], "done": ["escape"]}
"""The steer panel's keys are its own."""
UNDO = {"stop": "n", "restart": "n", "delete": "n", "help": "escape", "log": "escape", "steer": "escape"}


def state(pilot: Pilot[None], folder: RunFolder | None) -> tuple[Any, ...]:
    """All that a key may change."""
    app: Any = pilot.app
    screen = app.screen
    head = getattr(screen, "playhead", None)
    queued = sorted(path.name for path in folder.requests.iterdir()) if folder else []
    moment = (head.mode, head.iteration, head.speed) if head else None
    return screen, app._exit, screen.focused, moment, queued, text(pilot)


async def changes(pilot: Pilot[None], before: tuple[Any, ...], folder: RunFolder | None) -> bool:
    for _ in range(50):
        if state(pilot, folder) != before:
            return True
        await asyncio.sleep(0.02)
    return False


def shown(pilot: Pilot[None]) -> list[Command]:
    """The commands in the footer and those that share a place in it, as ``[ ]`` do; what leaves is last."""
    screen = pilot.app.screen
    assert isinstance(screen, CommandScreen)
    commands = [command for command, _ in screen.query_one(KeysFooter)._commands]
    assert commands, lines(pilot)[-1]
    table = list(all_commands(screen.place))
    commands += [after for before, after in pairwise(table) if before in commands and not after.shown]
    return sorted(commands, key=lambda command: command.action in ("leave", "done", "back"))


async def press_all(pilot: Pilot[None], folder: RunFolder | None) -> list[str]:
    """Press each key of the footer; which were there."""
    pressed = []
    for command in shown(pilot):
        for key in list(command.keys) or STEERING[command.action]:
            if key in ("ctrl+c", "k", "j"):
                continue
            before = state(pilot, folder)
            await pilot.press(key)
            assert await changes(pilot, before, folder), f"{key} does nothing:\n{text(pilot)}"
            pressed.append(key)
            if undo := UNDO.get(command.action):
                await pilot.press(undo)
                await pilot.pause()
            if command.action == "zoom":
                await pilot.press("z")
    return pressed


@pytest.mark.parametrize("paused", [False, True])
async def test_of_a_run_that_trains(tmp_path: Path, paused: bool) -> None:
    live = LiveRun(tmp_path)
    live.folder.log.write_text("a line\n")
    if paused:
        live.say("paused", why="asked by ada@box")
    try:
        async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "p resume" in text(pilot) if paused else "p pause" in text(pilot))
            await until(pilot, lambda: "live  60" in text(pilot))
            await pilot.press("left")
            pressed = await press_all(pilot, live.folder)
            assert {"p", "e", "s", "Q", "space", "left", "z", "l", "question_mark", "q"} <= set(pressed)
    finally:
        live.close()


async def test_of_the_steer_panel(tmp_path: Path) -> None:
    live = LiveRun(tmp_path)
    try:
        async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "e steer" in text(pilot))
            await pilot.press("e")
            await until(pilot, lambda: "◀ ▶ change" in lines(pilot)[-1])
            assert len(await press_all(pilot, live.folder)) == len(STEERING)
    finally:
        live.close()


@pytest.mark.parametrize("end", ["failed", "finished"])
async def test_of_a_run_that_ended(tmp_path: Path, end: str) -> None:
    folder = RunFolder(write_run(tmp_path, iterations=120, end=end))
    async with app_on(tmp_path, folder).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "end  120" in text(pilot))
        await pilot.press("left")
        await until(pilot, lambda: "held  119" in text(pilot))
        pressed = await press_all(pilot, folder)
        assert ("r" in pressed) == (end != "finished")
        assert {"space", "left_square_bracket", "right_square_bracket", "q"} <= set(pressed)
        assert not {"p", "e", "s", "Q", "l"} & set(pressed)


async def test_of_a_replay(tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path, iterations=400, end="finished"))
    async with app_on(tmp_path, folder, replay=True).run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: "playing" in text(pilot))
        before = pilot.app.screen.playhead.speed
        await pilot.press("greater_than_sign")
        assert pilot.app.screen.playhead.speed == 2 * before
        await pilot.press("less_than_sign")
        assert pilot.app.screen.playhead.speed == before
        assert "space hold" in lines(pilot)[-1]
        await pilot.press("space")
        await until(pilot, lambda: "held" in text(pilot) and "< >" not in lines(pilot)[-1])


async def test_of_home_and_log(tmp_path: Path) -> None:
    for last in ("k3f9", "aaaa"):
        name = f"20261122-154210-ppo-cartpole-{last}"
        folder = RunFolder(write_run(tmp_path, name, iterations=30, end="finished"))
        folder.log.write_text("".join(f"line {number}\n" for number in range(100)))
    async with app_on(tmp_path).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "enter replay" in lines(pilot)[-1])
        home = pilot.app.screen
        commands = {command.action for command in shown(pilot)}
        assert {"open", "delete", "help", "leave", "move(-1)"} <= commands
        await pilot.press("down", "enter", "l")
        await until(pilot, lambda: "line 99" in text(pilot))
        await pilot.press("home")
        await until(pilot, lambda: "end follow" in lines(pilot)[-1] and "line 0" in text(pilot))
        await pilot.press("end", "up")
        await until(pilot, lambda: "line 98" in text(pilot) and "line 99" not in text(pilot))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: pilot.app.screen is home)
        await pilot.press("up")
        await pilot.press("D", "y")
        await until(pilot, lambda: "deleted" in text(pilot))
        await pilot.press("q")
        assert pilot.app._exit


async def test_a_screen_whose_panel_has_gone_before_it_still_has_its_keys(tmp_path: Path) -> None:
    """As when it is left: its widgets go one by one, and the focus with them."""
    run = RunFolder(write_run(tmp_path, iterations=20, end="finished"))
    async with app_on(tmp_path, run).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "q leave" in text(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        before = screen.keys_now()
        await screen.panel.remove()
        screen.show_keys()
        assert screen.keys_now() == before
