"""Thrifty, cropped updates leave the terminal with the same screen as whole ones, also below a panel."""

from __future__ import annotations

import io
from typing import Any

import pyte
from fake_runs import HYPERPARAMETERS, run_records
from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate
from textual.app import App, ComposeResult
from textual.widgets import Static

from metarl_tui.app.updates import CroppedUpdate, ThriftyCompositor
from metarl_tui.app.widgets.chart_grid import ChartGrid
from metarl_tui.app.widgets.tape_bar import TapeBar
from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape
from trainers.hyperparameters import TRAINERS


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
        self.sent = self.whole = 0

    def compose(self) -> ComposeResult:
        yield self.grid
        yield self.bar
        yield Static("over", id="over")

    def on_mount(self) -> None:
        self.screen._compositor = ThriftyCompositor()
        self.screen.refresh(layout=True)

    def _display(self, screen: Any, renderable: Any) -> None:
        if not isinstance(renderable, CompositorUpdate):
            return
        if isinstance(renderable, ChopsUpdate):
            self.whole += len(renderable.render_segments(self.writer))
            renderable = CroppedUpdate(renderable)
            self.sent += len(renderable.render_segments(self.writer))
        self.stream.feed(renderable.render_segments(self.writer))

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
        for move in (head.home, head.toggle, head.end):
            move(tape)
            app.grid.update(tape, head)
            app.bar.update(tape, head)
            await pilot.pause()
            assert app.terminal.display == app.expected()
        assert 0 < app.sent < app.whole
