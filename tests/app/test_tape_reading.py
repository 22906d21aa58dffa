"""What other processes read of a journal is what a reader reads of it, whatever stands in it."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fake_runs import run_records, write_run

from metarl_tui.runs import blocks, journal_reader
from metarl_tui.runs.blocks import (
    NEWEST_ROWS,
    Block,
    JournalBlocks,
    blocks_if_big,
    pack,
    read_block,
    unpack,
)
from metarl_tui.runs.files import read_exactly
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.records import LONGEST_LINE, seal
from metarl_tui.tape import Tape
from metarl_tui.tape_reading import TapeReading, read_tape


class Pieces(JournalBlocks):
    """Blocks of a journal as processes hand them over, without processes; after three something happens."""

    def __init__(self, path: Path, piece: int, happens: Callable[[], object] = bool) -> None:
        self.path, self.piece, self.size = path, piece, path.stat().st_size
        self.happens = happens
        self.ended = False

    def __iter__(self) -> Iterator[Block]:
        journal = os.open(self.path, os.O_RDONLY)
        for start in range(0, self.size, self.piece):
            if start == 3 * self.piece:
                self.happens()
            packed = pack(read_block(journal, start, min(start + self.piece, self.size)))
            head = int.from_bytes(packed[:4], "little")
            yield unpack(packed[8:], head)
        os.close(journal)

    def end(self) -> None:
        self.ended = True


def folder_with(runs_dir: Path, lines: list[bytes]) -> RunFolder:
    folder = RunFolder(write_run(runs_dir, records=[]))
    folder.journal.write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def sealed_lines(records: list[dict[str, Any]]) -> list[bytes]:
    return [seal(orjson.dumps(record)) for record in records]


def read_plainly(folder: RunFolder) -> tuple[Tape, int]:
    reading = TapeReading(folder.config, JournalReader(folder.journal), None)
    assert reading.advance()
    return reading.tape, reading.reader.damaged


def read_in_blocks(folder: RunFolder, piece: int) -> tuple[Tape, int]:
    reading = TapeReading(folder.config, JournalReader(folder.journal), Pieces(folder.journal, piece))
    while not reading.advance(0.001):
        pass
    return reading.tape, reading.reader.damaged


def assert_same(one: Tape, other: Tape) -> None:
    assert one.keys == other.keys
    for key in one.keys:
        for mine, others in zip(one.series(key), other.series(key), strict=True):
            np.testing.assert_array_equal(mine, others)
    assert (one.first, one.last, one.events, one.markers) == (
        other.first, other.last, other.events, other.markers,
    )  # fmt: skip
    assert (one.status, one.picture_at(10**9)) == (other.status, other.picture_at(10**9))
    assert one.hyperparameters_at() == other.hyperparameters_at()
    assert one.seconds_per_iteration == other.seconds_per_iteration
    assert one.seconds_per_iteration_at(one.last) == other.seconds_per_iteration_at(one.last)


def harmed(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """Some of ``lines`` bent, lost, doubled, swapped, or of a kind that nobody writes."""
    lines = list(lines)
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(lines) - 1)
        seq = {"seq": at + 1, "time": 1.0, "iteration": at}
        match chance.randrange(12):
            case 0:
                lines[at] = lines[at][:20] + bytes([chance.randrange(256)]) + lines[at][21:]
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, lines[at])
            case 3:
                lines[at], lines[at + 1] = lines[at + 1], lines[at]
            case 4:
                lines[at] = orjson.dumps({**seq, "kind": "metrics", "values": {"train/loss": 1.0}})
            case 5:
                strange = chance.choice([True, None, [1], "many", {"a": 1}])
                lines[at] = seal(orjson.dumps({**seq, "kind": "metrics", "values": {"train/loss": strange}}))
            case 6:
                values = {"train/loss": chance.choice(["nan", "inf", 2**63, 7]), "a\x1b[2J": 1.0}
                lines[at] = seal(orjson.dumps({**seq, "kind": "metrics", "values": values}))
            case 7:
                lines[at] = seal(orjson.dumps({**seq, "kind": "resumed", "from": chance.randrange(at + 1)}))
            case 8:
                lines[at] = b"x" * chance.choice([0, 3000, LONGEST_LINE + 10])
            case 9:
                iteration = chance.choice([0, 5, 2**31 - 2, 2**31 - 1, 2**52])
                row = {**seq, "iteration": iteration, "kind": "metrics", "values": {}}
                lines[at] = seal(orjson.dumps(row))
            case 10:
                lines[at] = seal(orjson.dumps({**seq, "time": 5, "kind": "picture", "picture": {"a": [1]}}))
            case 11:
                far = {**seq, "seq": chance.choice([10**8, 10**12]), "kind": "metrics", "values": {}}
                lines[at] = seal(orjson.dumps(far))
    return lines


@pytest.mark.parametrize("seed", range(60))
def test_any_journal_is_the_same_tape_in_blocks(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    records = run_records(60, nan_at=(7,), checkpoint_every=9, end="finished", seed=seed)
    folder = folder_with(tmp_path, harmed(sealed_lines(records), chance))
    if seed % 3 == 0:
        with folder.journal.open("r+b") as journal:
            journal.truncate(folder.journal.stat().st_size - chance.randrange(1, 40))
    tape, damaged = read_plainly(folder)
    for piece in (chance.randrange(40, 1000), 5000, 1 << 20):
        other, also_damaged = read_in_blocks(folder, piece)
        assert_same(other, tape)
        assert also_damaged == damaged


def test_good_lines_are_handed_over_and_others_left_to_the_reader(tmp_path: Path) -> None:
    lines = sealed_lines(run_records(40))
    folder = folder_with(tmp_path, lines)
    size = folder.journal.stat().st_size
    journal = os.open(folder.journal, os.O_RDONLY)
    found = [read_block(journal, start, min(start + 1000, size)) for start in range(0, size, 1000)]
    assert next(block.start for block in found if block.end > block.start) == 0
    read = [block for block in found if block.seqs]
    assert [block.seqs[0] for block in read[1:] if block.seqs] == [
        block.seqs[1] + 1 for block in read[:-1] if block.seqs
    ]
    assert read[-1].seqs is not None
    assert read[-1].seqs[1] == len(lines)
    rows = [rows for block in read for rows in block.rows]
    assert sum(len(one.iterations) for one in rows) == 40
    assert all(len(one.values) == len(one.iterations) * len(one.keys) for one in rows)
    assert array("i", rows[0].iterations)[0] == 1
    journaled = [(one["iteration"], one["time"]) for one in run_records(40) if one["kind"] == "metrics"]
    assert [pair for block in found for pair in block.newest_rows] == journaled
    whole = read_block(journal, 0, size)
    assert whole.newest_rows == tuple(journaled[-NEWEST_ROWS:])
    head = int.from_bytes(pack(whole)[:4], "little")
    assert unpack(pack(whole)[8:], head) == whole
    os.close(journal)
    lines[3] = lines[3].replace(b"1", b"2", 1)
    folder.journal.write_bytes(b"\n".join(lines) + b"\n")
    journal = os.open(folder.journal, os.O_RDONLY)
    assert read_block(journal, 0, size).seqs is None
    os.close(journal)


def test_processes_read_what_a_reader_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = run_records(3000, steered_at=1500, nan_at=(9,), end="finished")
    folder = folder_with(tmp_path, sealed_lines(records))
    assert folder.journal.stat().st_size > 2 << 20
    assert blocks_if_big(folder.journal) is None
    monkeypatch.setattr(blocks, "BIG", 1 << 20)
    found = blocks_if_big(folder.journal)
    assert found is not None
    read = list(found)
    assert len(read) == 3
    assert all(block.seqs for block in read)
    assert_same(read_tape(folder), read_plainly(folder)[0])


def test_a_number_far_ahead_takes_no_memory(tmp_path: Path) -> None:
    records = run_records(2)[:2]
    records[1]["seq"] = 10**12
    folder = folder_with(tmp_path, sealed_lines(records))
    journal = os.open(folder.journal, os.O_RDONLY)
    assert read_block(journal, 0, folder.journal.stat().st_size).seqs is None
    os.close(journal)


def test_processes_start_where_pipes_can_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    folder = folder_with(tmp_path, sealed_lines(run_records(3000)))
    monkeypatch.setattr(fcntl, "fcntl", refused)
    read = list(JournalBlocks(folder.journal))
    assert read[-1].end == folder.journal.stat().st_size
    assert all(block.seqs for block in read)


def test_without_its_processes_a_journal_is_read_all_the_same(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, sealed_lines(run_records(3000)))
    helpers = JournalBlocks(folder.journal)
    reading = TapeReading(folder.config, JournalReader(folder.journal), helpers)
    helpers.end()
    helpers.end()
    assert reading.advance()
    assert_same(reading.tape, read_plainly(folder)[0])


def test_what_is_appended_meanwhile_is_read(tmp_path: Path) -> None:
    lines = sealed_lines(run_records(60))
    folder = folder_with(tmp_path, lines[:40])

    def append() -> None:
        with folder.journal.open("ab") as journal:
            journal.write(b"\n".join(lines[40:]) + b"\n")

    pieces = Pieces(folder.journal, 2000, append)
    reading = TapeReading(folder.config, JournalReader(folder.journal), pieces)
    assert reading.advance()
    assert reading.tape.last == 60
    assert_same(reading.tape, read_plainly(folder)[0])


@pytest.mark.parametrize("shorter", [True, False])
def test_another_journal_in_its_place_is_read_from_its_start(tmp_path: Path, shorter: bool) -> None:
    folder = folder_with(tmp_path, sealed_lines(run_records(60)))
    other = sealed_lines(run_records(5 if shorter else 90, seed=2))

    def replace() -> None:
        assert reading.tape.last > 0
        folder.journal.unlink()
        folder.journal.write_bytes(b"".join(line + b"\n" for line in other))

    pieces = Pieces(folder.journal, 2000, replace)
    reading = TapeReading(folder.config, JournalReader(folder.journal), pieces)
    assert reading.advance()
    assert_same(reading.tape, read_plainly(folder)[0])
    assert pieces.ended


def test_an_endless_line_at_the_end_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, sealed_lines(run_records(3)))
    with folder.journal.open("ab") as journal:
        journal.truncate(folder.journal.stat().st_size + (64 << 20))
    looked_at = 0

    def counted(descriptor: int, size: int, offset: int = 0) -> bytes:
        nonlocal looked_at
        looked_at += size
        return read_exactly(descriptor, size, offset)

    monkeypatch.setattr(journal_reader, "read_exactly", counted)
    reader = JournalReader(folder.journal)
    reader.seek_tail(1000)
    assert looked_at <= 2 * LONGEST_LINE
    assert reader.read() == []
    note = {"seq": 900, "time": 1.0, "iteration": 3, "kind": "note", "text": "after it"}
    with folder.journal.open("ab") as journal:
        journal.write(b"the end of it\n" + seal(orjson.dumps(note)) + b"\n")
    assert reader.read() == [note]
