"""Episodes of one held-out task before and after each step of adaptation, drawn as cells.

As :mod:`metarl_tui.app.pictures`: whatever is not a picture in every field and size raises ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metarl_tui.app.picture_fields import digits, finite, items, number, require, whole
from metarl_tui.app.raster import braille
from metarl_tui.app.widgets import cells
from metarl_tui.app.widgets.cells import Canvas
from metarl_tui.text import short_number

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_MOST_STAGES, _MOST_MOMENTS, _LONGEST = 8, 256, 10_000_000
_WORDS = 15
"""Columns for what is said beside a picture."""
_NARROWEST = 8
_PATHS_TONES = (cells.FAINT, cells.BAND, cells.LABEL, cells.LINE)
_STICKS_APART = 4
"""Dots between poles, so that each can be told from the next."""
_LEAN = 0.5
"""How far a pole at the limit leans, in its own length: more than it really does, to be seen."""


@dataclass(frozen=True)
class Stage:
    """After how many steps of adaptation, and the task's mean return then."""

    step: int
    mean_return: float

    @property
    def name(self) -> str:
        return f"{self.step} step{'s' * (self.step != 1)}" if self.step else "before"


@dataclass(frozen=True)
class Paths:
    """Ways through a part of the plane to a goal, and where they end; places are shares of its sides."""

    goal: tuple[float, float]
    start: tuple[float, float]
    stages: tuple[tuple[Stage, Floats, Floats], ...]


@dataclass(frozen=True)
class Episode:
    """A cart's pole until the episode's end: angles at moments, as shares of the limit, -1 … 1."""

    length: int
    moments: Floats
    angles: Floats
    off_track: bool


@dataclass(frozen=True)
class Poles:
    """An episode of ``horizon`` steps at most for each stage."""

    horizon: int
    stages: tuple[tuple[Stage, Episode], ...]


# -- reading ------------------------------------------------------------------------------------------


def read_paths(fields: Any) -> Paths:
    """Navigation's picture. Raises ValueError, TypeError or LookupError for what is none."""
    left, right, bottom, top = finite(fields["limits"], 4)
    require(left < right and bottom < top)

    def share(x: float, y: float) -> tuple[float, float]:
        return (x - left) / (right - left), (y - bottom) / (top - bottom)

    stages = []
    for stage in _stages(fields):
        stages.append((_stage(stage), _places(stage["path"]), _places(stage["ends"])))
    x, y = finite(fields["goal"], 2)
    return Paths(share(x, y), share(0, 0), tuple(stages))


def _places(text: object) -> Floats:
    found = np.array(digits(text), np.float64)
    require(len(found) % 4 == 0)
    return np.asarray((found[::2] * 16 + found[1::2]).reshape(-1, 2) / 255)


def read_poles(fields: Any) -> Poles:
    """The CartPole family's picture. Raises as :func:`read_paths`."""
    horizon = whole(fields["horizon"], _LONGEST)
    track, limit = finite([fields["track"], fields["angle"]], 2)
    require(horizon > 0 and track > 0 and limit > 0)
    stages = []
    for stage in _stages(fields):
        length = whole(stage["length"], horizon)
        moments = [whole(moment, horizon) for moment in items(stage["moments"], _MOST_MOMENTS)]
        require(len(moments) > 0 and moments == sorted(moments))
        places, angles = (np.array(finite(stage[name], len(moments))) for name in ("x", "theta"))
        # The last state seen is one step before the limit: it is off where it is nearer to that one.
        off_track = bool(abs(places[-1]) / track > abs(angles[-1]) / limit)
        shares = np.clip(angles / limit, -1, 1)
        stages.append((_stage(stage), Episode(length, np.array(moments, float), shares, off_track)))
    return Poles(horizon, tuple(stages))


def _stages(fields: Any) -> list[Any]:
    found = items(fields["stages"], _MOST_STAGES)
    require(len(found) > 0)
    return found


def _stage(fields: Any) -> Stage:
    return Stage(whole(fields["step"], 100_000), number(fields["return"]))


# -- drawing ------------------------------------------------------------------------------------------


def draw_paths(canvas: Canvas, paths: Paths) -> None:
    """All stages in one square, the later above the earlier, with the goal; at its right what is what."""
    rows = min(canvas.height, (canvas.width - _WORDS) // 2)
    if rows < 2:
        return
    columns = 2 * rows
    codes = np.full((rows, columns), ord("." if canvas.ascii else "⠄"), np.uint32)
    tones = np.full((rows, columns), cells.HAIRLINE, np.uint8)
    named = _toned(paths.stages)
    for (_, path, ends), tone in named:
        dots = np.zeros((4 * rows, 2 * columns), bool)
        for first, then in (*pairwise(path), *zip(ends, ends, strict=True)):
            _stroke(dots, first, then)
        drawn = braille(dots, ascii=canvas.ascii)
        inked = drawn != ord(" ")
        codes[inked], tones[inked] = drawn[inked], tone
    canvas.place(0, 0, codes, tones)
    goal = "*" if canvas.ascii else "◆"
    for place, mark, tone in ((paths.start, "+", cells.VALUE), (paths.goal, goal, cells.NOTED)):
        column, row = (math.floor(share * count) for share, count in zip(place, (columns, rows), strict=True))
        if 0 <= column < columns and 0 <= row < rows:
            canvas.write(rows - 1 - row, column, mark, tone)
    left = columns + 1
    canvas.write(0, left, f"{goal} goal", cells.NOTED)
    canvas.write(1, left, "+ start", cells.VALUE)
    for row, ((stage, *_), tone) in enumerate(named[-(rows - 3) :] if rows > 3 else [], 3):
        canvas.write(row, left, stage.name, tone)
        said = short_number(stage.mean_return)
        canvas.write(row, canvas.width - len(said), said, cells.VALUE if tone == cells.LINE else cells.LABEL)


def _toned(stages: Sequence[tuple[Stage, Floats, Floats]]) -> list[Any]:
    """Each stage with its tone: the last one in the curves' own, the first one the faintest."""
    shown = [*stages[:1], *stages[1:][-3:]]
    middle = _PATHS_TONES[1:-1]
    tones = [_PATHS_TONES[0], *middle[: max(len(shown) - 2, 0)], _PATHS_TONES[-1]]
    return list(zip(shown, tones[-len(shown) :], strict=True))


def _stroke(dots: Bools, first: Floats, then: Floats) -> None:
    """The dots from a place to the next."""
    sides = np.array([dots.shape[1], dots.shape[0]])
    count = 2 + math.ceil(np.abs((then - first) * sides).max())
    across, up = np.clip(np.linspace(first, then, count) * sides, 0, sides - 1).astype(int).T
    dots[dots.shape[0] - 1 - up, across] = True


def draw_poles(canvas: Canvas, poles: Poles) -> None:
    """A strip for each stage, time going right: the pole at several moments, the last one red if it fell."""
    fit = max(min(canvas.height // 2, len(poles.stages)), 1)
    # The first is what the others are measured by.
    shown = [*poles.stages[:1], *poles.stages[1:][-(fit - 1) :]] if fit > 1 else [poles.stages[-1]]
    rows = min(canvas.height // len(shown), max((canvas.width - _WORDS) // 4, 2))
    for place, (stage, episode) in enumerate(shown):
        top = place * rows
        tone = cells.LINE if place == len(shown) - 1 else cells.BAND
        canvas.write(top, 0, stage.name, cells.LABEL)
        canvas.write(top, len(stage.name) + 1, short_number(stage.mean_return), cells.VALUE)
        if rows > 1:
            fell = episode.length < poles.horizon
            words = ("off the track" if episode.off_track else "fell") if fell else "stands"
            canvas.write(top + 1, 0, words, cells.FAULT if fell else cells.GOOD)
        _draw_strip(canvas, top, rows - (rows > 2), episode, poles.horizon, tone)


def _draw_strip(canvas: Canvas, top: int, rows: int, episode: Episode, horizon: int, tone: int) -> None:
    columns = canvas.width - _WORDS
    if columns < _NARROWEST or rows < 1:
        return
    tall, wide = 4 * rows, 2 * columns
    lean = _LEAN * (tall - 1)
    # Room for the first pole and the last one to lean.
    places = lean + episode.moments / horizon * (wide - 1 - 2 * lean)
    ended = episode.length < horizon
    standing = np.zeros((tall, wide), bool)
    fallen = np.zeros((tall, wide), bool)
    following = math.inf
    for place, angle in zip(places[::-1], episode.angles[::-1], strict=True):
        final = math.isinf(following)
        if following - place < _STICKS_APART:
            continue
        following = place
        up = np.arange(tall - 1)
        across = np.round(place + angle * lean * up / max(tall - 2, 1)).astype(int)
        (fallen if final and ended else standing)[tall - 2 - up, np.clip(across, 0, wide - 1)] = True
    ground = np.zeros((tall, wide), bool)
    ground[-1] = True
    tones = np.zeros((rows, columns), np.uint8)
    for dots, ink in ((ground, cells.HAIRLINE), (standing, tone), (fallen, cells.FAULT)):
        tones[dots.reshape(rows, 4, columns, 2).any(axis=(1, 3))] = ink
    canvas.place(top, _WORDS, braille(ground | standing | fallen, ascii=canvas.ascii), tones)
