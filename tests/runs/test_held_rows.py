"""Rows of metrics that the journal holds: written together, each once, in their order."""

from __future__ import annotations

import errno
import math
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_tui.runs import journal as journal_module
from metarl_tui.runs.journal import Journal, JournalReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def read_all(path: Path) -> list[dict[str, Any]]:
    reader = JournalReader(path)
    records = reader.read()
    assert (reader.damaged, reader.at_end) == (0, True)
    return records


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes; a write that would is cut short, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_that_are_held_are_one_write(path: Path, writes: list[bytes]) -> None:
    with Journal(path) as journal:
        held = [journal.hold(iteration, {"loss": 1 / iteration}) for iteration in range(1, 5)]
        assert (path.read_bytes(), journal.seq) == (b"", 0)
        journal.flush()
        journal.flush()
        assert (read_all(path), journal.seq) == (held, 4)
        more = [journal.hold(5, {"loss": 0.5}), journal.append("note", 5, text="well")]
    assert read_all(path) == held + more
    assert [record["seq"] for record in held + more] == [1, 2, 3, 4, 5, 6]
    assert [data.count(b"\n") for data in writes] == [4, 2]


def test_closing_writes_what_is_held(path: Path) -> None:
    with Journal(path) as journal:
        row = journal.hold(1, {"loss": 0.5})
    assert read_all(path) == [row]


def test_a_row_is_the_same_whether_it_is_held_or_appended(path: Path) -> None:
    values: dict[str, Any] = {
        "a": math.nan, "b": -math.inf, "c": 1, "d": np.float32(0.5), "e": np.float64("nan"), "f": True,
        "g": 10**30, "h": 1e308, "\x1b[31mred": 1.0,
    }  # fmt: skip
    with Journal(path) as journal:
        for chosen in (values, {"h": 1e308, "i": 1e308}, {"a": math.nan, "h": 1.0}, {}):
            row = journal.hold(np.int64(3), chosen)  # type: ignore[arg-type]
            again = journal.append("metrics", 3, values=chosen)
            assert {**row, "seq": 0, "time": 0.0} == {**again, "seq": 0, "time": 0.0}
    written = read_all(path)
    assert [row["values"] for row in written[::2]] == [row["values"] for row in written[1::2]]
    assert "red" in written[0]["values"]


def test_what_is_measured_later_does_not_change_a_row_that_is_held(path: Path) -> None:
    values = {"loss": 0.5}
    with Journal(path) as journal:
        journal.hold(1, values)
        values["loss"] = 7.0
    assert read_all(path)[0]["values"] == {"loss": 0.5}


@pytest.mark.parametrize(
    ("iteration", "values"),
    [
        (1, {"a": "much"}), (1, {"a": None}), (1, {"a": [1.0]}), (-1, {"a": 1.0}), (1 << 60, {"a": 1.0}),
        (1, {f"{'ε' * 110} {number}": 1.0 for number in range(6_000)}),
    ],
    ids=["text", "nothing", "list", "negative", "too great", "too long"],
)  # fmt: skip
def test_what_is_no_row_is_refused_at_once(path: Path, iteration: int, values: dict[str, Any]) -> None:
    with Journal(path) as journal:
        with pytest.raises((ValueError, TypeError)):
            journal.hold(iteration, values)
        good = journal.hold(1, {"a": 1.0})
    assert read_all(path) == [good]


def test_a_full_disk_takes_whole_rows_and_the_rest_stays_held(path: Path) -> None:
    with Journal(path) as journal:
        held = [journal.append("note", 1, text="first")]
        start = path.stat().st_size
        held += [journal.hold(iteration, {"loss": 0.5}) for iteration in range(2, 6)]
        seen = JournalReader(path)
        with room_for(start + 250):  # of lines of about a hundred bytes
            for _ in range(2):
                with pytest.raises(OSError, match="space") as caught:
                    journal.flush()
                assert caught.value.errno == errno.ENOSPC
                assert read_all(path) == held[: journal.seq]
                assert 1 < journal.seq < 5
            with pytest.raises(OSError, match="space"):
                journal.append("note", 6, text="last")
            found = seen.read()
        last = journal.append("note", 6, text="last")
        found += seen.read()
        assert not seen.restarted
    assert found == read_all(path) == [*held, last]
    assert [record["seq"] for record in found] == [1, 2, 3, 4, 5, 6]


def test_rows_for_a_journal_that_was_removed_stay_held_and_it_is_said(path: Path) -> None:
    with Journal(path) as journal:
        journal.append("metrics", 1, values={"a": 1.0})
        journal.hold(2, {"a": 1.0})
        journal.flush()
        journal.hold(3, {"a": 1.0})
        path.unlink()
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                journal.flush()
        with pytest.raises(FileNotFoundError):
            journal.append("metrics", 4, values={"a": 1.0})
        assert journal.seq == 2


def test_rows_of_one_thread_and_records_of_others_are_all_there_once(path: Path) -> None:
    done = threading.Event()

    def interfere(name: str) -> None:
        count = 0
        while not done.is_set():
            journal.flush(wait=name == "0")
            if count < 200:
                journal.append("note", count, text=name)
            count += 1

    with Journal(path) as journal:
        threads = [threading.Thread(target=interfere, args=(str(number),)) for number in range(3)]
        for thread in threads:
            thread.start()
        for iteration in range(1, 5_001):
            journal.hold(iteration, {"loss": 0.5})
        done.set()
        for thread in threads:
            thread.join()
    records = read_all(path)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    rows = [record["iteration"] for record in records if record["kind"] == "metrics"]
    assert rows == list(range(1, 5_001))
    for name in "012":
        notes = [record["iteration"] for record in records if record.get("text") == name]
        assert notes == list(range(len(notes)))


def test_a_row_that_comes_while_others_are_written_is_written_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, to_come = os.write, [3, 4]

    def meanwhile(descriptor: int, data: bytes) -> int:
        if to_come:  # from the thread that trains, while another writes
            journal.hold(to_come.pop(0), {"loss": 0.5})
        return real_write(descriptor, data)

    monkeypatch.setattr(journal_module.os, "write", meanwhile)
    with Journal(path) as journal:
        journal.hold(1, {"loss": 0.5})
        journal.hold(2, {"loss": 0.5})
        journal.flush()
        journal.append("note", 9, text="well")
        journal.append("note", 9, text="again")
    assert [record["iteration"] for record in read_all(path)] == [1, 2, 3, 9, 4, 9]


def test_who_can_not_wait_does_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, may_write = threading.Event(), threading.Event()
    real_write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        writing.set()
        assert may_write.wait(10)
        return real_write(descriptor, data)

    monkeypatch.setattr(journal_module.os, "write", slow)
    with Journal(path) as journal:
        journal.hold(1, {"loss": 0.5})
        other = threading.Thread(target=journal.flush)
        other.start()
        assert writing.wait(10)
        journal.hold(2, {"loss": 0.5})
        journal.flush(wait=False)
        assert path.read_bytes() == b""
        may_write.set()
        other.join()
        assert [row["iteration"] for row in read_all(path)] == [1]
        journal.flush(wait=False)
        assert [row["iteration"] for row in read_all(path)] == [1, 2]
