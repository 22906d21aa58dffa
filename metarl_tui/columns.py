"""Metrics by column: iterations and values in arrays, in as few bytes as hold them exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Ints: TypeAlias = npt.NDArray[np.int32]
Doubles: TypeAlias = npt.NDArray[np.float64]
RowsByKeys: TypeAlias = Mapping[
    tuple[str, ...], tuple[Sequence[int] | Ints, Sequence[Sequence[Any]] | Doubles]
]
"""Rows grouped by the keys that they hold: iterations, and lines of values in the order of the keys."""

_LEAST_ROOM = 64
_NEARLY_FULL = 1 - 1 / 64
_ENDLESS = 1 << 31  # more than there are iterations


class _Numbers:
    """Numbers in an array that grows by a thirty-second."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.size = 0
        self._array: npt.NDArray[Any] = np.empty(0, dtype)
        self._expected = 0

    @property
    def all(self) -> npt.NDArray[Any]:
        return self._array[: self.size]

    @property
    def share_used(self) -> float:
        """How much of the array is taken, from 0 to 1."""
        return self.size / max(len(self._array), 1)

    def append(self, numbers: npt.NDArray[Any]) -> None:
        needed = self.size + len(numbers)
        if needed > len(self._array):
            self.make_room(needed)
        self._array[self.size : needed] = numbers
        self.size = needed

    def make_room(self, needed: int) -> None:
        """Have room for as many as are ``needed``, and for some more."""
        self._move(needed + max(needed // 32, _LEAST_ROOM), self._array.dtype)

    def expect(self, size: int) -> None:
        """Have room for so many. Where none are yet, it takes no memory."""
        self._expected = size
        if size > len(self._array):
            self._move(size, self._array.dtype)

    def _move(self, room: int, dtype: npt.DTypeLike) -> None:
        array = np.empty(max(room, self._expected), dtype)
        array[: self.size] = self.all
        self._array = array


class _Values(_Numbers):
    """Values of a metric: one while all are the same, then 32 bits each while these hold them exactly."""

    def __init__(self) -> None:
        super().__init__(np.float64)

    def append(self, numbers: Doubles) -> None:
        if not self.size:
            self._array = np.broadcast_to(numbers[:1].copy(), _ENDLESS)
        if self._all_the_same:
            one = self._array[:1]
            if (numbers.view(np.int64) == one.view(np.int64)).all():  # bit for bit: 0 and -0 differ
                self.size += len(numbers)
                return
            self._move(self.size, np.float32 if _fit_32_bits(one) else np.float64)
        if self._array.dtype == np.float32 and not _fit_32_bits(numbers):
            self._move(len(self._array), np.float64)
        super().append(numbers)

    @property
    def _all_the_same(self) -> bool:
        """Whether all places of the array are one and the same in memory."""
        return self._array.strides == (0,)


def _fit_32_bits(numbers: Doubles) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(numbers.astype(np.float32), numbers, equal_nan=True)


class _Column:
    """One metric: its values, and an index of the iterations that they were measured at.

    Metrics measured in the same rows share an index. It may have gone on without this one.
    """

    def __init__(self, index: _Numbers) -> None:
        self.index = index
        self.values = _Values()

    @property
    def left_behind(self) -> bool:
        """Whether the index has gone on without this metric."""
        return self.values.size < self.index.size

    @property
    def iterations(self) -> Ints:
        return self.index.all[: self.values.size]

    def place(self, iteration: int) -> int:
        """Place of the newest value at or before ``iteration``; -1 if there is none."""
        return int(np.searchsorted(self.iterations, iteration, side="right")) - 1


class Table:
    """The columns of all metrics, by key."""

    def __init__(self) -> None:
        self._rows = _Numbers(np.int32)
        self._columns: dict[str, _Column] = {}

    @property
    def keys(self) -> list[str]:
        """Keys of the metrics that have values, in the order in which they first appeared."""
        return [key for key, column in self._columns.items() if column.values.size]

    @property
    def iterations(self) -> Ints:
        """Iterations of all rows."""
        return self._rows.all

    def series(self, key: str) -> tuple[Ints, Floats]:
        """Iterations and values of a metric, oldest first; empty when it was never measured."""
        column = self._columns.get(key)
        if column is None:
            return np.empty(0, np.int32), np.empty(0, np.float64)
        return column.iterations, column.values.all

    def newest(self, key: str, iteration: int) -> tuple[int, float] | None:
        """Iteration and value of the newest measurement at or before ``iteration``."""
        column = self._columns.get(key)
        if column is None or (place := column.place(iteration)) < 0:
            return None
        return int(column.iterations[place]), float(column.values.all[place])

    def extend(self, rows: RowsByKeys) -> None:
        """Add ``rows``, each of an iteration of its own beyond those there are."""
        if not rows:
            return
        groups = [(np.asarray(iterations, np.int32), _matrix(lines)) for iterations, lines in rows.values()]
        places: dict[str, list[tuple[int, int]]] = {}  # by key: number of a group, and where in its lines
        for group, keys in enumerate(rows):
            for place, key in enumerate(keys):
                places.setdefault(key, []).append((group, place))
        all_groups = tuple(range(len(groups)))
        # The index of all rows goes on first.
        keys_by_groups: dict[tuple[int, ...], list[str]] = {all_groups: []}
        for key, found in places.items():
            if key not in self._columns:
                self._columns[key] = _Column(self._rows)
            keys_by_groups.setdefault(tuple(group for group, _ in found), []).append(key)
        for those, alike in keys_by_groups.items():
            iterations = np.concatenate([groups[group][0] for group in those])
            order = np.argsort(iterations, kind="stable") if len(those) > 1 else slice(None)
            self._go_on([self._columns[key] for key in alike], iterations[order], in_all=those == all_groups)
            for key in alike:
                values = np.concatenate([groups[group][1][:, place] for group, place in places[key]])
                self._columns[key].values.append(values[order])
        self._make_room()

    def _go_on(self, columns: Sequence[_Column], iterations: Ints, *, in_all: bool) -> None:
        """Let the indices of ``columns``, all measured at ``iterations``, go on with these.

        ``in_all``: these are all that there are now, so the index of all rows goes on as well.
        """
        split: dict[tuple[_Numbers, int], _Numbers] = {}
        for column in columns:
            if column.left_behind:
                stretch = column.index, column.values.size
                if stretch not in split:
                    split[stretch] = _Numbers(np.int32)
                    split[stretch].append(column.iterations)
                column.index = split[stretch]
        indices = {column.index for column in columns}
        for index in indices | {self._rows} if in_all else indices:
            index.append(iterations)

    def _make_room(self) -> None:
        """Move at most one array: were all moved at once when they are full, a screen would stand still."""
        fullest = max(self._arrays, key=lambda array: array.share_used)
        if fullest.share_used > _NEARLY_FULL:
            fullest.make_room(fullest.size)

    @property
    def _indices(self) -> set[_Numbers]:
        return {self._rows, *(column.index for column in self._columns.values())}

    @property
    def _arrays(self) -> list[_Numbers]:
        return [*self._indices, *(column.values for column in self._columns.values())]

    def grow(self, times: float) -> None:
        """Make room for a table that is so many ``times`` as long as this one."""
        for array in self._arrays:
            array.expect(round(array.size * times))

    def cut_above(self, iteration: int) -> None:
        """Drop the rows above ``iteration``."""
        for index in self._indices:
            index.size = int(np.searchsorted(index.all, iteration, side="right"))
        for column in self._columns.values():
            column.values.size = min(column.values.size, column.index.size)


def _matrix(lines: Sequence[Sequence[Any]] | Doubles) -> Doubles:
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
