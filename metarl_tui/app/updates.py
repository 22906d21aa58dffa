"""Rendering and sending no more than the cells that changed.

Textual sends a changed row from its widget's left edge. Charts change at their right end, so cropping at
both ends sends a few cells instead of most of a row. And for any change it renders every row of every
widget: 10 ms for a screen full of charts, of which a key needs one row.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip


class ThriftyCompositor(Compositor):
    """Renders for a partial update only the rows of widgets between the first and last that changed."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: list[Region] = []

    def render_partial_update(self) -> ChopsUpdate | None:
        self._changed = list(self._dirty_regions)
        try:
            return super().render_partial_update()
        finally:
            self._changed = []

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        if not self._changed:
            yield from super()._get_renders(crop)
            return
        for widget, (region, clip) in self.visible_widgets.items():
            seen = region.intersection(clip)
            touched = [changed for changed in self._changed if seen.overlaps(changed)]
            if not touched:
                continue
            top = max(min(changed.y for changed in touched), seen.y)
            rows = min(max(changed.bottom for changed in touched), seen.bottom) - top
            within = Region(seen.x - region.x, top - region.y, seen.width, rows)
            yield Region(region.x, top, region.width, rows), clip, widget.render_lines(within)


class CroppedUpdate(CompositorUpdate):
    """A partial update of the screen, cropped to the regions that were refreshed."""

    def __init__(self, update: ChopsUpdate) -> None:
        self._update = update

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._update.__rich_console__(console, options)

    def render_segments(self, console: Console) -> str:
        """The characters to write to the terminal."""
        parts: list[str] = []
        for y, x1, x2 in self._update.spans:
            ends = self._update.chop_ends[y]
            for end, (start, strip) in zip(ends, self._update.chops[y].items(), strict=False):
                if strip is None or start >= x2 or end <= x1:
                    continue
                left, right = max(start, x1), min(end, x2)
                strip = _cropped(strip, left - start, right - start)
                parts.append(f"\x1b[{y + 1};{left + 1}H{strip.render(console)}")
        return "".join(parts)


def _cropped(strip: Strip, left: int, right: int) -> Strip:
    """``strip.crop``; where every character takes one cell, as in a chart, by their places in the text."""
    if left == 0 and right == strip.cell_length:
        return strip
    whole = strip.text
    if len(whole) != strip.cell_length or any(cell_len(character) != 1 for character in set(whole)):
        return strip.crop(left, right)
    segments, position = [], 0
    for text, style, control in strip:
        seen = text[max(left - position, 0) : max(right - position, 0)]
        if seen:
            segments.append(Segment(seen, style, control))
        position += len(text)
    return Strip(segments, right - left)
