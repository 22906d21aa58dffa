"""Rows of text: of a row that changed only the cells that differ are painted, and never half a character."""

from __future__ import annotations

import io
from itertools import combinations

import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip

from metarl_tui.app.updates import CellStrip, ChangedRow, CroppedUpdate
from metarl_tui.app.widgets.rows import Row, Rows, say


class Line(Rows):
    """One row that a test changes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.regions: list[Region] = []

    def rows(self, width: int, height: int) -> list[Row]:
        return [[say(self.text)]]

    def refresh(self, *regions: Region, **what: bool) -> Line:
        self.regions += regions
        return super().refresh(*regions, **what)


class Screen(App[None]):
    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line

    def compose(self) -> ComposeResult:
        yield self.line


@pytest.mark.parametrize(
    ("before", "after", "spans"),
    [
        ("iteration 10 of 500", "iteration 12 of 500", [(11, 12)]),
        ("same", "same", []),
        ("longer", "long", [(4, 6)]),
        ("a" + "." * 30 + "b", "c" + "." * 30 + "d", [(0, 1), (31, 32)]),
        ("a" + "." * 3 + "b", "c" + "." * 3 + "d", [(0, 5)]),
        ("x 日 y", "x 本 y", [(2, 4)]),
        ("x 日 y", "x ab y", [(2, 4)]),
        ("e\u0301", "e", [(0, 1)]),
    ],
)
async def test_cells_that_differ_are_painted(before: str, after: str, spans: list[tuple[int, int]]) -> None:
    line = Line(before)
    async with Screen(line).run_test(size=(60, 3)) as pilot:
        await pilot.pause()
        line.regions.clear()
        line.text = after
        line.redraw()
        assert [(region.x, region.right) for region in line.regions] == spans
        assert line.render_line(0).text.rstrip() == after


async def test_the_first_paint_has_the_rows() -> None:
    line = Line("here at once")
    async with Screen(line).run_test(size=(60, 3)) as pilot:
        assert line.render_line(0).text.startswith("here at once")
        line.text = "other"
        await pilot.resize_terminal(30, 3)
        assert line.render_line(0).text == "other".ljust(30)


@pytest.mark.parametrize("texts", [("abc", "defgh", "i"), ("⠤⠤", "─", "⣿⣿⣿"), ("a日", "本c", "de")])
def test_the_changed_part_of_a_row_is_what_textual_makes_of_it(texts: tuple[str, ...]) -> None:
    one_wide = "日" not in "".join(texts)
    strip = (CellStrip if one_wide else Strip)([Segment(text, Style(bold=True)) for text in texts])
    writer = Console(file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for left, right in combinations(range(strip.cell_length + 1), 2):
        sent = CroppedUpdate([ChangedRow(4, 7, strip, [(left + 7, right + 7)])]).render_segments(writer)
        if not one_wide:  # a part might begin or end within a character
            left, right = 0, strip.cell_length
        assert sent == f"\x1b[5;{left + 8}H{strip.crop(left, right).render(writer)}"
