"""Thrifty updates leave the terminal with the same screen as Textual's own, also below a panel."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyte
import pytest
from fake_runs import HYPERPARAMETERS, run_records
from rich.console import Console
from textual._compositor import Compositor, CompositorUpdate
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.widget import Widget
from textual.widgets import Static

from metarl_tui.app.updates import ThriftyCompositor
from metarl_tui.app.widgets.cells import CellWidget
from metarl_tui.app.widgets.chart_grid import ChartGrid
from metarl_tui.app.widgets.tape_bar import TapeBar
from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape
from trainers.hyperparameters import TRAINERS


class Measured(ThriftyCompositor):
    """Tells what Textual's own partial updates would have sent."""

    def __init__(self, writer: Console) -> None:
        super().__init__()
        self.writer = writer
        self.whole = 0

    def render_partial_update(self) -> Any:
        regions = self._dirty_regions.copy()
        if update := Compositor.render_partial_update(self):
            self.whole += len(update.render_segments(self.writer))
        self._dirty_regions = regions
        return super().render_partial_update()


class Screen(App[None]):
    """Charts and tape, written to a terminal that remembers what it shows."""

    CSS = """
    Screen { layers: below above; }
    TapeBar { dock: bottom; }
    #over { layer: above; dock: right; width: 17; height: 9; offset: -5 3; background: red; }
    """

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.grid, self.bar = ChartGrid(TRAINERS["ppo"].charts), TapeBar()
        self.writer = Console(file=io.StringIO(), color_system="truecolor", force_terminal=True)
        self.terminal = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.terminal)
        self.sent = 0

    def compose(self) -> ComposeResult:
        yield self.grid
        yield self.bar
        yield Static("over", id="over")

    def on_mount(self) -> None:
        self.screen._compositor = self.compositor = Measured(self.writer)
        self.screen.refresh(layout=True)

    def _display(self, screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            text = renderable.render_segments(self.writer)
            self.sent += len(text)
            self.stream.feed(text)

    def expected(self) -> list[str]:
        return [strip.text for strip in self.screen._compositor.render_strips()]


async def test_the_terminal_shows_what_the_screen_holds() -> None:
    records = run_records(230, steered_at=205, nan_at=(215,))
    tape, head = Tape(HYPERPARAMETERS), Playhead()
    tape.extend(records[:200])
    app = Screen(120, 30)
    async with app.run_test(size=(120, 30)) as pilot:
        for start in range(200, len(records), 3):
            tape.extend(records[start : start + 3])
            head.advance(0.1, tape)
            app.grid.update(tape, head)
            app.bar.update(tape, head)
            await pilot.pause()
            assert app.terminal.display == app.expected()
        for turn in (app.grid.zoom, app.grid.zoom, lambda: app.grid.page(1), lambda: app.grid.page(-1)):
            turn()
            await pilot.pause()
            app.grid.settle()
            await pilot.pause()
            assert app.terminal.display == app.expected()
        for move in (head.home, head.toggle, head.end):
            move(tape)
            app.grid.update(tape, head)
            app.bar.update(tape, head)
            await pilot.pause()
            assert app.terminal.display == app.expected()
        assert 0 < app.sent < app.compositor.whole


async def test_only_what_is_seen_of_what_changed_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    tape, head = Tape(HYPERPARAMETERS), Playhead()
    tape.extend(run_records(200))
    app = Screen(120, 30)
    async with app.run_test(size=(120, 30)) as pilot:
        head.advance(0.1, tape)
        app.grid.update(tape, head)
        await pilot.pause()
        app.screen._compositor = ThriftyCompositor()
        app.screen.refresh(layout=True)
        await pilot.pause()
        rendered: list[tuple[str, Region]] = []
        for kind in (Widget, CellWidget):
            monkeypatch.setattr(kind, "render_lines", recording(kind.render_lines, rendered))
        app.grid.refresh(Region(2, 5, 30, 1), Region(4, 8, 6, 1))
        await pilot.pause()
        assert rendered == [("ChartGrid", Region(0, 5, 120, 4))]
        rendered.clear()
        left = app.query_one("#over").region.x
        app.grid.refresh(Region(left - 3, 5, 10, 1))
        await pilot.pause()
        assert [name for name, _ in rendered] == ["Static", "ChartGrid"]
        rendered.clear()
        app.grid.refresh(Region(left, 5, 10, 1))
        await pilot.pause()
        assert [name for name, _ in rendered] == ["Static"]


def recording(render: Callable[[Any, Region], Any], into: list[tuple[str, Region]]) -> Callable[..., Any]:
    def render_lines(self: Widget, crop: Region) -> Any:
        into.append((type(self).__name__, crop))
        return render(self, crop)

    return render_lines
