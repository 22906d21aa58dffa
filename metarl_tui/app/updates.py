"""Rendering and sending no more than the cells that changed.

For any change Textual renders every row of every widget, also of those that lie behind others, cuts them at
all edges, and sends a changed row from its widget's left edge. A key or a refresh changes a few cells of some
rows: here the widgets that are seen there render those rows, and those cells are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderResult
from textual._compositor import Compositor, CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip


class CellStrip(Strip):
    """A strip whose every character takes one cell, as in a chart: places in its text are columns."""

    __slots__ = ()


class ChangedRow(NamedTuple):
    """What changed in a row of a widget that starts at column ``x``; ``spans`` are columns of the screen."""

    y: int
    x: int
    strip: Strip
    spans: list[tuple[int, int]]


class ThriftyCompositor(Compositor):
    """Renders for a partial update only what is seen of what changed."""

    def render_partial_update(self) -> Any:  # Textual says which kind of update, but takes any
        wanted: dict[int, list[tuple[int, int]]] = {}
        """Columns of each row that no widget has been found for yet."""
        for y, start, end in self._regions_to_spans(self._dirty_regions):
            wanted.setdefault(y, []).append((start, end))
        self._dirty_regions.clear()
        rows: list[ChangedRow] = []
        for widget, (region, clip) in self.visible_widgets.items():  # those in front first
            if not wanted:
                break
            seen = region.intersection(clip)
            left, right = seen.column_span
            touched = [
                y
                for y in seen.line_range
                if y in wanted and any(start < right and end > left for start, end in wanted[y])
            ]
            if not touched:
                continue
            top = touched[0]
            crop = Region(left - region.x, top - region.y, seen.width, touched[-1] + 1 - top)
            strips = widget.render_lines(crop)
            for y in touched:
                strip = strips[y - top]
                spans, rest = _parted(wanted.pop(y), left, min(right, left + strip.cell_length))
                rows.append(ChangedRow(y, left, strip, spans))
                if rest:
                    wanted[y] = rest
        return CroppedUpdate(rows) if rows else None


def _parted(
    spans: Sequence[tuple[int, int]], left: int, right: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What of ``spans`` lies between ``left`` and ``right``, and what does not."""
    inside, outside = [], []
    for start, end in spans:
        if start < right and end > left:
            inside.append((max(start, left), min(end, right)))
        outside += [
            (first, last)
            for first, last in ((start, min(end, left)), (max(start, right), end))
            if first < last
        ]
    return inside, outside


class CroppedUpdate(CompositorUpdate):
    """Parts of rows for the terminal."""

    def __init__(self, rows: Sequence[ChangedRow]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for _, x, strip, spans in self._rows:
            for start, end in spans:
                yield from strip.crop(start - x, end - x)

    def render_segments(self, console: Console) -> str:
        """The characters to write to the terminal."""
        return "".join([_sent(row, console) for row in self._rows])


def _sent(row: ChangedRow, console: Console) -> str:
    """The changed cells of a row, each stretch behind a movement of the cursor."""
    y, x, strip, spans = row
    colours = console._color_system or ColorSystem.TRUECOLOR
    if not isinstance(strip, CellStrip) and len(strip.text) != strip.cell_length:
        spans = [(x, x + strip.cell_length)]  # a part might begin or end within a character
    parts: list[str] = []
    for start, end in spans:
        parts.append(f"\x1b[{y + 1};{start + 1}H")
        left, right = start - x, end - x
        if not isinstance(strip, CellStrip) or (left == 0 and right == strip.cell_length):
            parts.append(strip.crop(left, right).render(console))
            continue
        position = 0
        for text, style, _ in strip:
            if position >= right:
                break
            seen = text[max(left - position, 0) : right - position]
            position += len(text)
            if position > left:
                parts.append(seen if style is None else Strip.render_style(style, seen, colours))
    return "".join(parts)
