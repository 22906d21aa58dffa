"""A run as a tape: journal records become columns of numbers, and events.

Pure: no files, no screen. Records come from outside, so nothing here raises on what they contain: a
record that makes no sense is passed over.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from metarl_tui.columns import Floats, Ints, Table
from metarl_tui.events import EVENT_KINDS, Event, EventKind, Marker, Record, changes_of, describe
from metarl_tui.runs.blocks import LARGEST_ITERATION, NEWEST_ROWS, Block
from metarl_tui.runs.records import is_moment
from metarl_tui.runs.states import ENDED
from trainers.hyperparameters import TrainerEntry

__all__ = ["Event", "Marker", "Record", "Tape"]

_DURATION = "time/iteration_seconds"
_FEWEST_GAPS = 3
_MOST_PICTURES = 1000  # When there are more, every other one is let go.


class Tape:
    """What a journal says, ready to be drawn.

    Series hold one value per record that has the key, so metrics measured every so many iterations are
    short; NaN and infinite values are kept. ``version`` grows whenever something was added or dropped.
    """

    def __init__(
        self, hyperparameters: Mapping[str, Any] | None = None, trainer: TrainerEntry | None = None
    ) -> None:
        self.initial: dict[str, Any] = dict(hyperparameters or {})
        self._measured_as = dict(trainer.measured_as) if trainer else {}
        self._scheduled = trainer.scheduled(self.initial) if trainer else frozenset()
        self.version = 0
        self.damaged = 0
        """Journal records that could not be read, where whoever reads them has said so."""
        self.status: Record | None = None
        """The newest status record."""
        self.started: Record | None = None
        """The newest record that says what the worker runs on."""
        self._metrics = Table()
        self._last = 0
        self._newest_rows: deque[tuple[int, Any]] = deque(maxlen=NEWEST_ROWS)  # iteration, time
        self._events: list[Event] = []
        self._markers: list[Marker] = []
        self._outcomes: dict[str, Record] = {}
        self._pictures: list[tuple[int, Record]] = []
        self._rate: tuple[int, float] = (-1, 0.0)

    # -- reading records --------------------------------------------------------------------------

    def extend(self, records: Iterable[Record]) -> None:
        """Add records in the journal's order."""
        rows: dict[tuple[str, ...], tuple[list[int], list[list[Any]]]] = {}
        keys: list[str] | None = None
        count = 0
        for record in records:
            count += 1
            iteration, kind = record.get("iteration"), record.get("kind")
            if not isinstance(iteration, int) or not 0 <= iteration <= LARGEST_ITERATION:
                continue
            if kind == "metrics":
                values = record.get("values")
                if iteration > self._last and isinstance(values, dict):
                    self._last = iteration
                    if list(values) != keys:
                        keys = list(values)
                        iterations, lines = rows.setdefault(tuple(keys), ([], []))
                    iterations.append(iteration)
                    lines.append(list(values.values()))
                    self._newest_rows.append((iteration, record.get("time")))
            elif kind == "picture":
                self._add_picture(iteration, record.get("picture"))
            elif kind in EVENT_KINDS:
                if kind == "resumed":
                    self._metrics.extend(rows)
                    rows.clear()
                    keys = None
                self._add_event(kind, iteration, record)
        self._metrics.extend(rows)
        self.version += bool(count)

    def goes_on_with(self, block: Block) -> bool:
        """Whether the rows of ``block`` lie beyond those that there are."""
        return block.iterations is None or block.iterations[0] > self._last

    def add(self, block: Block) -> None:
        """Add what another process read, which the tape :meth:`goes_on_with`."""
        self._metrics.extend(
            {
                rows.keys: (
                    np.asarray(rows.iterations, np.int32),
                    np.asarray(rows.values, np.float64).reshape(len(rows.iterations), len(rows.keys)),
                )
                for rows in block.rows
            }
        )
        if block.iterations is not None:
            self._last = block.iterations[1]
        self._newest_rows.extend(block.newest_rows)
        self.extend(block.events)
        self.version += 1

    def expect(self, times: float) -> None:
        """Make room: the whole tape is about so many ``times`` as long as what there is of it."""
        self._metrics.grow(times)

    def _add_event(self, kind: EventKind, iteration: int, record: Record) -> None:
        if kind == "resumed":
            start = record.get("from")
            self._drop_above(min(start, LARGEST_ITERATION) if isinstance(start, int) else iteration)
        elif kind == "status":
            self.status = record
            if record.get("state") == "started":
                self.started = record
        elif kind == "control":
            if isinstance(request := record.get("request"), str):
                self._outcomes[request] = record
            if record.get("result") == "applied" and (changes := changes_of(record)):
                marker = Marker(iteration, changes, bool(record.get("rebase")))
                if marker not in self._markers:
                    place = bisect_right(self._markers, iteration, key=lambda other: other.iteration)
                    self._markers.insert(place, marker)
        self._events.append(Event(iteration, kind, describe(kind, record), record))

    def _add_picture(self, iteration: int, picture: object) -> None:
        kept = self._pictures
        if isinstance(picture, dict) and (not kept or kept[-1][0] < iteration):
            if len(kept) >= _MOST_PICTURES:
                del kept[1::2]
            kept.append((iteration, picture))

    def _drop_above(self, iteration: int) -> None:
        """What stood above the checkpoint that a run was resumed from did not happen to its weights."""
        self._metrics.cut_above(iteration)
        self._last = min(self._last, iteration)
        while self._newest_rows and self._newest_rows[-1][0] > iteration:
            self._newest_rows.pop()
        while self._pictures and self._pictures[-1][0] > iteration:
            self._pictures.pop()
        self._events = [
            event for event in self._events
            if event.iteration <= iteration or event.kind not in ("checkpoint", "note")
        ]  # fmt: skip

    # -- metrics ----------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The first iteration that has a row; 0 when there is none."""
        iterations = self._metrics.iterations
        return int(iterations[0]) if len(iterations) else 0

    @property
    def last(self) -> int:
        """The newest iteration that has a row; 0 when there is none."""
        iterations = self._metrics.iterations
        return int(iterations[-1]) if len(iterations) else 0

    @property
    def keys(self) -> list[str]:
        """Keys of all metrics, in the order in which they first appeared."""
        return self._metrics.keys

    def series(self, key: str) -> tuple[Ints, Floats]:
        """Iterations and values of a metric, oldest first; empty when it was never measured.

        Both are views: valid until the next :meth:`extend`, not to be written.
        """
        return self._metrics.series(key)

    def value_at(self, key: str, iteration: int) -> float | None:
        """The newest value at or before ``iteration``, NaN included; ``None`` when there is none."""
        found = self._metrics.newest(key, iteration)
        return found[1] if found else None

    def picture_at(self, iteration: int) -> tuple[int, Record] | None:
        """The newest picture at or before ``iteration``, as journaled, and the iteration that drew it."""
        place = bisect_right(self._pictures, iteration, key=lambda one: one[0])
        return self._pictures[place - 1] if place else None

    @property
    def seconds_per_iteration(self) -> float:
        """Recorded median duration of an iteration; 0 when it is not known."""
        if self._rate[0] != self.version:
            self._rate = (self.version, self._median_seconds())
        return self._rate[1]

    def _median_seconds(self) -> float:
        durations = self.series(_DURATION)[1]
        sample = durations[:: max(1, len(durations) // 1000)]
        sample = sample[np.isfinite(sample)]
        return max(float(np.median(sample)), 0.0) if len(sample) else self._newest_seconds

    def seconds_per_iteration_at(self, iteration: int) -> float:
        """Duration of an iteration then; 0 when it is not known.

        At the end of the tape it is the median of the newest ones, and includes what they waited for.
        """
        if iteration >= self.last:
            return self._newest_seconds
        seconds = self.value_at(_DURATION, iteration)
        return seconds if seconds is not None and 0 < seconds < math.inf else 0.0

    @property
    def _newest_seconds(self) -> float:
        """Median time between the newest rows, divided by the iterations from one to the next."""
        rows = [(iteration, moment) for iteration, moment in self._newest_rows if is_moment(moment)]
        gaps = [
            (later - earlier) / (iteration - before)
            for (before, earlier), (iteration, later) in pairwise(rows)
            if later > earlier
        ]
        return statistics.median(gaps) if len(gaps) >= _FEWEST_GAPS else 0.0

    # -- events and values in force ---------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """Everything but metrics, in the journal's order."""
        return self._events

    def events_at(self, iteration: int) -> list[Event]:
        """The events up to ``iteration``."""
        return [event for event in self._events if event.iteration <= iteration]

    @property
    def markers(self) -> list[Marker]:
        """Applied changes, by iteration, each once however often the run was resumed."""
        return self._markers

    def outcome(self, request: str) -> Record | None:
        """The control record that answers a request; ``None`` while it is queued."""
        return self._outcomes.get(request)

    @property
    def ended(self) -> bool:
        """Whether the newest status says that training is over."""
        return self.status is not None and self.status.get("state") in ENDED

    def status_at(self, iteration: int) -> Record | None:
        """The status record in force at ``iteration``: at the end of the tape the newest one."""
        if iteration >= self.last:
            return self.status
        found = [event.record for event in self.events_at(iteration) if event.kind == "status"]
        return found[-1] if found else None

    def state_at(self, iteration: int) -> str:
        """The state at ``iteration``; inside the tape the run was running unless it was paused there."""
        record = self.status_at(iteration)
        state = str(record.get("state", "")) if record else ""
        if iteration < self.last and state in (*ENDED, "started", "paused", ""):
            return "running"
        return state or "starting"

    def hyperparameters_at(self, iteration: int | None = None) -> dict[str, Any]:
        """Values in force during ``iteration``; by default those of the next iteration to come.

        A value that moves by itself is read from its metric.
        """
        moment = self.last + 1 if iteration is None else iteration
        values, changed = dict(self.initial), dict.fromkeys(self.initial, 0)
        for marker in self._markers:
            if marker.iteration <= moment:
                for name, (_, new) in marker.changes.items():
                    values[name], changed[name] = new, marker.iteration
        for name in values.keys() & self._measured_as.keys():
            found = self._metrics.newest(self._measured_as[name], moment)
            if found and found[0] >= changed[name]:
                values[name] = found[1]
        return values

    def scheduled_at(self, iteration: int | None = None) -> set[str]:
        """Names of the values that a schedule still moves; one set by hand is constant from then on."""
        moment = self.last + 1 if iteration is None else iteration
        by_hand = {
            name
            for marker in self._markers
            if marker.iteration <= moment and not marker.keeps_schedule
            for name in marker.changes
        }
        return set(self._scheduled) - by_hand
