"""The app: which screen, how it ends, and what it leaves on the shell. It never imports torch."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.events import Event, Key
from textual.screen import Screen
from textual.theme import Theme

from metarl_tui.app import colours
from metarl_tui.app.commands import commands, parsed
from metarl_tui.app.driver import TerminalDriver
from metarl_tui.app.garbage import Garbage
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.runs.folder import RunError, RunFolder

if TYPE_CHECKING:
    from metarl_tui.app.screens.run import RunScreen

CRASHED, COULD_NOT_START = 70, 2
_START_CHECK_SECONDS = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

THEME = Theme(
    name="metarl",
    primary=colours.ACCENT,
    accent=colours.ACCENT,
    foreground=colours.TEXT,
    background=colours.BACKGROUND,
    surface=colours.BACKGROUND,
    panel=colours.BACKGROUND,
    success=colours.WELL,
    warning=colours.ATTENTION,
    error=colours.BROKEN,
)


class Starting(Protocol):
    """A worker on its way."""

    def check(self) -> str:
        """``"starting"`` or ``"started"``; raises :class:`RunError` with the reason when it gave up."""

    def end(self) -> None:
        """Wait for one that gave up to be gone."""


class MetarlApp(App[None]):
    """Home screen, or one run. ``lines`` are for the shell, ``exit_code`` for its ``$?``."""

    TITLE = "metarl-tui"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True)]  # noqa: RUF012

    def __init__(
        self,
        runs_dir: Path,
        *,
        run: RunFolder | None = None,
        is_new: bool = False,
        replay: bool = False,
        speed: float = 1.0,
        refresh: float = 5.0,
        ascii: bool = False,
        start: Callable[[RunFolder], Starting] | None = None,
    ) -> None:
        super().__init__(driver_class=TerminalDriver)
        self.runs_dir = runs_dir
        self.refresh_rate = refresh
        self.ascii_only = ascii
        self.lines: list[str] = []
        self.exit_code = 0
        self.garbage = Garbage()
        self._first = self._first_screen(run, replay, speed)
        # Textual reads the style sheets of screens that are pushed, and for the first one those of the app.
        self.css_path = self._first.css_path
        self.gave_up: Starting | None = None
        self._new = run if is_new else None
        self._launches: dict[RunFolder, Starting] = {}
        self._forks: dict[RunFolder, RunFolder] = {}
        """Forks on their way, and what they were forked from."""
        self._start = start or _start
        self.register_theme(THEME)
        self.theme = THEME.name

    # -- screens ----------------------------------------------------------------------------------

    def _first_screen(self, run: RunFolder | None, replay: bool, speed: float) -> CommandScreen:
        # What the other screen imports is not waited for.
        if run is not None:
            from metarl_tui.app.screens.run import RunScreen

            return RunScreen(run, replay=replay, speed=speed)
        from metarl_tui.app.screens.home import HomeScreen

        return HomeScreen(self.runs_dir)

    def get_default_screen(self) -> Screen[None]:
        return self._first

    @property
    def has_home(self) -> bool:
        """Whether there is a screen to go back to."""
        return self._first.place == "home" or len(self._run_screens) > 1

    def open_run(self, folder: RunFolder, *, replay: bool) -> None:
        """Show a run over the home screen."""
        from metarl_tui.app.screens.run import RunScreen

        self.push_screen(RunScreen(folder, replay=replay))

    @property
    def _run_screens(self) -> list[RunScreen]:
        """The runs that are open, the one on top last."""
        return [
            cast("RunScreen", screen)
            for screen in self.screen_stack
            if isinstance(screen, CommandScreen) and screen.place == "run"
        ]

    @property
    def run_screen(self) -> RunScreen | None:
        """The run that is on the screen, also below another one."""
        runs = self._run_screens
        return runs[-1] if runs else None

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The table's commands that work on ``screen`` now, for the palette."""
        if not isinstance(screen, CommandScreen):
            return
        for command in commands(screen.place):
            label = screen.label(command)
            if label is not None and command.palette and command.help:
                name, parameters = parsed(command.action)
                act = cast(Callable[..., None], getattr(screen, f"action_{name}"))
                title = label or command.action
                yield SystemCommand(
                    title, f"{command.help} ({command.shown})", lambda act=act, given=parameters: act(*given)
                )

    # -- starting a worker ------------------------------------------------------------------------

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._end_by, number)
        self.set_interval(_START_CHECK_SECONDS, self._check_launches)
        self.set_interval(1.0, self.garbage.tick)
        if self._new:
            # After the first paint: a worker that imports torch takes the time of a screen that starts.
            self.call_after_refresh(self._start_new, self._new)

    async def on_event(self, event: Event) -> None:
        if isinstance(event, Key):
            self.garbage.typed()
            for screen in self.screen_stack[-1:]:
                if isinstance(screen, CommandScreen):
                    screen.hurry()
        await super().on_event(event)

    def launching(self, folder: RunFolder) -> bool:
        """Whether a worker of this run is started from here and has not begun."""
        return folder == self._new or folder in self._launches

    def restart(self, folder: RunFolder) -> None:
        """Start the worker of a run again. Raises :class:`RunError`."""
        self._launches[folder] = self._start(folder)

    async def fork(self, folder: RunFolder, at: int) -> None:
        """Make a fork of a run, start its worker and show it.

        Raises :class:`RunError` and :class:`~trainers.declarations.InvalidValue`.
        """
        from metarl_tui.worker.fork import make_fork

        folder.check_trusted()
        made = await _made_or_removed(lambda: make_fork(folder, self.runs_dir, at).folder)
        try:
            self.restart(made)
        except RunError:
            shutil.rmtree(made.path, ignore_errors=True)
            raise
        self._forks[made] = folder
        self.open_run(made, replay=False)

    def _start_new(self, folder: RunFolder) -> None:
        try:
            self.restart(folder)
        except RunError as error:
            self._refused(str(error))

    def _check_launches(self) -> None:
        for folder, launch in list(self._launches.items()):
            try:
                if launch.check() == "started":
                    del self._launches[folder]
                    self._forks.pop(folder, None)
                    self._new = None if folder == self._new else self._new
                    self._say(folder, "", colours.DIM)
            except RunError as error:
                del self._launches[folder]
                if folder == self._new:
                    self.gave_up = launch
                    self._refused(str(error))
                elif parent := self._forks.pop(folder, None):
                    self.run_worker(self._take_back(folder, parent, launch, str(error)))
                else:
                    self._say(folder, f"not started: {error}", colours.BROKEN)

    async def _take_back(self, fork: RunFolder, parent: RunFolder, launch: Starting, why: str) -> None:
        """Remove a fork that could not start; from its screen go back to its parent's, which says why."""
        await asyncio.to_thread(launch.end)
        shown = next((one for one in self._run_screens if one.folder == fork), None)
        while shown in self.screen_stack:
            await self.pop_screen()
        await asyncio.to_thread(shutil.rmtree, fork.path, ignore_errors=True)
        self._say(parent, f"not forked: {why}", colours.BROKEN)

    def _refused(self, why: str) -> None:
        """A new run that can't start ends the screen; one that is started again stays to be looked at."""
        self.lines = [why]
        self.exit_code = COULD_NOT_START
        self.exit(return_code=COULD_NOT_START)

    def _say(self, folder: RunFolder, text: str, colour: str) -> None:
        """Say on the screen of a run how its start went, and let its keys follow."""
        screen = self.run_screen
        if screen is not None and screen.folder == folder and screen.is_mounted:
            screen.answer.say(text, colour)
            screen.paint()

    # -- ending -----------------------------------------------------------------------------------

    def leave(self, code: int = 0) -> None:
        """Close the screen; what trains goes on, and the shell is told how to come back."""
        if self._exit:
            return
        self.exit_code = code
        self.lines = self.farewell()
        self.exit(return_code=code)

    def farewell(self) -> list[str]:
        """What to leave on the shell about the run on the screen."""
        from metarl_tui.app.farewell import farewell

        try:
            screen = self.run_screen
        except Exception:
            return []
        if screen is None:
            return []
        if screen.follower is None or screen.follower.standing is None:
            return (
                farewell(screen.folder, "starting", "", 0, watched=True)
                if screen.folder in self._launches
                else []
            )
        standing = screen.follower.standing
        iteration = screen.follower.tape.last
        return farewell(screen.folder, standing.state, standing.why, iteration, watched=screen.seen_alive)

    def _end_by(self, number: signal.Signals) -> None:
        self.leave(128 + number)

    async def action_quit(self) -> None:
        self.leave()

    def action_help_quit(self) -> None:
        self.leave()

    def _fatal_error(self) -> None:
        """A traceback without local variables, which may hold what a run's files say."""
        from rich.segment import Segments
        from rich.traceback import Traceback

        traceback = Traceback(show_locals=False, width=100)
        self._exit_renderables.append(Segments(self.console.render(traceback, self.console.options)))
        self._close_messages_no_wait()


def run_app(
    runs_dir: Path,
    *,
    run: RunFolder | None = None,
    is_new: bool = False,
    replay: bool = False,
    speed: float = 1.0,
    refresh: float = 5.0,
    ascii: bool = False,
    mouse: bool = True,
) -> tuple[int, list[str]]:
    """Show the home screen or, with ``run``, that run, until the person leaves.

    The worker of a run that ``is_new`` is started behind the first paint.
    Returns the exit code and the lines to print once the terminal is restored: how to come back to a run
    that goes on, or with code 2 why a new run could not start. Raises :class:`RunError` when ``run`` can't
    be read. A crash of the screen gives 70; it has printed its traceback then, and training goes on.
    """
    app = MetarlApp(
        runs_dir, run=run, is_new=is_new, replay=replay, speed=speed, refresh=refresh, ascii=ascii
    )
    app.garbage.start()
    app.run(mouse=mouse)
    if app.gave_up:
        app.gave_up.end()
    if app._exception is not None or (app.return_code == 1 and app.exit_code == 0):
        return CRASHED, app.lines
    return app.exit_code, app.lines


def _start(folder: RunFolder) -> Starting:
    from metarl_tui.launch import start

    return start(folder)


async def _made_or_removed(make: Callable[[], RunFolder]) -> RunFolder:
    """What ``make`` makes in a thread; its folder is removed where nobody waits for it any more."""
    made: list[RunFolder] = []
    is_left = threading.Event()

    def remove() -> None:
        for folder in made:
            shutil.rmtree(folder.path, ignore_errors=True)

    def work() -> RunFolder:
        made.append(make())
        if is_left.is_set():
            remove()
        return made[0]

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        is_left.set()  # whichever of the two comes second finds the folder
        remove()
        raise
