"""The screen: at home, of one run, or playing one back."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from metarl_tui.commands.common import (
    SPEED,
    Declared,
    command_line,
    require_terminal,
    reraise_ending,
    run_argument,
    runs_dir_option,
    say,
    screen_options,
)

if TYPE_CHECKING:
    from metarl_tui.runs.folder import RunFolder

SCREEN_CRASHED = 70


def show_screen(
    runs_dir: Path,
    *,
    run: RunFolder | None = None,
    is_new: bool = False,
    is_replay: bool = False,
    speed: float | None = None,
    refresh: float | None = None,
    ascii: bool = False,
    no_mouse: bool = False,
) -> int:
    """Run the screen until it is left; its exit code. What it leaves to say is printed afterwards.

    The worker of a run that ``is_new`` is started by the screen.
    """
    from metarl_tui.runs.blocks import begin_if_big

    if run is not None:
        begin_if_big(run.journal)  # it is read while the app is imported

    from metarl_tui.app.app import run_app
    from metarl_tui.runs.folder import RunError

    try:
        code, lines = run_app(
            runs_dir,
            run=run,
            is_new=is_new,
            replay=is_replay,
            speed=speed or 1.0,
            refresh=refresh or 5.0,
            ascii=ascii,
            mouse=not no_mouse,
        )
    except RunError:
        raise
    except Exception as error:
        reraise_ending(error)
        # Whatever broke the screen, the worker is a process of its own.
        traceback.print_exc()
        say("error: the screen crashed; training is not affected by that", err=True)
        return SCREEN_CRASHED
    with suppress(OSError):  # the terminal may be what ended the screen
        for line in lines:
            say(line, err=code != 0)
    return int(code)


def home(runs_dir: Path, ascii: bool, no_mouse: bool, refresh: float | None) -> int:
    """The home screen."""
    without = command_line("train", "ppo", "--no-ui")
    require_terminal(f"{command_line('list')} prints the runs, {without} trains without it")
    return show_screen(runs_dir, refresh=refresh, ascii=ascii, no_mouse=no_mouse)


@click.command("open")
@run_argument
@runs_dir_option
@screen_options
def open_run(reference: str, runs_dir: Path, ascii: bool, no_mouse: bool, refresh: float | None) -> int:
    """Open the screen of RUN: live while it trains, its whole tape when it has ended.

    Leaving the screen (q) never stops training.
    """
    from metarl_tui.runs.find import find_run

    folder = find_run(runs_dir, reference)
    require_terminal(f"{command_line('show', folder.short_id)} prints the run")
    return show_screen(runs_dir, run=folder, refresh=refresh, ascii=ascii, no_mouse=no_mouse)


@click.command()
@run_argument
@click.option("--speed", type=Declared(SPEED), metavar="X", help=f"{SPEED.help}, 1 is as recorded")
@runs_dir_option
@screen_options
def replay(
    reference: str, runs_dir: Path, speed: float | None, ascii: bool, no_mouse: bool, refresh: float | None
) -> int:
    """Play RUN from its start, on the same screen.

    space holds and plays, arrows step, < and > change the speed.
    """
    from metarl_tui.runs.find import find_run

    folder = find_run(runs_dir, reference)
    require_terminal(f"{command_line('plot', folder.short_id)} prints the run's charts")
    return show_screen(
        runs_dir, run=folder, is_replay=True, speed=speed, refresh=refresh, ascii=ascii, no_mouse=no_mouse
    )
