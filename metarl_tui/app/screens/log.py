"""Follows what a run's worker prints."""

from __future__ import annotations

from textual.app import ComposeResult

from metarl_tui.app.colours import ACCENT, BRIGHT, DIM, GREY, TEXT
from metarl_tui.app.commands import Command, bindings
from metarl_tui.app.log_file import LogFile
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.app.widgets.footer import KeysFooter
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, spread
from metarl_tui.runs.folder import RunFolder
from metarl_tui.text import clean


class LogRows(Rows):
    """The lines in view; at the end it follows."""

    DEFAULT_CSS = """
    LogRows { height: 1fr; width: 1fr; }
    """

    def __init__(self, log: LogFile, title: str, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.log_file = log
        self.following = True
        self._title = title
        self._top = 0

    @property
    def room(self) -> int:
        """Lines that fit below the heading."""
        return max(self.size.height - 2, 1)

    @property
    def _last_top(self) -> int:
        return max(len(self._lines()) - self.room, 0)

    def _lines(self) -> list[str]:
        rest = clean(self.log_file.unfinished, 2000)
        return [*self.log_file.lines, *([rest] if rest.strip() else [])]

    def scroll(self, lines: int) -> None:
        """Move by ``lines``; at the end it follows again."""
        top = self._last_top if self.following else self._top
        self._top = min(max(top + lines, 0), self._last_top)
        self.following = self._top >= self._last_top
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        lines = self._lines()
        top = self._last_top if self.following else min(self._top, self._last_top)
        where = "follows" if self.following else f"line {self.log_file.dropped + top + 1} of {len(lines)}"
        left: Row = [
            say("metarl-tui", ACCENT),
            say("  log of ", GREY),
            say(fit(self._title, 30).rstrip(), BRIGHT),
        ]
        rows = [spread(left, [say(where, DIM)], width), []]
        if not lines:
            rows.append([say(self.log_file.trouble or "nothing printed yet", DIM)])
        return rows + [[say(fit(line, width).rstrip(), TEXT)] for line in lines[top : top + self.room]]


class LogScreen(CommandScreen):
    """The worker's log, from its last megabyte on."""

    place = "log"
    CSS_PATH = "log.tcss"
    BINDINGS = bindings("log")

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._log = LogFile(folder.log)
        self._title = folder.title

    def compose(self) -> ComposeResult:
        yield LogRows(self._log, self._title, ascii_only=self.metarl.ascii_only)
        yield KeysFooter(ascii_only=self.metarl.ascii_only)

    def on_mount(self) -> None:
        self._read()
        self.set_interval(max(1 / self.metarl.refresh_rate, 0.2), self._read)
        self.show_keys()

    @property
    def rows(self) -> LogRows:
        return self.query_one(LogRows)

    def _read(self) -> None:
        if self._log.read():
            self.rows.redraw()

    def label(self, command: Command) -> str | None:
        if command.action == "bottom" and self.rows.following:
            return None
        return command.label

    def _scroll(self, lines: int) -> None:
        self.rows.scroll(lines)
        self.show_keys()

    def action_scroll(self, direction: int) -> None:
        self._scroll(direction)

    def action_page(self, direction: int) -> None:
        self._scroll(direction * self.rows.room)

    def action_top(self) -> None:
        self._scroll(-(10**9))

    def action_bottom(self) -> None:
        self._scroll(10**9)

    def action_back(self) -> None:
        self.app.pop_screen()
