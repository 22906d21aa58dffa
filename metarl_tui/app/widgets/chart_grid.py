"""As many charts as the screen has room for, in pages, or one of them filling it."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget

from metarl_tui.app.widgets.chart import SMALLEST_ROOM, Chart
from metarl_tui.tape import Playhead, Tape
from trainers.metrics import METRICS

_NARROWEST_CHART = 28
_USUAL_HEIGHT = 12.5
_THREE_COLUMNS, _TWO_COLUMNS = 160, 100
"""Widths of the whole screen from which there are so many columns of charts."""


class ChartGrid(Widget):
    """Charts of the given metrics, row by row; the last page is full as well, where there are enough."""

    DEFAULT_CSS = """
    ChartGrid { layout: grid; grid-gutter: 0 2; width: 1fr; height: 1fr; }
    """

    class Paged(Message):
        """The page, the selection or the zoom changed."""

    def __init__(self, keys: Sequence[str] = (), *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ascii = ascii
        self._keys = list(keys)
        self._page = 0
        self._selected = 0
        self._zoomed = False
        self._columns, self._rows = 1, 1
        self._tape: Tape | None = None
        self._playhead = Playhead()
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Chart(ascii=self.ascii)

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
        known = {*self._keys, *(bound for row in METRICS.values() for bound in row.band or ())}
        if extra := [key for key in tape.keys if key not in known and not key.startswith("time/")]:
            self._keys.extend(extra)
            self._lay_out()
        state = (id(tape), tape.version, playhead.iteration, playhead.live)
        if state != self._drawn:
            self._drawn = state
            self._draw()

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
        first = self._keys.index(self.shown[0]) if self.shown else 0
        self._columns, self._rows = self._room()
        self._page = (self._selected if self._zoomed else first) // self._per_page
        self._lay_out()

    def on_chart_resized(self) -> None:
        self._draw()

    def on_focus(self) -> None:
        self._lay_out()

    def on_blur(self) -> None:
        self._lay_out()

    def on_click(self, event: events.Click) -> None:
        if isinstance(event.widget, Chart) and event.widget.key in self._keys:
            self._selected = self._keys.index(event.widget.key)
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
        """Give each chart its metric and place, and draw."""
        if not self.is_mounted:
            return
        shown = self.shown
        columns = max(1, min(1 if self._zoomed else self._columns, len(shown)))
        charts = list(self.query_children(Chart))
        if missing := len(shown) - len(charts):
            new = [Chart(ascii=self.ascii) for _ in range(max(missing, 0))]
            self.mount_all(new)
            charts += new
        self.styles.grid_size_columns = columns
        self.styles.grid_size_rows = max(-(-len(shown) // columns), 1)
        for index, chart in enumerate(charts):
            chart.display = index < len(shown)
            if index < len(shown):
                chart.show(shown[index])
                chart.label_room = SMALLEST_ROOM
                chart.shows_iterations = index + columns >= len(shown)
                chart.selected = self.has_focus and shown[index] == self.selected
        self._drawn = ()
        self._draw()
        self.post_message(self.Paged())

    def _draw(self) -> None:
        if self._tape is None:
            return
        charts = [chart for chart in self.query_children(Chart) if chart.display]
        columns = max(1, min(1 if self._zoomed else self._columns, len(charts)))
        for column in range(columns):
            stack = charts[column::columns]
            for chart in stack:
                chart.update(self._tape, self._playhead.iteration, self._playhead.live)
            room = max((chart.label_room for chart in stack), default=0)
            for chart in stack:
                if room > chart.label_room:
                    chart.label_room = room
                    chart.repaint()
