"""Metrics by column: iterations and values in arrays, in as few bytes as hold them exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Ints: TypeAlias = npt.NDArray[np.int32]
RowsByKeys: TypeAlias = Mapping[
    tuple[str, ...], tuple[Sequence[int] | Ints, Sequence[Sequence[Any]] | Floats]
]
"""Rows grouped by the keys that they hold: iterations, and lines of values in the order of the keys."""

_LEAST_ROOM = 256


class _Numbers:
    """Numbers in an array that grows by a sixteenth."""

    def __init__(self, numbers: npt.NDArray[Any]) -> None:
        self.size = 0
        self._array = np.empty(0, numbers.dtype)
        self.append(numbers)

    @property
    def all(self) -> npt.NDArray[Any]:
        return self._array[: self.size]

    def append(self, numbers: npt.NDArray[Any]) -> None:
        needed = self.size + len(numbers)
        if needed > len(self._array):
            self._move(needed + max(needed // 16, _LEAST_ROOM), self._array.dtype)
        self._array[self.size : needed] = numbers
        self.size = needed

    def reserve(self, room: int) -> None:
        """Have room for so many numbers. Where none are yet, it takes no memory."""
        if room > len(self._array):
            self._move(room, self._array.dtype)

    def become(self, dtype: npt.DTypeLike) -> None:
        self._move(len(self._array), dtype)

    def _move(self, room: int, dtype: npt.DTypeLike) -> None:
        array = np.empty(room, dtype)
        array[: self.size] = self.all
        self._array = array


class _Column:
    """One metric. It shares the iterations of the table's rows from ``start`` on while it has them all."""

    def __init__(self, rows: _Numbers, start: int) -> None:
        self._rows, self._start = rows, start
        self._own: _Numbers | None = None
        self._values = _Numbers(np.empty(0, np.float32))

    @property
    def iterations(self) -> Ints:
        if self._own is not None:
            return self._own.all
        return self._rows.all[self._start : self._start + self._values.size]

    @property
    def values(self) -> Floats:
        return self._values.all

    def append(self, iterations: Ints, values: Floats, row: int, *, has_all: bool) -> None:
        """Add values measured at ``iterations``: rows from number ``row`` on, if it ``has_all`` of them."""
        if self._own is None and not (has_all and self._start + self._values.size == row):
            self._own = _Numbers(self.iterations.copy())
        if self._own is not None:
            self._own.append(iterations)
        if self._values.all.dtype == np.float32:
            with np.errstate(over="ignore"):
                exact = np.array_equal(values.astype(np.float32), values, equal_nan=True)
            if not exact:
                self._values.become(np.float64)
        self._values.append(values)

    def reserve(self, room: int) -> None:
        self._values.reserve(room)
        if self._own is not None:
            self._own.reserve(room)

    def index(self, iteration: int) -> int:
        """Index of the newest value at or before ``iteration``; -1 if there is none."""
        return int(np.searchsorted(self.iterations, iteration, side="right")) - 1

    def cut_above(self, iteration: int) -> None:
        size = self.index(iteration) + 1
        self._values.size = size
        if self._own is not None:
            self._own.size = size


class Table:
    """The columns of all metrics, by key."""

    def __init__(self) -> None:
        self._rows = _Numbers(np.empty(0, np.int32))
        self._columns: dict[str, _Column] = {}

    @property
    def keys(self) -> list[str]:
        """Keys of the metrics that have values, in the order in which they first appeared."""
        return [key for key, column in self._columns.items() if len(column.values)]

    @property
    def iterations(self) -> Ints:
        """Iterations of all rows."""
        return self._rows.all

    def series(self, key: str) -> tuple[Ints, Floats]:
        """Iterations and values of a metric, oldest first; empty when it was never measured."""
        column = self._columns.get(key)
        if column is None:
            return np.empty(0, np.int32), np.empty(0, np.float64)
        return column.iterations, column.values

    def newest(self, key: str, iteration: int) -> tuple[int, float] | None:
        """Iteration and value of the newest measurement at or before ``iteration``."""
        column = self._columns.get(key)
        if column is None or (index := column.index(iteration)) < 0:
            return None
        return int(column.iterations[index]), float(column.values[index])

    def extend(self, rows: RowsByKeys) -> None:
        """Add ``rows``, each of an iteration of its own beyond those there are."""
        parts: dict[str, list[tuple[Ints, Floats]]] = {}
        batch = []
        for keys, (iterations, lines) in rows.items():
            numbers, matrix = np.asarray(iterations, np.int32), _matrix(lines)
            batch.append(numbers)
            for index, key in enumerate(keys):
                parts.setdefault(key, []).append((numbers, matrix[:, index]))
        if not batch:
            return
        row = self._rows.size
        self._rows.append(np.sort(np.concatenate(batch)))
        for key, found in parts.items():
            numbers, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            if len(found) > 1:
                order = np.argsort(numbers, kind="stable")
                numbers, values = numbers[order], values[order]
            if key not in self._columns:
                self._columns[key] = _Column(self._rows, row)
            self._columns[key].append(numbers, values, row, has_all=len(numbers) == self._rows.size - row)

    def grow(self, times: float) -> None:
        """Make room for a table that is so many ``times`` as long as this one."""
        self._rows.reserve(round(self._rows.size * times))
        for column in self._columns.values():
            column.reserve(round(len(column.values) * times))

    def cut_above(self, iteration: int) -> None:
        """Drop the rows above ``iteration``."""
        for column in self._columns.values():
            column.cut_above(iteration)
        self._rows.size = int(np.searchsorted(self._rows.all, iteration, side="right"))


def _matrix(lines: Sequence[Sequence[Any]] | Floats) -> Floats:
    """Rows of JSON values as numbers; what is not a number is NaN."""
    if isinstance(lines, np.ndarray):
        return lines
    width = len(lines[0])
    try:
        numbers = np.fromiter(chain.from_iterable(lines), np.float64, len(lines) * width)
        return numbers.reshape(len(lines), width)
    except (TypeError, ValueError, OverflowError):
        return np.array([[_number(value) for value in line] for line in lines], np.float64)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")
