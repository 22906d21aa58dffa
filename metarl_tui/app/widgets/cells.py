"""A widget made of cells: what changed is found by comparing arrays, and only those rows are repainted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from metarl_tui.app import colours
from metarl_tui.app.raster import row_text
from metarl_tui.app.updates import CellStrip
from metarl_tui.app.widgets.rows import WORTH_A_JUMP

BLANK, BAND, LINE, FAULT, STEERED, NOTED, HAIRLINE, FAINT, LABEL, TITLE, VALUE, GOOD = range(12)
"""Tones; the first four are the raster's."""

_STYLES = (
    Style(),
    Style(color=colours.BAND),
    Style(color=colours.ACCENT),
    Style(color=colours.BROKEN, bold=True),
    Style(color=colours.STEERED),
    Style(color=colours.ATTENTION),
    Style(color=colours.HAIRLINE),
    Style(color=colours.DIM),
    Style(color=colours.GREY),
    Style(color=colours.TEXT),
    Style(color=colours.BRIGHT),
    Style(color=colours.WELL),
)
_SPACE = ord(" ")
_SPELT = str.maketrans(
    {
        "ε": "eps",
        "α": "alpha",
        "β": "beta",
        "γ": "gamma",
        "λ": "lambda",
        "→": ">",
        "×": "x",
        "…": ".",
        "–": "-",
    }
)


class Canvas:
    """Rows of cells, each a character's code and a tone; with ``ascii`` text is spelt out."""

    def __init__(self, width: int, height: int, *, ascii: bool = False) -> None:
        self.ascii = ascii
        self.codes: npt.NDArray[np.uint32] = np.full((height, width), _SPACE, np.uint32)
        self.tones: npt.NDArray[np.uint8] = np.zeros((height, width), np.uint8)

    @property
    def width(self) -> int:
        return int(self.codes.shape[1])

    @property
    def height(self) -> int:
        return int(self.codes.shape[0])

    def write(self, row: int, column: int, text: str, tone: int) -> int:
        """Write ``text``, cut at the edges, and return the column after it."""
        text = one_wide(in_ascii(text) if self.ascii else text)
        skipped = max(-column, 0)
        shown = text[skipped : max(self.width - column, 0)]
        if 0 <= row < self.height and shown:
            place = slice(column + skipped, column + skipped + len(shown))
            self.codes[row, place] = [ord(character) for character in shown]
            self.tones[row, place] = tone
        return column + len(text)

    def place(self, row: int, column: int, codes: npt.NDArray[Any], tones: npt.NDArray[Any]) -> None:
        """Put a block of cells with its upper left corner at ``row`` and ``column``, cut at the far edges."""
        height, width = max(self.height - row, 0), max(self.width - column, 0)
        codes, tones = codes[:height, :width], tones[:height, :width]
        height, width = codes.shape
        self.codes[row : row + height, column : column + width] = codes
        self.tones[row : row + height, column : column + width] = tones

    def blank_run(self, column: int, top: int, bottom: int, character: str, tone: int) -> None:
        """A vertical line through the blank cells of a column, rows ``top`` to ``bottom`` exclusive."""
        if not 0 <= column < self.width:
            return
        free = self.codes[top:bottom, column] == _SPACE
        self.codes[top:bottom, column][free] = ord(character)
        self.tones[top:bottom, column][free] = tone

    def strips(self, rows: Sequence[int], styles: Sequence[Style | None]) -> list[Strip]:
        """These rows as Textual draws them; blanks take the tone before them, so that runs are few."""
        width = self.width
        if not width:
            return [Strip([], 0) for _ in rows]
        codes = self.codes[rows]
        inked = np.maximum.accumulate(np.where(codes != _SPACE, np.arange(width), 0), axis=1)
        tones = np.take_along_axis(self.tones[rows], inked, axis=1)
        begins = np.ones(tones.shape, np.bool_)
        begins[:, 1:] = tones[:, 1:] != tones[:, :-1]
        text, starts = row_text(codes), np.flatnonzero(begins)
        ends = [*starts[1:].tolist(), len(text)]
        segments = [
            Segment(text[start:end], styles[tone])
            for start, end, tone in zip(starts.tolist(), ends, tones.ravel()[starts].tolist(), strict=True)
        ]
        firsts = [0, *begins.sum(axis=1).cumsum().tolist()]
        return [CellStrip(segments[first:last], width) for first, last in pairwise(firsts)]


@cache
def _on(background: Color) -> tuple[Style, ...]:
    """The tones' styles on a background."""
    below = Style() if background.a == 0 else Style(bgcolor=background.rich_color)
    return tuple(below + style for style in _STYLES)


def in_ascii(text: str) -> str:
    """``text`` with symbols spelt out: ``eps .2>.1``."""
    return text.translate(_SPELT).encode("ascii", "replace").decode()


def one_wide(text: str) -> str:
    """``text`` with every character that is not one cell wide replaced."""
    if cell_len(text) == len(text) and text.isprintable():
        return text
    return "".join(character if cell_len(character) == 1 else "?" for character in text)


class CellWidget(Widget):
    """Draws a :class:`Canvas`; subclasses make it in :meth:`paint` and call :meth:`repaint`."""

    DEFAULT_CSS = """
    CellWidget { height: 1fr; width: 1fr; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._canvas = Canvas(0, 0)
        self._strips: list[Strip | None] = []

    def paint(self, width: int, height: int) -> Canvas:
        """What is to be seen now, at the given size."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Paint, and have the cells that changed redrawn."""
        width, height = self.content_size
        old, new = self._canvas, self.paint(width, height)
        self._canvas = new
        if (old.width, old.height) != (new.width, new.height):
            self._strips = [None] * new.height
            self.refresh()
            return
        changed = (old.codes != new.codes) | (old.tones != new.tones)
        rows, columns = np.nonzero(changed)
        if not len(rows):
            return
        ends = np.flatnonzero((np.diff(rows) != 0) | (np.diff(columns) > WORTH_A_JUMP))
        starts, ends = np.append(0, ends + 1), np.append(ends, len(rows) - 1)
        regions = [
            Region(first, row, last - first + 1, 1)
            for row, first, last in zip(
                rows[starts].tolist(), columns[starts].tolist(), columns[ends].tolist(), strict=True
            )
        ]
        for region in regions:
            self._strips[region.y] = None
        self.refresh(*regions)

    def on_resize(self) -> None:
        self.repaint()
        self.refresh()

    def notify_style_update(self) -> None:
        self._strips = [None] * len(self._strips)
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        # Textual would look for borders, padding and tints, which cells have not, in every row that changed.
        left, right = crop.column_span
        return [strip.crop(left, right) for strip in self._strips_of(crop.line_range)]

    def render_line(self, y: int) -> Strip:
        return self._strips_of([y])[0]

    def _strips_of(self, rows: Sequence[int]) -> list[Strip]:
        """These rows as wide as the widget, which may have a new size before it is painted anew."""
        styles, height = self._tone_styles(), len(self._strips)
        missing = [y for y in rows if y < height and self._strips[y] is None]
        # All at once: NumPy takes as long for many rows as for one.
        for y, strip in zip(missing, self._canvas.strips(missing, styles) if missing else (), strict=True):
            self._strips[y] = strip
        width, blank = self.content_size.width, styles[BLANK]
        made = (self._strips[y] if y < height else None for y in rows)
        return [(strip or Strip([], 0)).adjust_cell_length(width, blank) for strip in made]

    def _tone_styles(self) -> list[Style | None]:
        """The tones' styles on the background, as the terminal takes them."""
        background = self.background_colors[1]
        tones = [Segment(" ", style) for style in _on(background)]
        for line_filter in self.get_line_filters():
            tones = line_filter.apply(tones, background)
        return [tone.style for tone in tones]
