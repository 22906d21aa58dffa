"""The journal: what happened in a run, appended by one writer, followed by any number of readers.

Every record is one line with ``seq`` (from 1, without gaps), ``time`` (unix seconds), ``iteration`` and
``kind``, then fields by kind:

- ``metrics``: ``values`` (key → number, or ``"nan"``, ``"inf"``, ``"-inf"``);
- ``control``: ``request`` (id, or null for a planned change), ``action``, ``by``, ``result`` (``applied`` or
  ``rejected``), ``changes`` (name → [old, new]), ``why``;
- ``checkpoint``: ``name``, ``reason``, ``bytes``;
- ``status``: ``state``, ``why``, and at ``started`` what the worker runs on;
- ``resumed``: ``from``, an iteration c: metrics rows of iterations above c before it no longer count;
- ``note``: ``text``.

Rows are open: a reader passes on fields and kinds that it does not know.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metarl_tui.runs.files import open_private, read_exactly, write_all
from metarl_tui.runs.journal_reader import (
    CHUNK_BYTES,
    JournalReader,
    after_last_newline,
    last_records,
    newest,
)
from metarl_tui.runs.records import (
    LONGEST_LINE,
    Record,
    checked,
    from_line,
    is_count,
    metric_values,
    number,
    tidy,
    to_line,
)

__all__ = ["Journal", "JournalReader", "Record", "last_records", "newest", "number"]

_LOOK_SECONDS = 0.05  # a row of metrics may be written a thousand times a second


class Journal:
    """The single writer of a journal; safe to use from several threads.

    Opening moves what an earlier writer left unfinished at the end to ``journal.torn-<n>`` and goes on
    with its count. Where record number ``at_least`` is known to have been written, ``missing`` counts those
    that the end of the file has lost; their numbers are not given again, so that readers miss them too.
    Raises :class:`OSError` where the file can't be read or written.
    """

    def __init__(self, path: Path, *, at_least: int = 0) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._descriptor = open_private(self.path, os.O_RDWR | os.O_APPEND)
        self._torn = False
        self._looked = 0.0
        try:
            self._end = _repair(self._descriptor, self.path)
            last = _last_seq(self._descriptor, self._end)
            self.seq = max(last, at_least)
            self.missing = self.seq - last
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, kind: str, iteration: int, /, **fields: Any) -> Record:
        """Append one record with a single write and return it as a reader will see it.

        Raises :class:`OSError` when the disk is full or the file is gone; the journal then ends where it
        ended before, and the next append works once there is space. Whether the file is gone is looked at
        for a row of metrics only where the last look is ``_LOOK_SECONDS`` old: rows that are appended within
        that time after it has gone are lost, and no error says so. Raises :class:`ValueError` or
        :class:`TypeError` for what is no record.
        """
        row = kind == "metrics" and "values" in fields
        values = {"values": metric_values(fields.pop("values"))} if row else {}
        fields = tidy(fields) if fields else fields
        with self._lock:
            now = time.time()
            head = {"seq": self.seq + 1, "time": now, "iteration": int(iteration), "kind": kind}
            record = {**head, **fields, **values}
            line = to_line(record)
            plain = row and not fields and is_count(record["iteration"])
            seen = record if plain else checked(record)
            if seen is None:
                raise ValueError(f"not a record of kind {kind}: {line[:200]!r}")
            if not row or not 0 <= now - self._looked < _LOOK_SECONDS:
                self._check_linked()
                self._looked = now
            self._write(line)
            self.seq += 1
        return seen

    def sync(self) -> None:
        """Wait until all that was appended is on the disk. Raises :class:`OSError`."""
        with self._lock:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync as far as possible and release the file; may be called twice."""
        with self._lock:
            if self._descriptor < 0:
                return
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _check_linked(self) -> None:
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the journal was removed", str(self.path))

    def _write(self, line: bytes) -> None:
        if self._torn:
            self._cut_back()
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except BaseException:
            self._torn = True
            self._cut_back()
            raise
        self._end += written

    def _cut_back(self) -> None:
        """Remove what a failed write left; where even that fails, the next append tries again first."""
        try:
            os.ftruncate(self._descriptor, self._end)
            self._torn = False
        except OSError:
            if os.fstat(self._descriptor).st_size != self._end:
                raise
            self._torn = False


def _repair(descriptor: int, path: Path) -> int:
    """Where the complete lines end, after an unfinished one was completed or moved aside."""
    size = os.fstat(descriptor).st_size
    end = after_last_newline(descriptor, size)
    if end == size:
        return end
    tail = read_exactly(descriptor, size - end, end) if size - end <= LONGEST_LINE else b""
    if from_line(tail) is not None:  # all of it was written but the newline
        write_all(descriptor, b"\n")
        return size + 1
    _move_aside(descriptor, end, size, path)
    os.ftruncate(descriptor, end)
    os.fsync(descriptor)
    return end


def _move_aside(descriptor: int, start: int, end: int, path: Path) -> None:
    count = 1
    while (aside := path.with_name(f"journal.torn-{count}")).exists() or aside.is_symlink():
        count += 1
    copy = open_private(aside, os.O_WRONLY)
    try:
        while start < end and (part := os.pread(descriptor, min(CHUNK_BYTES, end - start), start)):
            write_all(copy, part)
            start += len(part)
        os.fsync(copy)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)


def _last_seq(descriptor: int, end: int) -> int:
    """The number of the last record; damaged lines after the last good one are counted as records."""
    damaged = 0
    for line in _lines_backwards(descriptor, end):
        record = from_line(line)
        if record is not None:
            return int(record["seq"]) + damaged
        damaged += 1
    return damaged


def _lines_backwards(descriptor: int, end: int) -> Iterator[bytes]:
    """The complete lines before ``end``, last first; of overlong ones only an end."""
    rest = b""
    while end > 0:
        start = max(end - CHUNK_BYTES, 0)
        first, *lines = (read_exactly(descriptor, end - start, start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest, end = first[-LONGEST_LINE:], start
    if rest:
        yield rest
