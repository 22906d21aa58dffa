"""One metric over the iterations."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from textual.geometry import Region

from metarl_tui.app.axes import (
    ValueAxis,
    iterations_per_dot,
    logarithmic_axis,
    spans_decades,
    value_axis,
)
from metarl_tui.app.raster import Columns, Points, behind, dot_columns, draw
from metarl_tui.app.widgets import cells
from metarl_tui.app.widgets.cells import Canvas
from metarl_tui.tape import Tape
from metarl_tui.text import clean, short_number
from trainers.metrics import metric

SMALLEST_ROOM = 4
_SMOOTHING = 40
"""The mean line is averaged over this fraction of the width, to either side."""
_LOOKS_KEPT = 4
"""On two pages, zoomed, and chosen on one of them."""


class _Glyphs(NamedTuple):
    left: str
    corner: str
    bottom: str
    steered: str
    playhead: str


_BOX = _Glyphs("│", "╰", "─", "╎", "│")
_ASCII = _Glyphs("|", "+", "-", "!", "|")


class _Span(NamedTuple):
    """Where iterations lie in the plot: ``per_dot`` iterations to a column of dots."""

    first: int
    last: int
    per_dot: float

    def cell(self, iteration: int) -> int:
        return int((iteration - self.first) / self.per_dot) // 2


class Label(NamedTuple):
    """What was changed at a marker's ``column``; ``trains`` tells values that training hangs on."""

    column: int
    texts: tuple[str, ...]
    """The whole of it, then shorter."""
    trains: bool


def labels_placed(labels: list[Label], first: int, end: int) -> list[tuple[int, str]]:
    """Where on the title's row labels stand: each over its marker and over no other one's.

    The newest come first; what training does not hang on only where all that it hangs on has its place.
    """
    placed: list[tuple[int, str]] = []
    # Of markers in one column the newest is labelled, however often something was changed there.
    by_column = {label.column: label for label in sorted(labels, key=lambda label: label.trains)}
    complete = True
    for label in sorted(by_column.values(), key=lambda label: (label.trains, label.column), reverse=True):
        if not (label.trains or complete):
            break
        others = by_column.keys() - {label.column}
        places = (
            (start, text)
            for text in label.texts
            for start in (
                label.column - len(text) // 2,
                label.column,
                label.column - len(text) + 1,
                label.column - len(text) - 1,  # a neighbour's begins at the next column
            )
            if first <= start <= end - len(text)
            and others.isdisjoint(range(start, start + len(text)))
            and all(start > had + len(other) + 1 or start + len(text) + 1 < had for had, other in placed)
        )
        found = next(places, None)
        complete &= found is not None
        placed += [found] if found is not None else []
    return placed


class Chart:
    """A dim band, a bright mean line, the newest value, and a mark wherever a person changed something.

    When the playhead stands back, the value is the one at the playhead, a line marks it, and what comes
    after it is dim. It is no widget but cells at a place of the grid, so that a page of charts is changed
    for another without a layout.
    """

    def __init__(self, key: str, *, ascii: bool = False) -> None:
        self.ascii = ascii
        self.key = key
        self.region = Region()
        """Where it stands in the grid."""
        self.canvas = Canvas(0, 0)
        """What is seen of it: what was drawn last, or last with these looks."""
        self.label_room = SMALLEST_ROOM
        """Cells left of the axis, for the labels; charts above each other share it."""
        self.shows_iterations = True
        """Whether the iterations are written below the plot."""
        self.selected = False
        self._canvases: dict[tuple[object, ...], Canvas] = {}
        """The last one for each of the last few looks, the newest at the end."""
        self._shown: tuple[object, ...] = ()
        """The looks that the canvas is to have."""
        self._tape: Tape | None = None
        self._position = 0
        self._live = True
        self._axis: ValueAxis | None = None

    @property
    def label_width(self) -> int:
        """Cells that the labels of the value axis need, as last drawn."""
        return self._axis.label_width if self._axis is not None else 0

    @property
    def _looks(self) -> tuple[object, ...]:
        return self.region.size, self.label_room, self.shows_iterations, self.selected

    @property
    def was_drawn(self) -> bool:
        """Whether it was drawn with these looks before, though perhaps of an older tape."""
        return self._looks in self._canvases

    def recall(self) -> bool:
        """Show it with these looks as it was last drawn with them, if it was; whether it had others."""
        before, self._shown = self._shown, self._looks
        self.canvas = self._canvases.get(self._shown, self.canvas)
        return before != self._shown

    def draw(self, tape: Tape, position: int, live: bool) -> None:
        """Draw ``tape`` as seen from iteration ``position``."""
        self._tape, self._position, self._live = tape, position, live or position >= tape.last
        self.canvas = self.paint(self.region.width, self.region.height)
        self._shown = self._looks
        self._canvases.pop(self._shown, None)
        self._canvases[self._shown] = self.canvas
        if len(self._canvases) > _LOOKS_KEPT:
            del self._canvases[next(iter(self._canvases))]

    def paint(self, width: int, height: int) -> Canvas:
        """What was last drawn, at this size."""
        canvas = Canvas(width, height, ascii=self.ascii)
        if width < 1 or height < 1:
            return canvas
        left = self.label_room + 1 if width >= 24 else 0
        bottom = height - (1 if height >= 5 else 0) - (1 if self.shows_iterations and height >= 6 else 0)
        cells_wide, rows = width - left, bottom - 1
        tape = self._tape
        if tape is None or rows < 1 or not len(tape.series(self.key)[0]):
            self._axis = None
            self._frame(canvas, left, bottom)
            self._title(canvas, [])
            if rows >= 1:
                canvas.write(1 + rows // 2, left + max((cells_wide - 11) // 2, 0), "no data yet", cells.FAINT)
            return canvas
        dots = cells_wide * 2
        span = _Span(
            tape.first, tape.last, iterations_per_dot(tape.first, tape.last, dots, settled=tape.ended)
        )
        columns = self._columns(tape, span, dots)
        beside = self._beside(tape, span, dots)
        drawn = [one.limits for one in (columns, beside) if one is not None and one.limits]
        limits = (min(low for low, _ in drawn), max(high for _, high in drawn)) if drawn else (0.0, 0.0)
        had = self._axis is not None and self._axis.logarithmic
        if metric(self.key).scale == "log" and spans_decades(*limits, before=had):
            self._axis = logarithmic_axis(*limits, rows, self._axis)
            columns, beside = columns.logarithmic(), beside.logarithmic() if beside is not None else None
        else:
            self._axis = value_axis(*limits, rows, None if had else self._axis)
        if left and self.label_width > self.label_room:
            self.label_room = self.label_width
            return self.paint(width, height)
        after = None if self._live else span.cell(self._position)
        raster = draw(columns, self._axis, dim_after=after, ascii=self.ascii)
        if beside is not None:
            raster = behind(raster, draw(beside, self._axis, ascii=self.ascii), ascii=self.ascii)
        canvas.place(1, left, raster.codes, raster.tones)
        self._marks(canvas, span, left, bottom)
        self._frame(canvas, left, bottom)
        if self.shows_iterations and height >= 6:
            self._iterations(canvas, span, left, bottom + 1)
        return canvas

    def _columns(self, tape: Tape, span: _Span, dots: int) -> Columns:
        band = metric(self.key).band
        return dot_columns(
            Points(*tape.series(self.key)),
            span.first,
            span.per_dot,
            dots,
            low=Points(*tape.series(band[0])) if band else None,
            high=Points(*tape.series(band[1])) if band else None,
            smooth=dots // 2 // _SMOOTHING + 1,
            breaks=[marker.iteration for marker in tape.markers],
        )

    def _beside(self, tape: Tape, span: _Span, dots: int) -> Columns | None:
        """The mean line of the metric that this one is seen against, without a band."""
        key = metric(self.key).beside
        if not key or not len(tape.series(key)[0]):
            return None
        columns = dot_columns(
            Points(*tape.series(key)),
            span.first,
            span.per_dot,
            dots,
            smooth=dots // 2 // _SMOOTHING + 1,
            breaks=[marker.iteration for marker in tape.markers],
        )
        return replace(columns, low=columns.line, high=columns.line, faults=np.zeros(dots))

    @property
    def _glyphs(self) -> _Glyphs:
        return _ASCII if self.ascii else _BOX

    def _frame(self, canvas: Canvas, left: int, bottom: int) -> None:
        """The two hairlines and the labels of the value axis."""
        glyphs = self._glyphs
        if left:
            canvas.codes[1:bottom, left - 1] = ord(glyphs.left)
            canvas.tones[1:bottom, left - 1] = cells.HAIRLINE
            for tick in self._axis.ticks if self._axis is not None else ():
                canvas.write(1 + tick.row, 0, tick.label[:left].rjust(left - 1)[: left - 1], cells.FAINT)
        if bottom < canvas.height:
            corner = glyphs.corner if left else glyphs.bottom
            line = corner + glyphs.bottom * (canvas.width - max(left, 1))
            canvas.write(bottom, max(left - 1, 0), line, cells.HAIRLINE)

    def _marks(self, canvas: Canvas, span: _Span, left: int, bottom: int) -> None:
        """Dashed lines where something was changed, and the playhead's line."""
        assert self._tape is not None
        labels = []
        for marker in self._tape.markers:
            if span.first <= marker.iteration <= span.last:
                column = left + span.cell(marker.iteration)
                canvas.blank_run(column, 1, bottom, self._glyphs.steered, cells.STEERED)
                labels.append(Label(column, marker.labels, marker.trains))
        if not self._live and self._position >= span.first:
            column = left + span.cell(min(self._position, span.last))
            canvas.blank_run(column, 1, bottom, self._glyphs.playhead, cells.LABEL)
        self._title(canvas, labels)

    def _title(self, canvas: Canvas, labels: list[Label]) -> None:
        """The name to the left, the value to the right and between them the labels that fit."""
        described = metric(self.key)
        value = self._tape.value_at(self.key, self._position) if self._tape is not None else None
        shown = "" if value is None else short_number(value)
        start_of_value = canvas.width - len(shown)
        title = clean(described.title, 60)[: max(start_of_value - 1, 0)]
        free = canvas.write(0, 0, title, cells.LINE if self.selected else cells.TITLE)
        if described.unit and canvas.width >= 40 and free + len(described.unit) + 10 < start_of_value:
            free = canvas.write(0, free + 1, described.unit, cells.FAINT)
        tone = cells.FAULT if value is not None and not np.isfinite(value) else cells.VALUE
        canvas.write(0, start_of_value, shown, tone)
        start_of_value = self._title_beside(canvas, free, start_of_value)
        if self.ascii:
            labels = [label._replace(texts=tuple(map(cells.in_ascii, label.texts))) for label in labels]
        for start, text in labels_placed(labels, free + 2, start_of_value - 2):
            canvas.write(0, start, text, cells.STEERED)

    def _title_beside(self, canvas: Canvas, free: int, end: int) -> int:
        """Left of the value the one that it is seen against: ``0.69 → 0.06``. The first column taken."""
        key = metric(self.key).beside
        value = self._tape.value_at(key, self._position) if key and self._tape is not None else None
        if value is None:
            return end
        start = end - len(short_number(value)) - 3
        if start < free + 2:
            return end
        canvas.write(0, canvas.write(0, start, short_number(value), cells.LABEL), " → ", cells.FAINT)
        return start

    def _iterations(self, canvas: Canvas, span: _Span, left: int, row: int) -> None:
        """The first, the middle and the newest iteration, below where they are."""
        newest = str(span.last)
        end = min(left + span.cell(span.last) + 1, canvas.width)
        start = max(end - len(newest), left)
        free = canvas.write(row, left, str(span.first), cells.FAINT)
        if start >= free + 1:
            canvas.write(row, start, newest, cells.FAINT)
        middle = (span.first + span.last) // 2
        place = left + span.cell(middle) - len(str(middle)) // 2
        if place >= free + 2 and place + len(str(middle)) + 2 <= start:
            canvas.write(row, place, str(middle), cells.FAINT)
