"""The runs of a folder, newest first."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult

from metarl_tui.app.catalogue import Catalogue, Entry
from metarl_tui.app.colours import ACCENT, BROKEN, DIM, GREY
from metarl_tui.app.commands import Command, bindings
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.app.widgets.answer import Answer
from metarl_tui.app.widgets.footer import KeysFooter
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, spread
from metarl_tui.app.widgets.run_details import RunDetails
from metarl_tui.app.widgets.run_list import RunList
from metarl_tui.runs.files import shown
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunError, RunFolder, delete

_READING_SECONDS = 0.1
"""Runs out of view are read for so long at a time; then what is known is shown."""
_LIST_SECONDS = 2.0
_LIVE_SECONDS = 1.0
_REST = 20
"""Listing, and reading again what is out of view, rests for so many times as long as it took."""


class HomeHeading(Rows):
    """How many runs there are and where they lie; without any, what to type."""

    DEFAULT_CSS = """
    HomeHeading { height: 2; width: 1fr; }
    """

    def __init__(self, runs_dir: Path, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._runs_dir = runs_dir
        self._count: int | None = None
        self._read = 0

    def show(self, count: int, read: int) -> None:
        """Show the number of runs and how many of them have been read."""
        self._count, self._read = count, read
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        if self._count is None:
            what = "looking for runs"
        else:
            what = f"{self._count} run{'s' * (self._count != 1)}"
            what += f", {self._read} read" * (self._read < self._count)
        left: Row = [say("metarl-tui  ", ACCENT), say(what, GREY)]
        return [
            spread(left, [say(fit(shown(self._runs_dir), 60).rstrip(), DIM)] if width > 60 else [], width)
        ]


class EmptyHome(Rows):
    """What to type when there are no runs."""

    DEFAULT_CSS = """
    EmptyHome { height: 1fr; width: 1fr; display: none; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.trouble = ""

    def rows(self, width: int, height: int) -> list[Row]:
        if self.trouble:
            return [[say(self.trouble, BROKEN)]]
        return [
            [say("No runs here yet. To start one:", GREY)],
            [],
            [say("    metarl-tui train ppo", ACCENT)],
            [],
            [say("It trains PPO on CartPole-v1 and shows it live.", DIM)],
        ]


class HomeScreen(CommandScreen):
    """Lists runs, reads those in view first, and keeps an eye on those that train."""

    place = "home"
    CSS_PATH = "home.tcss"
    BINDINGS = bindings("home")
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-high")]  # noqa: RUF012

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.runs_dir = runs_dir
        self._catalogue = Catalogue()
        self._queue: dict[RunFolder, None] = {}
        """Runs to be read, the next one last: those that never were, later those that may have changed."""
        self._list_at = self._view_at = self._pass_at = 0.0
        """When to list, to read again what is in view, and all that is not over; the last is never while it
        goes on."""
        self._pass_seconds = 0.0
        """What reading all that is not over has taken."""
        self._awake = asyncio.Event()

    def compose(self) -> ComposeResult:
        ascii_only = self.metarl.ascii_only
        yield HomeHeading(self.runs_dir, ascii_only=ascii_only)
        yield RunList(ascii_only=ascii_only)
        yield EmptyHome(ascii_only=ascii_only)
        yield RunDetails(ascii_only=ascii_only)
        yield Answer(ascii_only=ascii_only)
        yield KeysFooter(ascii_only=ascii_only)

    def on_mount(self) -> None:
        self.show_keys()
        self.call_after_refresh(lambda: self.run_worker(self.until_left(self._follow()), exclusive=True))

    def on_screen_resume(self) -> None:
        self._list_at = 0.0
        self._awake.set()

    @property
    def table(self) -> RunList:
        return self.query_one(RunList)

    # -- following --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """List, then read: what is in view, then what was never read, then again what may have changed."""
        settled = False
        while True:
            if self.is_current and time.monotonic() >= self._list_at:
                await self._list()
            if self.is_current and (self._unseen() or self._queued()):
                self._take(await asyncio.to_thread(self._read, self._unseen()))
                if not self._queue and not settled:
                    settled = True
                    self.metarl.garbage.loaded()
            pause = 0.001 if self._queue and self.is_current else 0.25
            self._awake.clear()
            try:
                await asyncio.wait_for(self._awake.wait(), pause)
            except TimeoutError:
                continue

    def _read(self, first: list[RunFolder]) -> list[tuple[RunFolder, Entry]]:
        """The entries of the runs ``first``, or where there are none of those whose turn it is."""
        entries = [(run, self._catalogue.read(run)) for run in first]
        began = time.monotonic()
        while self._queue and not first and time.monotonic() < began + _READING_SECONDS:
            run, _ = self._queue.popitem()
            entries.append((run, self._catalogue.read(run)))
        self._pass_seconds += time.monotonic() - began
        return entries

    def _unseen(self) -> list[RunFolder]:
        """The runs in view that were never read."""
        return [run for run in self.table.in_view if run not in self.table.entries]

    def _queued(self) -> bool:
        """Whether there is something to read; once a second that is again what trains."""
        now, entries = time.monotonic(), self.table.entries
        if not self._queue and self._pass_at == math.inf:
            self._pass_at = now + max(_LIVE_SECONDS, _REST * self._pass_seconds)
        elif not self._queue and now >= self._pass_at:
            self._pass_at, self._pass_seconds = math.inf, 0.0
            self._read_soon([run for run, entry in entries.items() if not entry.over])
        if now >= self._view_at:
            self._view_at = now + _LIVE_SECONDS
            self._read_soon([run for run in self.table.in_view if run in entries and not entries[run].over])
        return bool(self._queue)

    def _read_soon(self, runs: Sequence[RunFolder]) -> None:
        """Have these runs read before all others, the last one first."""
        for run in runs:
            self._queue.pop(run, None)
            self._queue[run] = None

    async def _list(self) -> None:
        trouble, began = "", time.monotonic()
        self._list_at = math.inf  # whoever sets it meanwhile wants another list
        entries = self.table.entries
        try:
            runs, is_new, changed = await asyncio.to_thread(self._listed)
        except RunError as error:
            runs, is_new, changed, trouble = [], True, [], str(error)
        now = time.monotonic()
        self._list_at = min(self._list_at, now + max(_LIST_SECONDS, _REST * (now - began)))
        if is_new:
            for folder in entries.keys() - set(runs):
                del entries[folder]
                self._catalogue.forget(folder)
            self._queue = dict.fromkeys(run for run in reversed(runs) if run not in entries)
            self.table.show(runs)
        self._read_soon([run for run in (*changed, *self.table.in_view) if run in entries])
        empty = self.query_one(EmptyHome)
        empty.trouble = trouble
        empty.display = not runs
        self.table.display = bool(runs)
        empty.redraw()
        self._show()

    def _listed(self) -> tuple[list[RunFolder], bool, list[RunFolder]]:
        """The runs there are, whether others than those shown, and those that were over and are written anew.

        Slow with thousands.
        """
        runs = list_runs(self.runs_dir)
        over = [run for run, entry in self.table.entries.items() if entry.over]
        return runs, runs != self.table.runs, self._catalogue.changed(over)

    def _take(self, entries: list[tuple[RunFolder, Entry]]) -> None:
        known = dict(entries)
        self.table.entries.update(known)
        if any(run in known for run in self.table.in_view):
            self.table.redraw()
        self._show()

    def _show(self) -> None:
        self.query_one(HomeHeading).show(len(self.table.runs), len(self.table.entries))
        run = self.table.run
        self.query_one(RunDetails).show(run, self.table.entries.get(run) if run else None)
        self.show_keys()

    # -- commands ---------------------------------------------------------------------------------

    def label(self, command: Command) -> str | None:
        run = self.table.run if self.is_mounted else None
        entry = self.table.entries.get(run) if run else None
        match command.action:
            case "open":
                if entry is None or entry.problem:
                    return None
                return "replay" if entry.over else "watch"
            case "delete":
                gone = entry is None or entry.over or entry.state == "lost"
                return command.label if run is not None and gone else None
            case "help" | "leave":
                return command.label
            case _:
                return command.label if len(self.table.runs) > 1 else None

    def on_run_list_chosen(self) -> None:
        self._show()
        self._awake.set()

    def on_run_list_opened(self) -> None:
        self.action_open()

    def action_move(self, rows: int) -> None:
        self.table.move(rows)

    def action_page(self, direction: int) -> None:
        self.table.page(direction)

    def action_top(self) -> None:
        self.table.move(-len(self.table.runs))

    def action_bottom(self) -> None:
        self.table.move(len(self.table.runs))

    def action_open(self) -> None:
        run = self.table.run
        entry = self.table.entries.get(run) if run else None
        if run is None or entry is None:
            return
        if entry.problem:
            self.query_one(Answer).say(entry.problem, BROKEN)
            return
        self.metarl.open_run(run, replay=entry.over)

    def action_delete(self) -> None:
        if (run := self.table.run) is not None:
            entry = self.table.entries.get(run)
            name = entry.title if entry else run.short_id
            self.query_one(Answer).ask(
                f"Delete {name} and its checkpoints from disk?", lambda: self._delete(run)
            )
            self.show_keys()

    def _delete(self, run: RunFolder) -> None:
        answer = self.query_one(Answer)
        try:
            delete(run)
        except RunError as error:
            answer.say(str(error), BROKEN)
        else:
            answer.say(f"deleted {run.id}", GREY)
        self._list_at = 0.0
        self._awake.set()
