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

from metarl_tui.runs.files import open_existing, open_private, read_exactly, reason, write_all
from metarl_tui.runs.records import (
    LONGEST_LINE,
    Record,
    checked,
    from_line,
    from_lines,
    is_count,
    metric_values,
    number,
    sealed,
    tidy,
    to_line,
)

__all__ = ["Journal", "JournalReader", "Record", "last_records", "newest", "number"]

_CHUNK = 1 << 16
_HEAD = 1 << 14
_WITNESS = 32  # bytes before a reader's position that must not change; they hold a line's checksum


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
        ended before, and the next append works once there is space. Raises :class:`ValueError` or
        :class:`TypeError` for what is no record.
        """
        values = metric_values(fields.pop("values")) if kind == "metrics" and "values" in fields else None
        fields = tidy(fields) if fields else fields
        if values is not None:
            fields["values"] = values
        with self._lock:
            head = {"seq": self.seq + 1, "time": time.time(), "iteration": int(iteration), "kind": kind}
            record = {**head, **fields}
            line = to_line(record)
            plain = values is not None and len(record) == 5 and is_count(record["iteration"])
            seen = record if plain else checked(record)
            if seen is None:
                raise ValueError(f"not a record of kind {kind}: {line[:200]!r}")
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

    def _write(self, line: bytes) -> None:
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the journal was removed", str(self.path))
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
    end = _after_last_newline(descriptor, size)
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


def _after_last_newline(descriptor: int, size: int) -> int:
    position = size
    while position > 0:
        start = max(position - _CHUNK, 0)
        found = read_exactly(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _move_aside(descriptor: int, start: int, end: int, path: Path) -> None:
    count = 1
    while (aside := path.with_name(f"journal.torn-{count}")).exists() or aside.is_symlink():
        count += 1
    copy = open_private(aside, os.O_WRONLY)
    try:
        while start < end and (part := os.pread(descriptor, min(_CHUNK, end - start), start)):
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
        start = max(end - _CHUNK, 0)
        first, *lines = (read_exactly(descriptor, end - start, start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest, end = first[-LONGEST_LINE:], start
    if rest:
        yield rest


class JournalReader:
    """Follows a journal as it grows. Reading never raises, and a missing file has no records.

    ``damaged`` counts lines that were skipped and records that are missing between others;
    :meth:`missing_before` tells how many are missing at the end. ``restarted`` is true after a
    :meth:`read` that began again because the file had been replaced or had shrunk: what earlier calls
    returned no longer counts. ``at_end``: the last read left nothing complete behind. ``problem`` says why
    the file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.at_end = True
        self.restarted = False
        self.problem = ""
        self._start_over()

    def _start_over(self) -> None:
        self.damaged = 0
        self._offset = 0
        self._witness = b""
        self._seen: tuple[int, int, int] | None = None  # device, inode, size at the last read
        self._seq: int | None = 0
        self._bad_since = 0
        self._skipping = False  # inside a line that is too long
        self._sealed = False  # whether a line without a checksum is damage

    def read(self, max_bytes: int = 4 << 20) -> list[Record]:
        """The records that have become complete since the last call, from at most about ``max_bytes``."""
        self.restarted = False
        self.problem = ""
        try:
            chunk = self._read_chunk(max(max_bytes, 1))
        except OSError as error:
            self.at_end = True
            self.problem = "" if isinstance(error, FileNotFoundError) else reason(error)
            return []
        if not chunk:
            return []
        end = chunk.rfind(b"\n") + 1
        if end == 0:
            if len(chunk) > LONGEST_LINE:
                self._skip(chunk)
            return []
        lines = chunk[: end - 1].split(b"\n")
        if self._skipping:  # the first is the end of an overlong line, already counted
            self._skipping = False
            del lines[0]
        records = from_lines(lines)
        self._advance(chunk, end)
        if records is None:
            return [record for line in lines if (record := self._take(line)) is not None]
        self._sealed = self._sealed or bool(records)
        return [record for record in records if self._follows(record)]

    def missing_before(self, seq: int) -> int:
        """How many records, up to number ``seq``, the end of the journal has lost."""
        if self._seq is None or not self.at_end:
            return 0
        return max(seq - self._seq - self._bad_since, 0)

    def seek_end(self) -> None:
        """Skip all complete records that are there now."""
        self.seek_tail(0)

    def seek_tail(self, size: int) -> None:
        """Go to the first record that lies whole within the last ``size`` bytes."""
        self._start_over()
        try:
            descriptor = open_existing(self.path)
        except OSError:
            return
        try:
            status = os.fstat(descriptor)
            last = _after_last_newline(descriptor, status.st_size)
            start = max(last - size, 0)
            if 0 < start < last:
                found = read_exactly(descriptor, last - start + 1, start - 1).find(b"\n")
                start += found
            if start > 0:
                self._seq = None
                self._witness = read_exactly(descriptor, min(_WITNESS, start), max(start - _WITNESS, 0))
            self._offset = start
        finally:
            os.close(descriptor)

    def _read_chunk(self, max_bytes: int) -> bytes:
        """What lies beyond the position, as far as one call reads; starts over where the past has changed."""
        status = self.path.stat()
        if self._seen == (status.st_dev, status.st_ino, status.st_size) and self.at_end:
            return b""
        descriptor = open_existing(self.path)
        try:
            status = os.fstat(descriptor)
            if status.st_size < self._offset or not self._witness_holds(descriptor):
                self._start_over()
                self.restarted = True
            if self._offset == 0:
                self._sealed = _is_sealed(read_exactly(descriptor, _HEAD))
            chunk = read_exactly(descriptor, max_bytes, self._offset)
            if len(chunk) == max_bytes and b"\n" not in chunk:
                chunk += read_exactly(descriptor, LONGEST_LINE + 1, self._offset + len(chunk))
        finally:
            os.close(descriptor)
        self._seen = (status.st_dev, status.st_ino, status.st_size)
        self.at_end = self._offset + len(chunk) >= status.st_size
        return chunk

    def _witness_holds(self, descriptor: int) -> bool:
        size = len(self._witness)
        return not size or read_exactly(descriptor, size, self._offset - size) == self._witness

    def _advance(self, chunk: bytes, length: int) -> None:
        self._offset += length
        self._witness = (self._witness + chunk[max(length - _WITNESS, 0) : length])[-_WITNESS:]

    def _skip(self, chunk: bytes) -> None:
        if not self._skipping:
            self._skipping = True
            self.damaged += 1
            self._bad_since += 1
        self._advance(chunk, len(chunk))

    def _take(self, line: bytes) -> Record | None:
        """The record of ``line`` if it is good and the next in order; counts what is not."""
        record = from_line(line, must_be_sealed=self._sealed)
        if record is None:
            self.damaged += 1
            self._bad_since += 1
        elif self._follows(record):
            self._sealed = self._sealed or sealed(line) is True
            return record
        return None

    def _follows(self, record: Record) -> bool:
        """Whether ``record`` comes after those before it; counts it if not, and those missing before it."""
        seq: int = record["seq"]
        if self._seq and seq <= self._seq:
            self.damaged += 1
            return False
        if self._seq is not None:
            self.damaged += max(seq - self._seq - 1 - self._bad_since, 0)
        self._seq, self._bad_since = seq, 0
        return True


def _is_sealed(head: bytes) -> bool:
    """Whether the lines at the start of a journal carry checksums, so that one without is damaged.

    A journal that something else wrote may have none; one damaged line does not decide it.
    """
    with_seal = without_seal = 0
    for line in head.split(b"\n")[:-1]:
        intact = sealed(line)
        with_seal += intact is True
        without_seal += intact is None and from_line(line) is not None
    return with_seal > 0 and with_seal >= without_seal


def last_records(path: Path, size: int = 1 << 18) -> list[Record]:
    """The good records within the last ``size`` bytes of a journal; none where it can't be read."""
    reader = JournalReader(path)
    reader.seek_tail(size)
    return reader.read(size + 1)


def newest(path: Path, kind: str, size: int = 1 << 20) -> Record | None:
    """The last good record of ``kind`` within the last ``size`` bytes of a journal."""
    try:
        descriptor = open_existing(path)
    except OSError:
        return None
    try:
        end = os.fstat(descriptor).st_size
        tail = read_exactly(descriptor, min(size, end), max(end - size, 0))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    position = tail.rfind(b"\n") + 1
    mark = b'"%b"' % kind.encode()
    while (found := tail.rfind(mark, 0, position)) >= 0:
        start = tail.rfind(b"\n", 0, found) + 1
        record = from_line(tail[start : tail.index(b"\n", found)])
        if record is not None and record["kind"] == kind:
            return record
        position = start
    return None
