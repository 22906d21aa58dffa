"""The base of the plain widgets: rows of styled text, of which only the changed cells are repainted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from metarl_tui.app.colours import DIM, HAIRLINE, TEXT
from metarl_tui.text import clean

Row: TypeAlias = list[Segment]

WORTH_A_JUMP = 16
"""Unchanged cells that cost more to send again than a movement of the cursor and a new style."""

# One column for one column, so that nothing moves.
_PLAIN = str.maketrans(
    "●○◐◆◇▲▌▍━─│┃╌→←↑↓↘◀▶⋯…·×αβγελ≥≤⏸▁▂▃▄▅▆▇█–—",
    "*o*##!||=-|:-><^v\\<>~..xabgel><|__.-=+*#--",
)


@cache
def style(colour: str, bold: bool = False, reverse: bool = False) -> Style:
    """A style by colour."""
    return Style(color=colour, bold=bold or None, reverse=reverse or None)


def say(text: object, colour: str = TEXT, *, bold: bool = False, reverse: bool = False) -> Segment:
    """Cleaned text in a colour."""
    return Segment(clean(text), style(colour, bold, reverse))


def space(width: int) -> Segment:
    """``width`` blank columns."""
    return Segment(" " * max(width, 0), style(TEXT))


def width_of(row: Sequence[Segment]) -> int:
    """Columns that a row takes."""
    return sum(cell_len(segment.text) for segment in row)


def fit(text: str, width: int) -> str:
    """``text`` in exactly ``width`` columns, shortened with ``…`` if it is longer."""
    text = clean(text)
    if cell_len(text) <= width:
        return set_cell_size(text, max(width, 0))
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def wrapped(text: str, width: int, most: int) -> list[str]:
    """``text`` broken at spaces into at most ``most`` lines of ``width`` columns; the last one is cut."""
    lines: list[list[str]] = [[]]
    used = 0
    for word in clean(text).split():
        if lines[-1] and used + 1 + cell_len(word) > width and len(lines) < most:
            lines.append([])
        used = cell_len(word) + (used + 1 if lines[-1] else 0)
        lines[-1].append(word)
    return [fit(" ".join(words), width).rstrip() for words in lines]


def spread(left: Row, right: Row, width: int) -> Row:
    """``left`` and ``right`` at the two ends of ``width`` columns; the left one gives way."""
    room = width - width_of(right)
    if width_of(left) > room - 1:
        left = list(Strip(left).crop(0, max(room - 1, 0)))
    return [*left, space(room - width_of(left)), *right]


def title(text: str, width: int, right: Row | None = None) -> Row:
    """A panel's title, a hairline, and what stands at its right end."""
    right = right or []
    line = width - cell_len(text) - 1 - (width_of(right) + 1 if right else 0)
    return [
        say(text, TEXT),
        Segment(" "),
        say("─" * max(line, 0), HAIRLINE),
        *([Segment(" "), *right] if right else []),
    ]


def keys(pairs: Sequence[tuple[str, str]], colour: str) -> Row:
    """Keys and what they do: ``p pause  e steer``."""
    row: Row = []
    for key, label in pairs:
        row += [say(key, colour), say(f" {label}  ", DIM)]
    return row


class Rows(Widget):
    """A widget that is a list of rows. Subclasses give :meth:`rows`; :meth:`redraw` repaints what differs."""

    can_focus = False

    def __init__(
        self, *, ascii_only: bool = False, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.ascii_only = ascii_only
        self._rows: list[Row] = []
        self._made_for = Size()
        """The size that the rows were made for."""

    def rows(self, width: int, height: int) -> list[Row]:
        """What to show in ``width`` × ``height`` columns and lines."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Compute the rows again and repaint those that changed."""
        width, height = self.size
        if not (width and height):
            return
        before, made_for = self._rows, self._made_for
        self._make()
        if made_for != self._made_for:
            self.refresh()
            return
        for y, (new, old) in enumerate(zip(self._rows, before, strict=True)):
            if new != old:
                self.refresh(*(Region(x, y, end - x, 1) for x, end in _changed(new, old)))

    def _make(self) -> None:
        """Compute the rows for the size that the widget has now."""
        self._made_for = self.size
        width, height = self.size
        rows = [self._drawable(row) for row in self.rows(width, height)[:height]]
        self._rows = rows + [[] for _ in range(height - len(rows))]

    def _drawable(self, row: Row) -> Row:
        if not self.ascii_only:
            return row
        return [
            Segment(segment.text.translate(_PLAIN).encode("ascii", "replace").decode(), segment.style)
            for segment in row
        ]

    def on_resize(self) -> None:
        self.redraw()

    def render_line(self, y: int) -> Strip:
        if self._made_for != self.size:
            self._make()  # the paint that comes with a new size is not to show the rows of the old one
        row = self._rows[y] if y < len(self._rows) else []
        return Strip(row).adjust_cell_length(self.size.width).apply_style(self.rich_style)


def _changed(new: Row, old: Row) -> list[tuple[int, int]]:
    """From which column to which the two rows differ."""
    spans: list[tuple[int, int]] = []
    for x, (one, other) in enumerate(zip_longest(_cells(new), _cells(old))):
        if one != other:
            near = spans and x - spans[-1][1] <= WORTH_A_JUMP
            spans = [*spans[:-1], (spans[-1][0], x + 1)] if near else [*spans, (x, x + 1)]
    return spans


def _cells(row: Row) -> list[tuple[str, Style | None, int]]:
    """Text, style and column within the character of each cell; no width: part of the one before."""
    cells: list[tuple[str, Style | None, int]] = []
    for text, style, _ in row:
        for character in text:
            width = 1 if character.isascii() else cell_len(character)
            if not width and cells:
                before, style_before, column = cells[-1]
                cells[-1] = before + character, style_before, column
            cells += [(character, style, column) for column in range(width)]
    return cells
