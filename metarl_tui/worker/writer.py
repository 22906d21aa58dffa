"""How a worker writes its journal: flushed where it matters, patient when the disk is full."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import Heart

_DISK = (errno.ENOSPC, errno.EDQUOT)
_UNSYNCED = ("metrics", "picture")

Observer = Callable[[dict[str, Any]], None]
"""Hears of every record after it was written."""


class Writer:
    """Appends records; on a full disk it waits for space where a person can make some."""

    def __init__(self, journal: Journal, attended: bool, observer: Observer | None) -> None:
        self._journal = journal
        self._attended = attended
        self._observer = observer
        self.heart: Heart | None = None

    def __call__(self, kind: str, iteration: int, /, **fields: Any) -> None:
        record = self.patiently(self._append, kind, iteration, fields)
        if kind not in _UNSYNCED:
            self.patiently(self._journal.sync)
        if self._observer:
            self._observer(record)

    def once(self, kind: str, iteration: int, /, **fields: Any) -> bool:
        """Append if that is possible now, for a process that can't wait; whether it was."""
        with suppress(OSError):
            self._append(kind, iteration, fields)
            self._journal.sync()
            return True
        return False

    def _append(self, kind: str, iteration: int, fields: dict[str, Any]) -> dict[str, Any]:
        record = self._journal.append(kind, iteration, **fields)
        if self.heart:
            self.heart.journaled = record["seq"]
        return record

    def patiently(self, write: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``write`` with ``arguments``; while the disk is full, say so in the heartbeat and retry."""
        while True:
            try:
                done = write(*arguments)
            except OSError as error:
                if error.errno not in _DISK or not self._attended or self.heart is None:
                    raise
                self.heart.message = "waiting: no space left on the disk"
                time.sleep(1.0)
            else:
                if self.heart and self.heart.message:
                    self.heart.message = ""
                return done
