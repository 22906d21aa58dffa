"""How long charts take and what they send to a terminal: ``python tests/benchmarks/charts.py [256]``."""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from textual._compositor import CompositorUpdate
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "app")]

from fake_runs import HYPERPARAMETERS, run_records  # noqa: E402

from metarl_tui.app.axes import iterations_per_dot, value_axis  # noqa: E402
from metarl_tui.app.raster import Points, dot_columns, draw  # noqa: E402
from metarl_tui.app.updates import ThriftyCompositor  # noqa: E402
from metarl_tui.app.widgets.chart_grid import ChartGrid  # noqa: E402
from metarl_tui.app.widgets.tape_bar import TapeBar  # noqa: E402
from metarl_tui.playhead import Playhead  # noqa: E402
from metarl_tui.tape import Tape  # noqa: E402
from trainers.hyperparameters import TRAINERS  # noqa: E402


def milliseconds(work: Callable[[], object], times: int = 50) -> float:
    """Median duration of ``work``."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def raster(points: int, width: int, height: int) -> float:
    """Milliseconds to turn ``points`` noisy values into width × height cells."""
    iterations = np.arange(1, points + 1, dtype=np.int32)
    data = Points(iterations, np.random.default_rng(1).normal(size=points))
    per_dot = iterations_per_dot(1, points, 2 * width)

    def work() -> None:
        columns = dot_columns(data, 1, per_dot, 2 * width, smooth=2)
        draw(columns, value_axis(*(columns.limits or (0, 1)), height))

    return milliseconds(work)


class Screen(App[None]):
    """Six charts and the tape; counts what a terminal would be sent."""

    CSS = (
        "Screen { background: #101418; } #side { width: 36; } #tape { height: 1; } ChartGrid { height: 48; }"
    )

    def __init__(self, colours: Any) -> None:
        super().__init__()
        self.terminal = Console(file=io.StringIO(), color_system=colours, force_terminal=True)
        self.sent = 0

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield ChartGrid(TRAINERS["ppo"].charts[:6])
            yield Static("", id="side")
        with Horizontal(id="tape"):
            yield TapeBar()

    def on_mount(self) -> None:
        self.screen._compositor = ThriftyCompositor()
        self.screen.refresh(layout=True)

    def _display(self, screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            self.sent += len(renderable.render_segments(self.terminal).encode())


async def follow(iterations: int, per_second: int, colours: str, refreshes: int = 50, hertz: int = 5) -> str:
    """Six charts following a run of ``iterations`` that goes on at ``per_second``."""
    step = max(per_second // hertz, 1)
    records = run_records(iterations + refreshes * step, steered_at=iterations // 2)
    tape, playhead = Tape(HYPERPARAMETERS), Playhead()
    start = next(
        index
        for index, row in enumerate(records)
        if row["kind"] == "metrics" and row["iteration"] > iterations
    )
    tape.extend(records[:start])
    screen = Screen(colours)
    updates, paints, sent = [], [], []
    async with screen.run_test(size=(200, 60)) as pilot:
        grid, bar = screen.query_one(ChartGrid), screen.query_one(TapeBar)
        ChartGrid.update(grid, tape, playhead)
        grid._keys = grid._keys[:6]
        grid._lay_out()
        await pilot.pause()
        grid.settle()
        bar.update(tape, playhead)
        await pilot.pause()
        for refresh in range(refreshes):
            tape.extend(records[start + refresh * step : start + (refresh + 1) * step])
            playhead.advance(1 / hertz, tape)
            before = time.perf_counter()
            grid.update(tape, playhead)
            bar.update(tape, playhead)
            updates.append(time.perf_counter() - before)
            was = screen.sent
            await pilot.pause()
            paints.append(time.perf_counter() - before)
            sent.append(screen.sent - was)
        was = screen.sent
        grid.update(tape, playhead)
        bar.update(tape, playhead)
        await pilot.pause()
        still = screen.sent - was
    return (
        f"{iterations:>9,} {per_second:>6} {colours:>10} {statistics.median(updates) * 1e3:>9.1f}"
        f" {max(updates) * 1e3:>7.1f} {statistics.median(paints) * 1e3:>8.1f}"
        f" {statistics.mean(sent) * hertz / 1024:>9.1f} {max(sent) / 1024:>9.1f} {still:>6}"
    )


def main() -> None:
    print("points  cells   ms")
    for points, width, height in (
        (1_000, 50, 12),
        (100_000, 50, 12),
        (100_000, 100, 25),
        (1_000_000, 50, 12),
    ):
        print(f"{points:>9,} {width}×{height} {raster(points, width, height):.2f}")
    colours = sys.argv[1] if len(sys.argv) > 1 else "truecolor"
    print("\nsix charts and the tape, 200×60, 5 refreshes a second")
    print("iteration  per s    colours  update ms    max  +paint ms     KiB/s  max KiB  still B")
    for iterations, per_second in ((200, 30), (2_000, 30), (20_000, 30), (100_000, 30)):
        print(asyncio.run(follow(iterations, per_second, colours)), flush=True)


if __name__ == "__main__":
    main()
