"""The tape: one row from the first to the newest iteration, with the playhead on it."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.message import Message

from metarl_tui.app.widgets import cells
from metarl_tui.app.widgets.cells import Canvas, CellWidget
from metarl_tui.playhead import Playhead
from metarl_tui.tape import Tape


class TapeBar(CellWidget):
    """The diamond is the playhead; to the right: live, held or playing, and the iteration.

    Ticks are changes made by hand (violet), notes and failures (amber), and checkpoints that are the best
    or were asked for (grey).
    """

    DEFAULT_CSS = """
    TapeBar { height: 1; width: 1fr; }
    """

    @dataclass
    class Seek(Message):
        """The tape was clicked at ``iteration``."""

        iteration: int

    def __init__(self, *, ascii: bool = False, status_width: int = 20, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ascii = ascii
        self.status_width = status_width
        """Cells to the right of the tape, for the words; fewer on a narrow screen."""
        self._tape: Tape | None = None
        self._playhead = Playhead()

    def update(self, tape: Tape, playhead: Playhead) -> None:
        """Draw the tape; repaints nothing when nothing changed."""
        self._tape, self._playhead = tape, playhead
        if self.is_mounted:
            self.repaint()

    def paint(self, width: int, height: int) -> Canvas:
        canvas = Canvas(width, height, ascii=self.ascii)
        if self._tape is None or width < 1 or height < 1:
            return canvas
        length = self._length(width)
        past, future, tick, diamond = ("=", "-", "+", "O") if self.ascii else ("━", "━", "┿", "◆")
        if not self._tape.last:
            canvas.write(0, 0, future * length, cells.HAIRLINE)
            return canvas
        head = self._column(self._playhead.iteration, length)
        canvas.write(0, 0, past * head, cells.LINE)
        canvas.write(0, head, future * (length - head), cells.BAND)
        for column, tone in self._ticks(length):
            canvas.write(0, column, tick, tone)
        canvas.write(0, head, diamond, cells.VALUE)
        word, tone = self._words()
        gap = 2 if width >= 60 else 1
        after = canvas.write(0, length + gap, word, tone)
        canvas.write(0, after + gap, str(self._playhead.iteration), cells.FAINT)
        return canvas

    def _length(self, width: int) -> int:
        return max(width - min(self.status_width, width // 2), 1)

    def _column(self, iteration: int, length: int) -> int:
        assert self._tape is not None
        span = max(self._tape.last - self._tape.first, 1)
        return round(min(max((iteration - self._tape.first) / span, 0), 1) * (length - 1))

    def _ticks(self, length: int) -> list[tuple[int, int]]:
        """Columns and tones; where two fall on one cell, the change made by hand is seen."""
        assert self._tape is not None
        ticks = []
        for event in self._tape.events:
            record = event.record
            if event.kind == "checkpoint" and record.get("reason") in ("best", "asked"):
                ticks.append((event.iteration, cells.LABEL))
            elif event.kind == "note" or (event.kind == "status" and record.get("state") == "failed"):
                ticks.append((event.iteration, cells.NOTED))
        ticks.sort(key=lambda tick: tick[1] == cells.NOTED)
        ticks += [(marker.iteration, cells.STEERED) for marker in self._tape.markers]
        return [
            (self._column(iteration, length), tone)
            for iteration, tone in ticks
            if self._tape.first <= iteration <= self._tape.last
        ]

    def _words(self) -> tuple[str, int]:
        playhead = self._playhead
        if playhead.mode == "playing":
            return f"playing ×{playhead.speed:g}", cells.LINE
        if playhead.mode == "live":
            return "live", cells.GOOD
        at_end = self._tape is not None and playhead.iteration >= self._tape.last
        return ("end" if at_end else "held"), cells.TITLE

    def on_click(self, event: events.Click) -> None:
        if self._tape is None or not self._tape.last:
            return
        length = self._length(self.content_size.width)
        if event.x < length:
            span = self._tape.last - self._tape.first
            self.post_message(self.Seek(self._tape.first + round(event.x / max(length - 1, 1) * span)))
