"""Pictures of an adaptation drawn as cells, as the trainers write them to the journal.

They come from outside: whatever is not a picture in every field and size is refused by :func:`read_picture`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metarl_tui.app.episode_pictures import Paths, Poles, draw_paths, draw_poles, read_paths, read_poles
from metarl_tui.app.picture_fields import LARGEST, MOST_POINTS, digits, finite, items, numbers, require, whole
from metarl_tui.app.raster import braille
from metarl_tui.app.widgets import cells
from metarl_tui.app.widgets.cells import Canvas
from metarl_tui.text import short_number

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_MOST_CELLS, _MOST_GLYPHS, _LARGEST_SIDE = 96, 5, 64
_GAP = 2
_MARKS, _ASCII_MARKS = "○●", "ox"


@dataclass(frozen=True)
class Regions:
    """Probabilities of class 1, or with more than two classes the classes, over a part of the plane."""

    limits: tuple[float, float, float, float]
    """Left, right, bottom, top."""
    before: Floats
    after: Floats
    support: tuple[tuple[float, float, int], ...]

    @property
    def two_classes(self) -> bool:
        return all(label < 2 for _, _, label in self.support)


@dataclass(frozen=True)
class Curve:
    """A function, points on it and what was learned of it; NaN where the network gave no number."""

    x: Floats
    true: Floats
    before: Floats
    after: Floats
    support: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Glyphs:
    """One image of each class, and queries with their true and predicted classes."""

    support: tuple[Bools, ...]
    query: tuple[Bools, ...]
    classes: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """A checked picture: what is drawn, the adaptation's steps and the query losses before and after.

    Of episodes there are no losses.
    """

    content: Regions | Curve | Glyphs | Paths | Poles
    steps: int
    loss: tuple[float, ...] = ()


# -- reading ------------------------------------------------------------------------------------------


def read_picture(fields: object) -> Picture | None:
    """The picture that a journal record carries, or ``None`` when it is none."""
    try:
        return _read(fields)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None


def _read(fields: Any) -> Picture:
    content: Regions | Curve | Glyphs
    steps = whole(fields["steps"], 100_000)
    match fields["type"]:
        case "regions":
            content = _read_regions(fields)
        case "curve":
            content = _read_curve(fields)
        case "glyphs":
            content = _read_glyphs(fields)
        case "paths":
            return Picture(read_paths(fields), steps)
        case "poles":
            return Picture(read_poles(fields), steps)
        case _:
            raise ValueError
    return Picture(content, steps, tuple(numbers(fields["loss"], 2)))


def _read_regions(fields: Any) -> Regions:
    left, right, bottom, top = (*finite(fields["x"], 2), *finite(fields["y"], 2))
    require(left < right and bottom < top)
    before, after = _grid(fields["before"]), _grid(fields["after"])
    require(before.shape == after.shape)
    support = []
    for point in items(fields["support"], MOST_POINTS):
        x, y = finite(items(point, 3)[:2], 2)
        support.append((x, y, whole(point[2], 15)))
    return Regions((left, right, bottom, top), before, after, tuple(support))


def _grid(rows: object) -> Floats:
    """Rows of hexadecimal digits, all of one length, as numbers."""
    lines = [digits(row) for row in items(rows, _MOST_CELLS)]
    require(len(lines) > 0 and 0 < len(lines[0]) <= _MOST_CELLS)
    return np.array(lines, np.float64)  # Rows of other lengths are refused here.


def _read_curve(fields: Any) -> Curve:
    x = np.array(finite(fields["x"], None))
    require(len(x) >= 2)
    order = np.argsort(x, kind="stable")
    true, before, after = (
        np.array(numbers(fields[name], len(x)))[order] for name in ("true", "before", "after")
    )
    support = [finite(point, 2) for point in items(fields["support"], MOST_POINTS)]
    require(bool(np.isfinite(true).any() and x.max() > x.min()))
    return Curve(x[order], true, before, after, tuple((at, y) for at, y in support))


def _read_glyphs(fields: Any) -> Glyphs:
    side = whole(fields["side"], _LARGEST_SIDE)
    require(side >= 1 and side * side % 4 == 0)
    support, query = (
        tuple(_bitmap(text, side) for text in items(fields[name], 100)[:_MOST_GLYPHS])
        for name in ("support", "query")
    )
    require(len(support) > 0)
    classes, before, after = (
        tuple(whole(label, 9999) for label in items(fields[name], 100)[: len(query)])
        for name in ("classes", "before", "after")
    )
    require(len(classes) == len(before) == len(after) == len(query))
    return Glyphs(support, query, classes, before, after)


def _bitmap(text: object, side: int) -> Bools:
    nibbles = np.array(digits(text), np.uint8)
    require(len(nibbles) * 4 == side * side)
    return (nibbles[:, None] >> np.array([3, 2, 1, 0], np.uint8) & 1).astype(bool).reshape(side, side)


# -- drawing ------------------------------------------------------------------------------------------


def rows_wanted(width: int) -> int:
    """Rows that a picture of ``width`` columns needs to keep its proportions, its caption included."""
    return 1 + max((width - _GAP) // 4, 3)


def draw_picture(picture: Picture, width: int, height: int, *, ascii: bool = False) -> Canvas:
    """``picture`` in at most ``width`` × ``height`` cells; a caption stands above it."""
    canvas = Canvas(width, height, ascii=ascii)
    if width < 8 or height < 3:
        return canvas
    match picture.content:
        case Regions() as regions:
            _draw_regions(canvas, regions, picture.loss)
        case Curve() as curve:
            _draw_curve(canvas, curve, picture.loss)
        case Glyphs() as glyphs:
            _draw_glyphs(canvas, glyphs, picture.loss)
        case Paths() as paths:
            draw_paths(canvas, paths)
        case Poles() as poles:
            draw_poles(canvas, poles)
    return canvas


def _draw_regions(canvas: Canvas, regions: Regions, losses: Sequence[float]) -> None:
    width = (canvas.width - _GAP) // 2
    height = min(canvas.height - 1, max(width // 2, 1))
    sides = zip(("before", "after"), (regions.before, regions.after), losses, strict=True)
    for index, (name, grid, loss) in enumerate(sides):
        left = index * (width + _GAP)
        free = canvas.write(0, left, name, cells.LABEL) + 1
        said = short_number(loss)
        if free + len(f"loss {said}") <= left + width:
            free = canvas.write(0, free, "loss ", cells.FAINT)
        canvas.write(0, free, said, cells.LABEL)
        _draw_field(canvas, grid, regions.two_classes, left, width, height)
        _draw_support(canvas, regions, left, width, height)


def _draw_field(canvas: Canvas, grid: Floats, two_classes: bool, left: int, width: int, height: int) -> None:
    """Class 1 in the band's tone and class 0 in the hairlines'; of more classes only the borders."""
    if two_classes:
        dots = _resized(grid, 4 * height, 2 * width) > 7.5
    else:
        down, across = (
            np.arange(count) * length // count
            for count, length in zip((4 * height, 2 * width), grid.shape, strict=True)
        )
        nearest = grid[np.ix_(down, across)]
        dots = np.zeros(nearest.shape, bool)
        dots[:, 1:] |= nearest[:, 1:] != nearest[:, :-1]
        dots[1:] |= nearest[1:] != nearest[:-1]
    codes = braille(dots, ascii=canvas.ascii)
    tones = np.full(codes.shape, cells.BAND, np.uint8)
    empty = codes == ord(" ")
    codes[empty], tones[empty] = ord("." if canvas.ascii else "⠄"), cells.HAIRLINE
    canvas.place(1, left, codes, tones)


def _resized(grid: Floats, height: int, width: int) -> Floats:
    """``grid`` at other places, linear between the middles of its cells."""
    rows, columns = grid.shape
    across = (np.arange(width) + 0.5) / width * columns - 0.5
    down = (np.arange(height) + 0.5) / height * rows - 0.5
    wide = np.stack([np.interp(across, np.arange(columns), row) for row in grid])
    return np.stack([np.interp(down, np.arange(rows), column) for column in wide.T], axis=1)


def _draw_support(canvas: Canvas, regions: Regions, left: int, width: int, height: int) -> None:
    start, end, bottom, top = regions.limits
    marks = _ASCII_MARKS if canvas.ascii else _MARKS
    for x, y, label in regions.support:
        if start <= x <= end and bottom <= y <= top:
            column = min(int((x - start) / (end - start) * width), width - 1)
            row = min(int((top - y) / (top - bottom) * height), height - 1)
            mark = marks[label] if regions.two_classes else f"{label:x}"
            canvas.write(1 + row, left + column, mark, cells.LINE if label % 2 else cells.VALUE)


def _draw_curve(canvas: Canvas, curve: Curve, losses: Sequence[float]) -> None:
    column = canvas.write(0, 0, "true", cells.LABEL)
    for name, loss, tone in zip(("before", "after"), losses, (cells.BAND, cells.LINE), strict=True):
        column = canvas.write(0, column + 2, f"{name} {short_number(loss)}", tone)
    rows, width = canvas.height - 1, canvas.width
    low, high = _curve_limits(curve)
    bits = np.zeros((4 * rows, 2 * width), bool)
    tones = np.zeros((rows, width), np.uint8)
    for values, tone in ((curve.before, cells.BAND), (curve.true, cells.LABEL), (curve.after, cells.LINE)):
        dots = _line(curve.x, values, low, high, 4 * rows, 2 * width)
        bits |= dots
        tones[dots.reshape(rows, 4, width, 2).any(axis=(1, 3))] = tone
    canvas.place(1, 0, braille(bits, ascii=canvas.ascii), tones)
    first, last = float(curve.x[0]), float(curve.x[-1])
    for x, y in curve.support:
        if first <= x <= last and low <= y <= high:
            row = min(int((high - y) / (high - low) * rows), rows - 1)
            place = min(int((x - first) / (last - first) * width), width - 1)
            canvas.write(1 + row, place, "o" if canvas.ascii else "●", cells.VALUE)


def _curve_limits(curve: Curve) -> tuple[float, float]:
    """Limits that hold the true curve and, as far as they stay near it, the fits."""
    true = curve.true[np.isfinite(curve.true)]
    true = np.clip(true, -LARGEST, LARGEST)
    low, high = float(true.min()), float(true.max())
    room = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-9)
    for values in (curve.before, curve.after):
        near = values[(values >= low - room / 2) & (values <= high + room / 2)]
        if len(near):
            low, high = min(low, float(near.min())), max(high, float(near.max()))
    return low - 0.04 * room, high + 0.04 * room


def _line(x: Floats, values: Floats, low: float, high: float, height: int, width: int) -> Bools:
    """Dots of a curve, joined down each column; what is outside of the limits or no number is left out."""
    places = x[0] + (np.arange(width + 1) / width) * (x[-1] - x[0])
    known = np.isfinite(values)
    dots = np.zeros((height, width), bool)
    if not known.any():
        return dots
    at = np.interp(places, x[known], np.clip(values[known], -LARGEST, LARGEST), left=np.nan, right=np.nan)
    rows = (high - at) / (high - low) * height
    for column in range(width):
        ends = rows[column : column + 2]
        if np.isnan(ends).any() or ends.max() < 0 or ends.min() >= height:
            continue
        first, last = max(math.floor(ends.min()), 0), min(math.ceil(ends.max()), height)
        dots[first : max(last, first + 1), column] = True
    return dots


def _draw_glyphs(canvas: Canvas, glyphs: Glyphs, losses: Sequence[float]) -> None:
    shown = max(len(glyphs.support), len(glyphs.query))
    # Two rows of images, each with a row of words below.
    width = min((canvas.width + 1) // shown - 1, 2 * ((canvas.height - 3) // 2), 14)
    rows = (width + 1) // 2
    if rows < 2:
        return
    canvas.write(0, 0, "loss", cells.FAINT)
    canvas.write(0, 5, f"{short_number(losses[0])} → {short_number(losses[1])}", cells.LABEL)
    for index, image in enumerate(glyphs.support):
        left = index * (width + 1)
        _place_glyph(canvas, 1, left, image, width, cells.LABEL)
        canvas.write(1 + rows, left + width // 2, _letter(index), cells.LABEL)
    below = 2 + rows
    for index, image in enumerate(glyphs.query):
        left = index * (width + 1)
        _place_glyph(canvas, below, left, image, width, cells.TITLE)
        column = left + max(width - 5, 0) // 2
        for label, mark in ((glyphs.before[index], " → "), (glyphs.after[index], "")):
            right = label == glyphs.classes[index]
            column = canvas.write(below + rows, column, _letter(label), cells.GOOD if right else cells.FAULT)
            column = canvas.write(below + rows, column, mark, cells.FAINT)


def _place_glyph(canvas: Canvas, row: int, column: int, image: Bools, width: int, tone: int) -> None:
    codes = braille(_shrunk(image, 4 * ((width + 1) // 2), 2 * width), ascii=canvas.ascii)
    canvas.place(row, column, codes, np.full(codes.shape, tone, np.uint8))


def _shrunk(image: Bools, height: int, width: int) -> Bools:
    """``image`` as a square of ``width`` dots at the top of ``height`` rows, inked where a third is."""
    side = len(image)
    times = 4
    fine = (np.arange(width * times) + 0.5) * side / (width * times)
    square = image[np.ix_(fine.astype(int), fine.astype(int))]
    shares = square.reshape(width, times, width, times).mean(axis=(1, 3))
    dots = np.zeros((height, width), bool)
    dots[: min(width, height)] = shares[:height] > 1 / 3
    return dots


def _letter(label: int) -> str:
    return chr(ord("a") + label) if label < 26 else "?"
