"""How a worker writes its journal: rows together where they are many, synced where it matters, patiently.

A row of metrics is written at once in a run of fewer than a hundred iterations a second. In a faster one
rows are held and written together: every ``HOLD_SECONDS``; before anything else is recorded, a checkpoint is
saved or the run waits; and where the next iteration takes longer, with the next heartbeat. ``kill -9`` loses
those that are held, and nothing that came before them.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from metarl_tui.runs.journal import Journal, Record
from metarl_tui.runs.liveness import Heart

OFTEN_SECONDS = 0.01
"""A row of metrics that comes so soon after the record before it may be held."""
HOLD_SECONDS = 0.05
"""No row is held where the last write is so old. A screen draws every fifth of a second."""

_DISK = (errno.ENOSPC, errno.EDQUOT)
_UNSYNCED = ("metrics", "picture")

Observer = Callable[[dict[str, Any]], None]
"""Hears of every record after it was written, in the thread that trains."""


class Writer:
    """Appends records; on a full disk it waits for space where a person can make some."""

    def __init__(self, journal: Journal, attended: bool, observer: Observer | None) -> None:
        self._journal = journal
        self._attended = attended
        self._observer = observer
        self._untold: list[Record] = []
        self._newest = self._wrote = 0.0  # the time of the newest record, and of the newest when last written
        self.heart: Heart | None = None

    def __call__(self, kind: str, iteration: int, /, **fields: Any) -> None:
        record = self.patiently(self._journal.append, kind, iteration, **fields)
        if kind not in _UNSYNCED:
            self.patiently(self._journal.sync)
        self._newest = self._wrote = record["time"]
        self._untold.append(record)
        self._tell()

    def row(self, iteration: int, values: dict[str, Any]) -> None:
        """Record what an iteration measured, now or soon."""
        row = self._journal.hold(iteration, values)
        self._untold.append(row)
        now = row["time"]
        often = 0 <= now - self._newest < OFTEN_SECONDS  # never where the clock was set back
        self._newest = now
        if not often or now - self._wrote >= HOLD_SECONDS:
            self._wrote = now
            self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        self.patiently(self._journal.flush)
        self._tell()

    def keep(self) -> None:
        """Write the rows that are held if that is possible now; from any thread, or a signal's handler.

        The heartbeat is told what is written.
        """
        with suppress(OSError):
            self._journal.flush(wait=False)
        if self.heart:
            self.heart.journaled = self._journal.seq

    def once(self, kind: str, iteration: int, /, **fields: Any) -> bool:
        """Append if that is possible now, for a process that can't wait; whether it was."""
        with suppress(OSError):
            self._journal.append(kind, iteration, **fields)
            self._journal.sync()
            return True
        return False

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        if self._observer:
            for record in untold:
                self._observer(record)

    def patiently(self, write: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call ``write``; while the disk is full, say so in the heartbeat and retry."""
        while True:
            try:
                done = write(*arguments, **named)
            except OSError as error:
                if error.errno not in _DISK or not self._attended or self.heart is None:
                    raise
                self.heart.message = "waiting: no space left on the disk"
                time.sleep(1.0)
            else:
                if self.heart and self.heart.message:
                    self.heart.message = ""
                return done
