"""Reading a journal: all of it and what is appended, or only its end.

Nothing here raises on what a journal contains.
"""

from __future__ import annotations

import os
from pathlib import Path

from metarl_tui.runs.blocks import WITNESS, Block
from metarl_tui.runs.files import open_existing, read_exactly, reason
from metarl_tui.runs.records import LONGEST_LINE, Record, from_line, from_lines, sealed

CHUNK_BYTES = 1 << 16
"""What is read at a time where a file is gone through backwards, or copied."""

_HEAD = 1 << 14


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

    @property
    def position(self) -> int:
        """Bytes of the journal that have been read."""
        return self._offset

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
            return [record for line in lines if (record := self._good(line)) is not None]
        self._sealed = self._sealed or bool(records)
        return [record for record in records if self._follows(record)]

    def take(self, block: Block) -> bool:
        """Count ``block`` as read if another process found it good and it comes next; whether it does."""
        if block.seqs is None or block.start != self._offset or self._skipping or self._seq is None:
            return False
        first, last = block.seqs
        if first <= self._seq:
            return False
        self.damaged += max(first - self._seq - 1 - self._bad_since, 0)
        self._seq, self._bad_since = last, 0
        self._offset, self._witness = block.end, block.ending
        self._sealed, self.at_end = True, False
        return True

    def missing_before(self, seq: int) -> int:
        """How many records, up to number ``seq``, the end of the journal has lost."""
        if self._seq is None or not self.at_end:
            return 0
        return max(seq - self._seq - self._bad_since, 0)

    def seek_end(self) -> None:
        """Skip all complete records that are there now."""
        self.seek_tail(0)

    def seek_tail(self, size: int) -> None:
        """Go to the first record that lies whole within the last ``size`` bytes.

        Where the end is a line that is too long, go to the end of the file: the next record begins after
        that line.
        """
        self._start_over()
        try:
            descriptor = open_existing(self.path)
        except OSError:
            return
        try:
            status = os.fstat(descriptor)
            least = max(status.st_size - LONGEST_LINE - 1, 0)
            last = after_last_newline(descriptor, status.st_size, least)
            self._skipping = 0 < last == least
            start = status.st_size if self._skipping else max(last - size, 0)
            if 0 < start < last:
                found = read_exactly(descriptor, last - start + 1, start - 1).find(b"\n")
                start += found
            if start > 0:
                self._seq = None
                self._witness = read_exactly(descriptor, min(WITNESS, start), max(start - WITNESS, 0))
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
        self._witness = (self._witness + chunk[max(length - WITNESS, 0) : length])[-WITNESS:]

    def _skip(self, chunk: bytes) -> None:
        if not self._skipping:
            self._skipping = True
            self.damaged += 1
            self._bad_since += 1
        self._advance(chunk, len(chunk))

    def _good(self, line: bytes) -> Record | None:
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


def after_last_newline(descriptor: int, size: int, least: int = 0) -> int:
    """Where the complete lines within the first ``size`` bytes end; looks no further back than ``least``."""
    position = size
    while position > least:
        start = max(position - CHUNK_BYTES, least)
        found = read_exactly(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return least
