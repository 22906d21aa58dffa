"""The adaptation at the playhead: a picture of it on one held-out task, or loss or return by inner step."""

from __future__ import annotations

import asyncio
import re
from typing import Literal, TypeAlias

import numpy as np

from metarl_tui.app.pictures import Picture, draw_picture, read_picture, rows_wanted
from metarl_tui.app.widgets import cells
from metarl_tui.app.widgets.cells import Canvas, CellWidget
from metarl_tui.tape import Tape
from metarl_tui.text import short_number

View: TypeAlias = Literal["picture", "steps"]

_MEASURED = ("loss", "return")
"""What a trainer measures after every inner step, one or the other."""
_TRAINING, _HELD_OUT = "blue", "cyan"
_INKS = {"38;5;4": cells.BAND, "38;5;6": cells.LINE}
"""Tones for what plotext draws in its blue and cyan."""
_FRAMES = {"┌": " ", "┐": " ", "┘": "─", "└": "╰", "┤": "│", "┬": "─"}
_PLAIN_FRAMES = {"┌": " ", "┐": " ", "┘": "-", "└": "+", "┤": "|", "┬": "-", "│": "|", "─": "-"}
_MOST_STEPS = 1000
_ESCAPE = re.compile(r"\x1b\[([\d;]*)m")


def by_inner_step(tape: Tape, measured: str, iteration: int) -> list[float]:
    """``measured`` after 0, 1, … inner steps as last measured at or before ``iteration``.

    It is ``meta/loss`` or ``meta/return`` for the tasks of training, ``meta_test/…`` for held-out ones; each
    is a mean over tasks.
    """
    means: list[float] = []
    last = -1
    for step in range(_MOST_STEPS):
        iterations, values = tape.series(f"{measured}_step_{step}")
        index = int(np.searchsorted(iterations, iteration, side="right")) - 1
        # With fewer steps than before, those beyond the last are old.
        if index < 0 or (step and int(iterations[index]) != last):
            break
        last = int(iterations[index])
        means.append(float(values[index]))
    return means


class PicturePanel(CellWidget):
    """One of the views that the tape has something for, or none of them."""

    DEFAULT_CSS = """
    PicturePanel { width: 1fr; height: 1fr; }
    """

    def __init__(self, *, ascii: bool = False) -> None:
        super().__init__()
        self.ascii = ascii
        self.views: list[View] = []
        """What there is to see at all."""
        self.view: View | None = "picture"
        """What a person chose to see."""
        self._tape: Tape | None = None
        self._iteration = 0
        self._measured: str | None = None
        self._read: tuple[object, Picture | None] = (None, None)
        self._plotext: Literal["not asked for", "on its way", "here"] = "not asked for"

    def show(self, tape: Tape, iteration: int) -> None:
        """Draw what ``tape`` has at ``iteration``."""
        self._tape, self._iteration = tape, iteration
        views: list[View] = ["picture"] if tape.picture_at(tape.last) else []
        self._measured = next((name for name in _MEASURED if f"meta/{name}_step_0" in tape.keys), None)
        if self._measured:
            views.append("steps")
        self.views = views
        if self.is_mounted and self.display and self.size.height:
            self.repaint()

    @property
    def shown(self) -> View | None:
        """The chosen view, or the first one while there is nothing for it."""
        if self.view is None or not self.views:
            return None
        return self.view if self.view in self.views else self.views[0]

    def turn(self) -> None:
        """To the next view; after the last one to none, and from there to the first."""
        if self.shown is None:
            self.view = "picture"
            return
        following = self.views[self.views.index(self.shown) + 1 :]
        self.view = following[0] if following else None

    def rows_wanted(self, width: int) -> int:
        """Rows for ``width`` columns, title included; 0 when nothing is to be seen."""
        return 1 + rows_wanted(width) if self.shown else 0

    # -- drawing ----------------------------------------------------------------------------------

    def paint(self, width: int, height: int) -> Canvas:
        canvas = Canvas(width, height, ascii=self.ascii)
        if self._tape is None or self.shown is None or width < 8 or height < 4:
            return canvas
        if self.shown == "picture":
            title, (note, inner) = "held-out task", self._picture(width, height - 1)
        else:
            title, note = f"{self._measured} by inner step", ""
            inner = self._by_step(self._tape, width, height - 1)
        end = width - 1
        canvas.write(0, end, "v", cells.FAINT)
        if note:
            end -= len(note) + 2
            canvas.write(0, end, note, cells.LABEL)
        free = canvas.write(0, 0, title, cells.TITLE) + 1
        canvas.write(0, free, ("-" if self.ascii else "─") * max(end - 1 - free, 0), cells.HAIRLINE)
        if isinstance(inner, Canvas):
            canvas.place(1, 0, inner.codes, inner.tones)
        else:
            canvas.write(1, 0, inner, cells.FAINT)
        return canvas

    def _picture(self, width: int, height: int) -> tuple[str, Canvas | str]:
        """What stands at the title's right end, and the picture or why there is none."""
        assert self._tape is not None
        found = self._tape.picture_at(self._iteration)
        if found is None:
            return "", "no picture yet"
        iteration, fields = found
        if fields is not self._read[0]:
            self._read = (fields, read_picture(fields))
        picture = self._read[1]
        if picture is None:
            return f"at {iteration}", "picture can't be drawn"
        steps = f"{picture.steps} step" + "s" * (picture.steps != 1)
        note = f"{steps} at {iteration}"
        return note, draw_picture(picture, width, height, ascii=self.ascii)

    def _by_step(self, tape: Tape, width: int, height: int) -> Canvas | str:
        """The chart, or why there is none."""
        curves = [
            (by_inner_step(tape, f"{group}/{self._measured}", self._iteration), ink, name, tone)
            for group, ink, name, tone in (
                ("meta", _TRAINING, "training", cells.BAND),
                ("meta_test", _HELD_OUT, "held-out", cells.LINE),
            )
        ]
        curves = [curve for curve in curves if curve[0]]
        if not curves:
            return "not measured yet"
        if self._plotext != "here":
            if self._plotext == "not asked for":
                self._plotext = "on its way"
                self.run_worker(self._import_plotext())
            return ""
        from metarl_tui.plots import steps_chart

        canvas = Canvas(width, height, ascii=self.ascii)
        column = 0
        for means, _, name, tone in curves:
            column = canvas.write(0, column, f"{name} {short_number(means[-1])}", tone) + 2
        text = steps_chart(
            [means for means, *_ in curves], width + 1, height, [ink for _, ink, *_ in curves],
            marks=["*"] * len(curves) if self.ascii else None,
        )  # fmt: skip
        # plotext's frame is dropped but for the two axes: its first row and its last column.
        for row, line in enumerate(text.split("\n")[1:], 1):
            _write_plotext(canvas, row, line)
        return canvas if text else "nothing finite"

    async def _import_plotext(self) -> None:
        """In a thread, as it takes a quarter of a second in which keys should be answered."""
        await asyncio.to_thread(__import__, "plotext")
        self._plotext = "here"
        self.repaint()


def _write_plotext(canvas: Canvas, row: int, line: str) -> None:
    """One row of a chart of plotext, in our tones and without escape sequences."""
    column, tone = 0, cells.FAINT
    for index, part in enumerate(_ESCAPE.split(line)):
        if index % 2:
            tone = _INKS.get(part, cells.FAINT)
            continue
        for character in part:
            frame = character in _PLAIN_FRAMES
            shown = (_PLAIN_FRAMES if canvas.ascii else _FRAMES).get(character, character)
            canvas.write(row, column, shown, cells.HAIRLINE if frame else tone)
            column += 1
