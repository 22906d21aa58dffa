"""Follows a run on disk into a tape: its journal as it grows, its state, and what is queued.

Imported after the first paint, because a tape needs NumPy. Reading happens in another thread, a slice at
a time; the tape itself is only touched by the screen's own thread. Of a big journal the end is shown first,
while all of it is read to another tape, which then takes its place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metarl_tui.app.moment import Moment
from metarl_tui.playhead import Playhead
from metarl_tui.runs.blocks import JournalBlocks, is_big
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.heartbeat import last_journaled
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.runs.liveness import Observer, Standing
from metarl_tui.runs.parents import name_and_parent
from metarl_tui.runs.requests import Request, pending
from metarl_tui.runs.states import OVER
from metarl_tui.tape import Tape
from metarl_tui.tape_reading import SLICE_BYTES, TapeReading, blank_tape

_LOOK_SECONDS = 1.0
_TURN_SECONDS = 0.05
"""A big journal is read for about so long at a time."""
_PROGRESS_STEPS = 40
_RECENT_ROWS = 24
_DOUBT = 0.02
"""Share of the iterations to come by which a forecast of their number may be off before it is made anew."""
_MOST_ITERATIONS = 10**9


@dataclass
class Glimpse:
    """What one look at the folder gave; handed from the reading thread to the screen's."""

    records: list[Record]
    restarted: bool
    at_end: bool
    standing: Standing | None
    """``None`` when it was not looked at this time."""
    queued: list[Request]
    trouble: str = ""
    tape: Tape | None = None
    """All of a big journal, when it has been read."""


class Follower:
    """One run as it grows. :meth:`look` may run in another thread, :meth:`take` belongs to the screen's."""

    def __init__(self, folder: RunFolder, config: RunConfig, blocks: JournalBlocks | None = None) -> None:
        self.folder = folder
        self.config = config
        self.standing: Standing | None = None
        self.queued: list[Request] = []
        self.complete = False
        """Whether the journal was read to its end at least once."""
        self.trouble = ""
        self._reader = JournalReader(folder.journal)
        self._observer = Observer(folder)
        self._next_look = 0.0
        self._missing = 0
        self._total: int | None = None
        big = blocks is not None or is_big(folder.journal)
        self._reading = TapeReading(config, self._reader, blocks) if big else None
        self._tail = JournalReader(folder.journal)
        self._tail_shown = False
        self.tape = self._blank()
        self._shown = self._known()

    def _blank(self) -> Tape:
        """A tape that knows only its end does not know which values are in force."""
        return Tape() if self.end_first else blank_tape(self.config)

    @property
    def end_first(self) -> bool:
        """Whether the tape is the end of a big journal, while all of it is read."""
        return self._reading is not None

    @property
    def at_end(self) -> bool:
        """Whether the tape reaches to the newest iteration."""
        return self.complete or (self.end_first and self.tape.last > 0)

    @property
    def damaged(self) -> int:
        """Journal records that could not be read, or are missing at the end of what a worker has written."""
        return self._reader.damaged + self._missing

    @property
    def share_read(self) -> float:
        """About how much of the journal has been read, from 0 to 1."""
        if self.complete:
            return 1.0
        try:
            size = self.folder.journal.stat().st_size
        except OSError:
            return 1.0
        return min(self._reader.position / max(size, 1), 0.99)

    def look(self, *, at_once: bool = False) -> Glimpse:
        """Read the next slice of the journal and, about once a second, how the run is. Touches no tape."""
        journaled = last_journaled(self.folder) if at_once or time.monotonic() >= self._next_look else 0
        reading = self._reading
        reader = self._tail if reading else self._reader
        if reading and not self._tail_shown:
            self._tail.seek_tail(SLICE_BYTES)
        records, whole = reader.read(SLICE_BYTES), None
        if reading and self._tail_shown and reading.advance(_TURN_SECONDS):
            self._reading, whole = None, reading.tape
        self._tail_shown = True
        self._missing = self._reader.missing_before(journaled) if journaled else self._missing
        now = time.monotonic()
        standing = None
        if at_once or now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            standing = self._observer.observe()
        alive = standing.alive if standing else bool(self.standing and self.standing.alive)
        queued = pending(self.folder, only_look=True) if alive else []
        trouble = f"the journal can't be read: {reader.problem}" if reader.problem else ""
        at_end = self._reading is None and self._reader.at_end
        return Glimpse(records, reader.restarted, at_end, standing, queued, trouble, whole)

    def take(self, glimpse: Glimpse) -> bool:
        """Add what was seen. Whether anything of it is new."""
        if glimpse.tape is not None:
            self.tape = glimpse.tape
        else:
            if glimpse.restarted:
                self.tape = self._blank()
            if glimpse.records:
                self.tape.extend(glimpse.records)
        self.standing = glimpse.standing or self.standing
        self.queued = glimpse.queued
        self.complete = self.complete or glimpse.at_end
        self.trouble = glimpse.trouble
        before, self._shown = self._shown, self._known()
        return before != self._shown

    def _known(self) -> tuple[object, ...]:
        """What a change of is worth a paint."""
        queued = [one.id for one in self.queued]
        progress = round(self.share_read * _PROGRESS_STEPS)
        tape = id(self.tape), self.tape.version, self.complete
        return tape, self.standing, queued, progress, self.trouble

    @property
    def state(self) -> str:
        """The state of the run now, as far as it is known."""
        return self.standing.state if self.standing else "starting"

    @property
    def controllable(self) -> bool:
        """Whether a worker is there that takes requests."""
        alive = self.standing is not None and self.standing.alive
        return alive and self.state not in (*OVER, "starting")

    @property
    def steerable(self) -> bool:
        """Whether it takes requests, and it is known which values are in force."""
        return self.controllable and self.complete

    @property
    def over(self) -> bool:
        """Whether no worker trains this run any more."""
        return self.standing is not None and self.state in OVER

    def moment(self, playhead: Playhead, *, starting: bool = False) -> Moment:
        """The header's view of the playhead's moment; ``starting``: a worker is on its way."""
        tape, config = self.tape, self.config
        iteration = playhead.iteration
        at_end = iteration >= tape.last
        state = self.state if at_end else tape.state_at(iteration)
        if starting and at_end and self.over:
            state = "starting"
        self._total = total = total_iterations(tape, tape.hyperparameters_at(), self._total)
        seconds = tape.seconds_per_iteration_at(iteration)
        speed = tape.value_at("time/fps", iteration)
        seed = config.setup.get("seed")
        running = at_end and state == "running"
        reading = None if self.complete else self.share_read
        share = iteration / total if total else None
        return Moment(
            trainer=config.trainer,
            subject=config.subject,
            title=name_and_parent(config.name, config.parent),
            seed=seed if isinstance(seed, int) else None,
            state=state,
            why=self.standing.why
            if at_end and self.standing and state not in ("running", "finished")
            else "",
            iteration=iteration,
            total=total,
            share=share if reading is None else reading,
            speed=speed if speed is not None and math.isfinite(speed) else 1 / seconds if seconds else None,
            unit="steps" if speed is not None else "iterations",
            left=max(total - iteration, 0) * seconds if running and total and seconds else None,
            reading=reading,
        )


def total_iterations(tape: Tape, values: Mapping[str, Any], before: int | None = None) -> int | None:
    """How many iterations the run will have with the ``values`` in force, if that can be told.

    Iterations may take steps that differ in number, so this is a forecast from the newest ones; the one
    made ``before`` stands while it is as good as the new one.
    """
    last, iterations, total = tape.last, values.get("iterations"), values.get("total_steps")
    if tape.status is not None and tape.status.get("state") == "finished" and last:
        return last
    if isinstance(iterations, int):
        return max(iterations, last)
    if not isinstance(total, int | float) or not last:
        return None
    first = max(tape.first, last - max(_RECENT_ROWS, last // 4))
    steps, earlier = tape.value_at("time/steps", last), tape.value_at("time/steps", first)
    if not steps or not earlier or not math.isfinite(steps) or not math.isfinite(earlier):
        return None
    rate = (steps - earlier) / (last - first) if steps > earlier else steps / last
    remaining = max(total - steps, 0) / rate if rate > 0 else math.inf
    if remaining > _MOST_ITERATIONS:
        return None
    forecast = last + math.ceil(remaining - 1e-9)
    if before is not None and before >= last and abs(before - forecast) <= 1 + _DOUBT * remaining:
        return before
    return forecast
