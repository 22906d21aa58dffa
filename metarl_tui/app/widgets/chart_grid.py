"""As many charts as the screen has room for, in pages, or one of them filling it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.timer import Timer

from metarl_tui.app.widgets.cells import Canvas, CellWidget
from metarl_tui.app.widgets.chart import SMALLEST_ROOM, Chart
from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape
from trainers.metrics import METRICS

_NARROWEST_CHART = 28
_GUTTER = 2
_USUAL_HEIGHT = 12.5
_THREE_COLUMNS, _TWO_COLUMNS = 160, 100
"""Widths of the whole screen from which there are so many columns of charts."""
_KEY_SECONDS, _TURN_SECONDS = 0.001, 0.004
_BREATH_SECONDS = 0.012
"""Charts are drawn for so long at a time; then keys are answered and what was drawn is shown. While somebody
waits for a key, charts that can be seen as they were are drawn for less."""


_DRAWN_WITH_OTHERS = frozenset(
    key for row in METRICS.values() for key in (*(row.band or ()), row.beside) if key
)
_ELSEWHERE = re.compile(r"time/|.*/(loss|return)_step_\d+$")
"""Metrics without a chart of their own: the header and the loss by inner step show them."""


class ChartGrid(CellWidget):
    """Charts of the given metrics, row by row; the last page is full as well, where there are enough.

    What is to be drawn waits in a queue that is worked off a few charts at a time, so that a key never
    waits for a whole page of them. A chart that was on the screen before at the same size is seen as it was
    until its turn comes.
    """

    DEFAULT_CSS = """
    ChartGrid { width: 1fr; height: 1fr; }
    """

    class Paged(Message):
        """The page, the selection or the zoom changed."""

    def __init__(self, keys: Sequence[str] = (), *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ascii = ascii
        self.charts: list[Chart] = []
        """The charts on this page, row by row."""
        self._by_key: dict[str, Chart] = {}
        self._keys = list(keys)
        self._page = 0
        self._selected = 0
        self._zoomed = False
        self._columns, self._rows = 1, 1
        self._tape: Tape | None = None
        self._playhead = Playhead()
        self._drawn: tuple[object, ...] = ()
        self._stale: dict[Chart, None] = {}
        """Charts to be drawn, those that have waited longest first."""
        self._turn: Timer | None = None
        self._laid: tuple[object, ...] = ()
        self._rooms: dict[tuple[object, ...], dict[Chart, int]] = {}
        """Room for labels in the layouts that were left."""

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def keys(self) -> list[str]:
        """The metrics that have a chart, in order."""
        return self._keys

    @property
    def page_number(self) -> int:
        """The page shown, counted from 0."""
        return min(self._page, self.pages - 1)

    @property
    def pages(self) -> int:
        return max(-(-len(self._keys) // self._per_page), 1)

    @property
    def zoomed(self) -> bool:
        """Whether one chart fills the grid."""
        return self._zoomed

    @property
    def selected(self) -> str:
        """Key of the selected chart; empty when there is none."""
        return self._keys[self._selected] if self._keys else ""

    @property
    def shown(self) -> list[str]:
        """Keys of the charts on this page."""
        start = max(min(self.page_number * self._per_page, len(self._keys) - self._per_page), 0)
        return self._keys[start : start + self._per_page]

    @property
    def _per_page(self) -> int:
        return 1 if self._zoomed else self._columns * self._rows

    def show(self, keys: Sequence[str]) -> None:
        """Have charts of these metrics, first page first."""
        if list(keys) != self._keys:
            self._keys = list(keys)
            self._page = self._selected = 0
            self._lay_out()

    def update(self, tape: Tape, playhead: Playhead) -> None:
        """Draw the tape as seen from the playhead; metrics that have no chart yet get one at the end."""
        self._tape, self._playhead = tape, playhead
        measured = tape.keys
        known = {*self._keys, *_DRAWN_WITH_OTHERS}
        extra = [key for key in measured if key not in known and not _ELSEWHERE.match(key)]
        # Tasks without classes have a loss and no accuracy.
        never = {
            key
            for key in self._keys
            if key.endswith("/accuracy_post")
            and key not in measured
            and key.replace("accuracy", "loss") in measured
        }
        if extra or never:
            self._keys = [key for key in self._keys if key not in never] + extra
            self._lay_out()
        state = (id(tape), tape.version, playhead.iteration, playhead.live)
        if state != self._drawn:
            self._drawn = state
            self._draw(self.charts)

    def settle(self) -> None:
        """Draw now whatever is still waiting."""
        while self._stale:
            self._draw_next()
        self.repaint()

    def page(self, delta: int) -> None:
        """Turn pages, round and round; the first chart of the new one is selected."""
        self._page = (self.page_number + delta) % self.pages
        if self.shown:
            self._selected = self._keys.index(self.shown[0])
        self._lay_out()

    def select(self, delta: int) -> None:
        """Select another chart and turn to its page."""
        if self._keys:
            self._selected = (self._selected + delta) % len(self._keys)
            if self.selected not in self.shown:
                self._page = self._selected // self._per_page
            self._lay_out()

    def zoom(self) -> None:
        """Let the selected chart fill the grid, or go back to all of them."""
        self._zoomed = not self._zoomed
        self._page = self._selected // self._per_page
        self._lay_out()

    # -- layout -----------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self._rooms.clear()
        first = self._keys.index(self.shown[0]) if self.shown else 0
        self._columns, self._rows = self._room()
        self._page = (self._selected if self._zoomed else first) // self._per_page
        self._lay_out()
        super().on_resize()

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self._lay_out()

    def on_click(self, event: events.Click) -> None:
        for chart in self.charts:
            if chart.region.contains(event.x, event.y):
                self._selected = self._keys.index(chart.key)
                self._lay_out()

    def _room(self) -> tuple[int, int]:
        """Columns and rows of charts for the size of the grid."""
        width, height = self.size
        screen = self.app.size.width
        columns = 3 if screen >= _THREE_COLUMNS else 2 if screen >= _TWO_COLUMNS else 1
        columns = max(1, min(columns, width // _NARROWEST_CHART))
        rows = max(1, round(height / _USUAL_HEIGHT))
        return columns, rows

    def _lay_out(self) -> None:
        """Give each chart its place and its looks, and draw."""
        if not self.is_mounted:
            return
        shown = self.shown
        columns = max(1, min(1 if self._zoomed else self._columns, len(shown)))
        charts = [self._by_key.setdefault(key, Chart(key, ascii=self.ascii)) for key in shown]
        for index, chart in enumerate(charts):
            chart.shows_iterations = index + columns >= len(shown)
            chart.selected = self.has_focus and chart.key == self.selected
        if moved := self._laid != (laid := (columns, tuple(shown), self.size)):
            self._rooms[self._laid] = {chart: chart.label_room for chart in self.charts}
            self._laid = laid
            self._place(charts, columns)
        changed = [chart for chart in charts if chart.recall() or moved]
        waiting = [*changed, *(chart for chart in self._stale if chart in charts)]
        unseen = [chart for chart in waiting if not chart.was_drawn]
        self._stale = dict.fromkeys([*unseen, *waiting])
        self.charts = charts
        if self._turn is not None:
            self._turn.stop()  # somebody pressed a key, and is not to wait for what a refresh has left over
        self._draw_some(_KEY_SECONDS)
        self.post_message(self.Paged())

    def _place(self, charts: Sequence[Chart], columns: int) -> None:
        """Give each chart its place, with room for labels as it had there before: they are not to move."""
        rows = max(-(-len(charts) // columns), 1)
        rooms = self._rooms.get(self._laid, {})
        for index, chart in enumerate(charts):
            row, column = divmod(index, columns)
            left, width = _share(self.size.width, columns, column, _GUTTER)
            top, height = _share(self.size.height, rows, row)
            chart.region = Region(left, top, width, height)
            chart.label_room = rooms.get(chart, SMALLEST_ROOM)

    # -- drawing ----------------------------------------------------------------------------------

    def _draw(self, charts: Sequence[Chart]) -> None:
        """Have these charts drawn: the first ones now, the others between keys."""
        self._stale.update(dict.fromkeys(charts))
        if self._turn is None:
            self._draw_some()

    def _draw_some(self, seconds: float = _TURN_SECONDS) -> None:
        """Draw for ``seconds``, and what can't be seen before that for a whole turn."""
        self._turn = None
        if self._tape is None:
            self._stale.clear()
        began = time.perf_counter()
        while self._stale:
            can_wait = next(iter(self._stale)).was_drawn
            if time.perf_counter() - began >= (seconds if can_wait else _TURN_SECONDS):
                break
            self._draw_next()
        if self._stale:
            self._turn = self.set_timer(_BREATH_SECONDS, self._draw_some)
        self.repaint()

    def _draw_next(self) -> None:
        chart = next(iter(self._stale))
        del self._stale[chart]
        if self._tape is not None:
            chart.draw(self._tape, self._playhead.iteration, self._playhead.live)
            self._stale.update(dict.fromkeys(self._too_narrow()))

    def paint(self, width: int, height: int) -> Canvas:
        canvas = Canvas(width, height, ascii=self.ascii)
        for chart in self.charts:
            left, top, *size = chart.region
            if size == [chart.canvas.width, chart.canvas.height]:
                # Textual gives the grid a new size before it tells it so: the charts lie as in the old one.
                canvas.place(top, left, chart.canvas.codes, chart.canvas.tones)
        return canvas

    def _too_narrow(self) -> list[Chart]:
        """Charts that were given as much room for labels as one above or below them has."""
        widened = []
        for left in {chart.region.x for chart in self.charts}:
            stack = [chart for chart in self.charts if chart.region.x == left]
            room = max(chart.label_room for chart in stack)
            narrow = [chart for chart in stack if chart.label_room < room]
            for chart in narrow:
                chart.label_room = room
            widened += narrow
        return widened


def _share(whole: int, parts: int, index: int, gutter: int = 0) -> tuple[int, int]:
    """Where part ``index`` of ``whole`` cells starts, and how many it has; ``gutter`` cells lie between."""
    start, end = ((whole + gutter) * one // parts for one in (index, index + 1))
    return start, max(end - gutter - start, 0)
