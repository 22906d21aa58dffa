"""The list of runs: one row a run, of which only those in view are ever drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textual import events
from textual.message import Message

from metarl_tui.app.catalogue import Entry, age, sparkline
from metarl_tui.app.colours import ACCENT, ATTENTION, BAND, BRIGHT, DIM, GREY, TEXT
from metarl_tui.app.moment import STATE_COLOURS, STATE_SIGNS
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, space, width_of
from metarl_tui.runs.folder import RunFolder
from metarl_tui.text import short_number


@dataclass(frozen=True)
class _Column:
    """A column: its title, its widths, and its rank when there is no room for all."""

    title: str
    width: int
    widest: int
    rank: int
    right: bool = False


_COLUMNS = (
    _Column("state", 9, 9, 0),
    _Column("run", 12, 36, 1),
    _Column("trains", 15, 24, 4),
    _Column("iteration", 9, 9, 3, right=True),
    _Column("best", 6, 8, 2, right=True),
    _Column("curve", 12, 24, 5),
    _Column("age", 6, 6, 6, right=True),
    _Column("parent", 12, 12, 7),
)
_MARKS = 4  # columns before the first: the chosen row's mark and the state's sign


class RunList(Rows):
    """Rows of runs with a chosen one. What is not read yet shows its id alone."""

    DEFAULT_CSS = """
    RunList { width: 1fr; height: 1fr; }
    """
    can_focus = True

    class Chosen(Message):
        """Another run is the chosen one, or other rows came into view."""

    class Opened(Message):
        """The chosen run is to be opened."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.runs: Sequence[RunFolder] = ()
        self.entries: dict[RunFolder, Entry] = {}
        self.chosen = 0
        self._top = 0

    @property
    def run(self) -> RunFolder | None:
        """The chosen run."""
        return self.runs[self.chosen] if self.chosen < len(self.runs) else None

    @property
    def in_view(self) -> Sequence[RunFolder]:
        """The runs whose rows are on the screen."""
        return self.runs[self._top : self._top + self._room]

    @property
    def _room(self) -> int:
        return max(self.size.height - 1, 1)

    def show(self, runs: Sequence[RunFolder]) -> None:
        """Show these runs, newest first; the chosen one stays chosen."""
        before = self.run
        self.runs = runs
        if before is not None and self.chosen > 0 and before in runs:
            self.chosen = list(runs).index(before)
        self.move(0)

    def move(self, rows: int) -> None:
        """Choose the run ``rows`` below."""
        self.chosen = min(max(self.chosen + rows, 0), max(len(self.runs) - 1, 0))
        self._top = min(max(self._top, self.chosen - self._room + 1), self.chosen)
        self._top = max(min(self._top, len(self.runs) - self._room), 0)
        self.redraw()
        self.post_message(self.Chosen())

    def page(self, direction: int) -> None:
        """Choose the run a page below or above."""
        self.move(direction * self._room)

    def on_click(self, event: events.Click) -> None:
        row = self._top + event.y - 1
        if event.y < 1 or row >= len(self.runs):
            return
        opens = row == self.chosen
        self.move(row - self.chosen)
        if opens:
            self.post_message(self.Opened())

    def on_mouse_scroll_down(self) -> None:
        self.move(3)

    def on_mouse_scroll_up(self) -> None:
        self.move(-3)

    def rows(self, width: int, height: int) -> list[Row]:
        columns = _columns(width, any(entry.parent for entry in self.entries.values()))
        titles: Row = [space(_MARKS)]
        for column in columns:
            titles += [say(_aligned(column.title, column), DIM), space(2)]
        rows = [_cut(titles, width)]
        for index in range(self._top, min(self._top + height - 1, len(self.runs))):
            rows.append(_cut(self._row(self.runs[index], columns, index == self.chosen, width), width))
        return rows

    def _row(self, folder: RunFolder, columns: Sequence[_Column], chosen: bool, width: int) -> Row:
        mark = say("▌ " if chosen else "  ", ACCENT)
        row: Row
        entry = self.entries.get(folder)
        name = BRIGHT if chosen else TEXT
        if entry is None:
            return [mark, space(2), say(fit("…", 11), DIM), space(2), say(folder.short_id, DIM)]
        if entry.problem:
            row = [mark, say("▲ ", ATTENTION), say(fit("unreadable", 11), ATTENTION), space(2)]
            row += [say(fit(folder.id, 16), name), space(2), say(fit(entry.problem, max(width - 35, 0)), DIM)]
            return row
        colour = STATE_COLOURS.get(entry.state, GREY)
        cells = {
            "state": (entry.state, colour),
            "run": (entry.title, name),
            "trains": (f"{entry.trainer} {entry.subject}", TEXT if chosen else GREY),
            "iteration": (str(entry.iteration), TEXT),
            "best": ("–" if entry.best is None else short_number(entry.best), BRIGHT if chosen else TEXT),
            "curve": (
                sparkline(entry.points, _width(columns, "curve")),
                ACCENT if chosen or not entry.over else BAND,
            ),
            "age": (age(entry.created), DIM),
            "parent": (entry.parent, DIM),
        }
        row = [mark, say(f"{STATE_SIGNS.get(entry.state, '●')} ", colour)]
        for column in columns:
            text, shade = cells[column.title]
            row += [say(_aligned(text, column), shade), space(2)]
        return row


def _columns(width: int, has_forks: bool) -> list[_Column]:
    """The columns that fit, by rank; what room is left widens the name, what is trained and the curve."""
    room = width - _MARKS + 2
    fitting: list[_Column] = []
    for column in sorted(_COLUMNS, key=lambda column: column.rank):
        if column.title == "parent" and not has_forks:
            continue
        if column.width + 2 > room and fitting:
            break
        fitting.append(column)
        room -= column.width + 2
    shown = {column.title: column for column in _COLUMNS if column in fitting}
    for title in ("run", "trains", "curve", "best"):
        if title in shown:
            more = min(max(room, 0), shown[title].widest - shown[title].width)
            shown[title] = replace(shown[title], width=shown[title].width + more)
            room -= more
    return list(shown.values())


def _width(columns: Sequence[_Column], title: str) -> int:
    return next((column.width for column in columns if column.title == title), 0)


def _aligned(text: str, column: _Column) -> str:
    fitted = fit(text, column.width)
    return fitted.rstrip().rjust(column.width) if column.right else fitted


def _cut(row: Row, width: int) -> Row:
    while row and width_of(row) > width:
        last = row.pop()
        rest = width - width_of(row)
        if rest > 0:
            return [*row, type(last)(fit(last.text, rest), last.style)]
    return row
