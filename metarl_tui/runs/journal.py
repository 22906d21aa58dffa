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

What is appended is in the file when the call returns. Rows of metrics may be held, to be written together
later; a reader sees records in their order all the same.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
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

_FLOAT = frozenset([float])
_LAST_SEQ = 1 << 52
"""No run has as many records; where one claims to, there is hardly a number left to give."""
_MANY = 1_000
"""A row of no more values than this fits into a line, whatever they are called."""


class Journal:
    """The single writer of a journal; safe to use from several threads.

    Opening moves what an earlier writer left unfinished at the end to ``journal.torn-<n>`` and goes on
    with its count. Where record number ``at_least`` is known to have been written, ``missing`` counts those
    that the end of the file has lost; their numbers are not given again, so that readers miss them too.
    ``seq`` is the number of the newest record in the file. Raises :class:`OSError` where the file can't be
    read or written.
    """

    def __init__(self, path: Path, *, at_least: int = 0) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._descriptor = open_private(self.path, os.O_RDWR | os.O_APPEND)
        self._file = os.fstat(self._descriptor)
        self._torn = False
        self._held: list[Record] = []
        try:
            self._end = _repair(self._descriptor, self.path)
            last = _last_seq(self._descriptor, self._end)
            self.seq = max(last, at_least)
            self.missing = self.seq - last
            if self.seq > _LAST_SEQ:
                raise OSError(errno.EOVERFLOW, f"its last record has the number {self.seq}", str(self.path))
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
        """Append one record, after the rows that are held, and return it as a reader will see it.

        All of it is a single write. Raises :class:`OSError` when the disk is full or the file is gone; the
        journal then ends with a whole record, rows that are not in it stay held, and the next append works
        once there is space. Raises :class:`ValueError` or :class:`TypeError` for what is no record.
        """
        values: Record = {}
        if kind == "metrics" and "values" in fields:
            values["values"] = metric_values(fields.pop("values"))
        fields = tidy(fields)
        with self._lock:
            held = self._held[:]
            seq, now = self.seq + len(held) + 1, time.time()
            record = {"seq": seq, "time": now, "iteration": int(iteration), "kind": kind, **fields, **values}
            line = to_line(record)
            seen = checked(record)
            if seen is None:
                raise ValueError(f"not a record of kind {kind}: {line[:200]!r}")
            self._write(held, line)
        return seen

    def hold(self, iteration: int, values: dict[str, Any]) -> Record:
        """Keep a row of metrics for the next :meth:`append` or :meth:`flush`; to be called by one thread.

        Rows that are written together cost a fraction of what each costs alone. What is returned gets its
        number as it is written, and is then the record as a reader will see it. Raises :class:`ValueError`
        or :class:`TypeError` for what is no row.
        """
        row: Record = {"seq": 0, "time": time.time(), "iteration": iteration, "kind": "metrics"}
        row["values"] = dict(values)
        plain = _FLOAT.issuperset(map(type, values.values())) and len(values) <= _MANY
        if not plain or not is_count(iteration):
            row |= {"iteration": int(iteration), "values": metric_values(values)}
            line = to_line(row)
            if checked(row) is None:
                raise ValueError(f"not a row: {line[:200]!r}")
        self._held.append(row)
        return row

    def flush(self, *, wait: bool = True) -> None:
        """Write the rows that are held, with a single write; raises :class:`OSError` as :meth:`append` does.

        Without ``wait`` nothing is done while the journal is being written to, by another thread or by what
        the handler of a signal has interrupted.
        """
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if held := self._held[:]:
                self._write(held)
        finally:
            self._lock.release()

    def sync(self) -> None:
        """Wait until all that was written is on the disk. Raises :class:`OSError`."""
        with self._lock:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Write what is held, where that is possible, sync and release the file; may be called twice."""
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                with suppress(OSError):  # which whoever held the rows has met before: flush to hear of it
                    if held := self._held[:]:
                        self._write(held)
                os.fsync(self._descriptor)
            finally:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)

    def _write(self, held: list[Record], last: bytes = b"") -> None:
        """Write the rows that are held, and the line that comes after them."""
        self._check_place()
        if self._torn:
            self._cut_back()
        for seq, row in enumerate(held, self.seq + 1):
            row["seq"], row["values"] = seq, metric_values(row["values"])
        lines = b"".join([*map(to_line, held), last])
        try:
            size = os.write(self._descriptor, lines)
        except BaseException as error:
            if isinstance(error, OSError):
                error.filename = str(self.path)  # of a descriptor the system names none
            self._torn = True
            self._cut_back()
            raise
        whole = lines.rfind(b"\n", 0, size) + 1
        count = lines.count(b"\n", 0, whole)
        self._end += whole
        self.seq += count
        del self._held[: min(count, len(held))]  # others may have come meanwhile
        if size < len(lines):  # the disk is full; what lines are whole stay, as they may have been read
            self._torn = True
            self._cut_back()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _check_place(self) -> None:
        """Raises :class:`FileNotFoundError` where nobody would find what is written."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "the journal was removed", str(self.path)) from None
        if not os.path.samestat(found, self._file):
            raise FileNotFoundError(errno.ENOENT, "another file is in the journal's place", str(self.path))

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
