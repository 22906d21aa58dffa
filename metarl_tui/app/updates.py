"""Sending no more than the cells that changed.

Textual sends a changed row from its widget's left edge. Charts change at their right end, so cropping at
both ends sends a few cells instead of most of a row.
"""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from textual._compositor import ChopsUpdate, CompositorUpdate


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
                if (left, right) != (start, end):
                    strip = strip.crop(left - start, right - start)
                parts.append(Control.move_to(left, y).segment.text)
                parts.append(strip.render(console))
        return "".join(parts)
