"""Big journals, read by processes of their own, so that the screen answers meanwhile.

What was appended to a journal does not change, so its pieces can be read side by side. Each process takes
every so-manieth piece and hands it on as a :class:`Block`: numbers as they lie in memory, events as JSON. It
decides nothing: of a piece that is not plainly good it tells only where it lies, and a
:class:`~metarl_tui.runs.journal.JournalReader` reads that line by line.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from metarl_tui.runs.files import open_existing, read_exactly, write_all
from metarl_tui.runs.records import (
    LONGEST_LINE,
    Record,
    are_clean,
    checked,
    heads_fit,
    numbers,
    unsealed,
)

BIG = 16 << 20
"""Bytes from which on a journal is read by processes of their own."""
LARGEST_ITERATION = 2**31 - 2
"""The largest iteration of a row that a tape takes; one more still fits into 32 bits."""
WITNESS = 32
"""Bytes before a reader's position that must not change; they hold a line's checksum."""
NEWEST_ROWS = 25
"""Rows at the end of a run whose times are kept: enough for the median of what passed between them."""

_PIECE = 1 << 20
_STRETCH = 1 << 14
_MOST_PROCESSES = 4
_NICENESS = 5  # the screen goes first, and so does training
_PIPE_BYTES = 1 << 20
_SIZES = struct.Struct("<II")  # of a block's head, which is JSON, and of its numbers


@dataclass(frozen=True)
class MetricsRows:
    """Metrics rows with the same ``keys``."""

    keys: tuple[str, ...]
    iterations: memoryview[int]
    """Whole numbers of 32 bits, ascending."""
    values: memoryview[float]
    """Floats of 64 bits, row by row, in the order of the keys."""


@dataclass(frozen=True)
class Block:
    """Lines of a journal, from byte ``start`` up to ``end``.

    Where ``seqs`` is ``None`` they have to be read line by line. Otherwise these are the numbers of the first
    and the last record, ``ending`` are the last bytes, and ``iterations`` the lowest and highest of a row.
    """

    start: int
    end: int
    seqs: tuple[int, int] | None = None
    ending: bytes = b""
    iterations: tuple[int, int] | None = None
    rows: tuple[MetricsRows, ...] = ()
    newest_rows: tuple[tuple[int, float], ...] = ()
    """Iteration and time of the last rows, at most :data:`NEWEST_ROWS`."""
    events: tuple[Record, ...] = ()
    """All other records, as a reader hands them out."""


_begun: dict[Path, JournalBlocks] = {}


def begin_if_big(path: Path) -> None:
    """Start the processes that :func:`blocks_if_big` will be asked for."""
    if blocks := blocks_if_big(path):
        _begun[path] = blocks


def blocks_if_big(path: Path) -> JournalBlocks | None:
    """Processes that read the journal at ``path``, if it is worth starting them and they start."""
    if path in _begun:
        return _begun.pop(path)
    try:
        return JournalBlocks(path) if is_big(path) else None
    except OSError:
        return None


def is_big(path: Path) -> bool:
    """Whether the journal at ``path`` takes so long to read that its end is to be seen meanwhile."""
    try:
        return path.stat().st_size >= BIG
    except OSError:
        return False


class JournalBlocks:
    """The processes that read a journal as far as it goes now. Iterating gives its blocks in order.

    Raises :class:`OSError` where the file can't be read or no process started.
    """

    def __init__(self, path: Path) -> None:
        journal = open_existing(path)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self.size = os.fstat(journal).st_size
            count = min(os.cpu_count() or 1, _MOST_PROCESSES)
            for index in range(count):
                self._processes.append(_start(journal, index, count, self.size))
        except BaseException:
            self.end()
            raise
        finally:
            os.close(journal)

    def __iter__(self) -> Iterator[Block]:
        """Ends early where a process did. May wait, and may run in another thread than :meth:`end`."""
        try:
            for piece in range(-(-self.size // _PIECE)):
                stream = self._processes[piece % len(self._processes)].stdout
                assert stream is not None
                sizes = stream.read(_SIZES.size)
                if len(sizes) < _SIZES.size:
                    return
                head, rest = _SIZES.unpack(sizes)
                packed = stream.read(head + rest)
                if len(packed) < head + rest:
                    return
                yield unpack(packed, head)
        finally:
            self.end()
            for process in self._processes:
                if process.stdout is not None:
                    process.stdout.close()

    def end(self) -> None:
        """End the processes, so that there are no more blocks. May be called twice."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def _start(journal: int, index: int, count: int, size: int) -> subprocess.Popen[bytes]:
    """A process that dies with this one: by the hangup of its terminal, or because nobody reads its pipe."""
    command = [sys.executable, "-P", "-m", "metarl_tui.runs.blocks", str(index), str(count), str(size)]
    process = subprocess.Popen(command, stdin=journal, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if sys.platform == "linux" and process.stdout is not None:
        with suppress(OSError):  # a system may refuse more room; the process then waits more often
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def _main(index: int, count: int, size: int) -> None:
    """Write every ``count``-th block of the journal that is standard input to standard output."""
    os.nice(_NICENESS)
    with suppress(BrokenPipeError):
        for start in range(index * _PIECE, size, count * _PIECE):
            write_all(1, pack(read_block(0, start, min(start + _PIECE, size))))


# -- reading ------------------------------------------------------------------------------------------


def read_block(journal: int, start: int, end: int) -> Block:
    """The complete lines of ``journal`` that begin at byte ``start`` or later, and before byte ``end``."""
    offset = max(start - 1, 0)  # the byte before tells whether a line begins at start
    data = read_exactly(journal, end - offset, offset)
    if not data.endswith(b"\n"):
        data += _rest_of_line(journal, offset + len(data))
    first, last = data.find(b"\n") + 1 if start else 0, data.rfind(b"\n") + 1
    if first >= last:
        return Block(start, start)
    return _block(data[first:last], offset + first)


def _rest_of_line(journal: int, offset: int) -> bytes:
    """What there is of the line that goes on at byte ``offset``; not all of one that is too long."""
    rest = b""
    while b"\n" not in rest and len(rest) <= LONGEST_LINE:
        part = read_exactly(journal, _STRETCH, offset + len(rest))
        if not part:
            break
        rest += part
    return rest[: rest.find(b"\n") + 1] if b"\n" in rest else rest


def _block(data: bytes, start: int) -> Block:
    """``data``, which is whole lines, as a block; at less cost than by records that are taken apart."""
    unread = Block(start, start + len(data))
    seqs: list[int] = []
    iterations: list[int] = []
    times: list[float] = []
    rows: list[int] = []
    row_times: list[float] = []
    events: list[Record] = []
    groups: dict[tuple[str, ...], tuple[list[int], list[Any]]] = {}
    keys: list[str] | None = None
    try:
        for line in data[:-1].split(b"\n"):
            record = unsealed(line)
            iteration, moment = record["iteration"], record["time"]
            seqs.append(record["seq"])
            iterations.append(iteration)
            times.append(moment)
            if record["kind"] != "metrics" or len(record) != 5:
                events.append(_event(record))
                continue
            row = record["values"]
            if list(row) != keys:
                keys = list(row)
                own, values = groups.setdefault(tuple(keys), ([], []))
                if not are_clean(row.keys()):
                    return unread
            rows.append(iteration)
            row_times.append(moment)
            own.append(iteration)
            values += row.values()
        if not heads_fit(seqs, iterations, times) or rows != sorted(set(rows)):
            return unread
        found = [
            MetricsRows(names, memoryview(array("i", own)), memoryview(array("d", numbers(values))))
            for names, (own, values) in groups.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return unread
    first, last = seqs[0], seqs[-1]
    if last - first + 1 != len(seqs) or seqs != list(range(first, last + 1)):
        return unread
    if rows and rows[-1] > LARGEST_ITERATION:
        return unread
    return Block(
        start,
        unread.end,
        (first, last),
        data[-WITNESS:],
        (rows[0], rows[-1]) if rows else None,
        tuple(found),
        tuple(zip(rows[-NEWEST_ROWS:], row_times[-NEWEST_ROWS:], strict=True)),
        tuple(events),
    )


def _event(record: Record) -> Record:
    """A record of another kind as a reader hands it out. Raises :class:`ValueError` where that is not all."""
    event = checked(record)
    if event is None or event["kind"] in ("metrics", "resumed"):
        raise ValueError("to be read line by line")
    return event


# -- handing on ---------------------------------------------------------------------------------------


def pack(block: Block) -> bytes:
    """A block as bytes: sizes, a head in JSON that ends where an array may begin, and arrays."""
    numbers = b"".join([rows.values for rows in block.rows] + [rows.iterations for rows in block.rows])
    head = orjson.dumps(
        {
            "span": (block.start, block.end),
            "seqs": block.seqs,
            "ending": block.ending.decode("latin-1"),
            "iterations": block.iterations,
            "rows": [(rows.keys, len(rows.iterations)) for rows in block.rows],
            "newest_rows": block.newest_rows,
            "events": block.events,
        }
    )
    head = head.ljust(-(-len(head) // 8) * 8)
    return _SIZES.pack(len(head), len(numbers)) + head + numbers


def unpack(packed: bytes, head: int) -> Block:
    """The block of which ``packed`` is head and arrays."""
    told = orjson.loads(packed[:head])
    numbers = memoryview(packed)[head:]
    values = []
    for keys, count in told["rows"]:
        size = 8 * len(keys) * count
        values.append(numbers[:size].cast("d"))
        numbers = numbers[size:]
    rows = []
    for (keys, count), floats in zip(told["rows"], values, strict=True):
        rows.append(MetricsRows(tuple(keys), numbers[: 4 * count].cast("i"), floats))
        numbers = numbers[4 * count :]
    start, end = told["span"]
    return Block(
        start,
        end,
        tuple(told["seqs"]) if told["seqs"] else None,
        told["ending"].encode("latin-1"),
        tuple(told["iterations"]) if told["iterations"] else None,
        tuple(rows),
        tuple((iteration, moment) for iteration, moment in told["newest_rows"]),
        tuple(told["events"]),
    )


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
