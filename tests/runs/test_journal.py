from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import orjson
import pytest

from metarl_tui.runs import journal as journal_module
from metarl_tui.runs.journal import Journal, JournalReader, last_records, newest, number
from metarl_tui.runs.records import LONGEST_LINE, to_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write_example(path: Path, rows: int = 6) -> list[dict[str, Any]]:
    with Journal(path) as journal:
        records = [journal.append("status", 0, state="started", versions={"torch": "2.6"})]
        for iteration in range(1, rows + 1):
            values = {"train/loss": 0.5 / iteration, "eval/return_mean": float("nan"), "ε": iteration}
            records.append(journal.append("metrics", iteration, values=values))
        changes = {"clip_epsilon": [0.2, 0.1]}
        records.append(
            journal.append("control", rows, request="r1", action="set", result="applied", changes=changes)
        )
        records.append(journal.append("note", rows, text="475 reached – “well”"))
    return records


def read_all(path: Path, max_bytes: int = 4 << 20) -> tuple[list[dict[str, Any]], JournalReader]:
    reader = JournalReader(path)
    records = reader.read(max_bytes)
    while not reader.at_end:
        records += reader.read(max_bytes)
    return records, reader


def test_records_come_back_as_they_were_written(path: Path) -> None:
    written = write_example(path)
    records, reader = read_all(path)
    assert records == written
    assert [record["seq"] for record in records] == list(range(1, len(written) + 1))
    assert reader.damaged == 0
    assert all(type(record["time"]) is float for record in records)


def test_values_that_are_not_finite_are_strings_and_numbers_again(path: Path) -> None:
    import numpy as np

    with Journal(path) as journal:
        values = {
            "a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 1, "e": np.float32(0.5),
            "f": np.int64(3), "g": True, "h": 10**30, "i": np.float64("nan"),
        }  # fmt: skip
        record = journal.append("metrics", 1, values=values)
    read = read_all(path)[0][0]["values"]
    assert read == record["values"]
    assert read == {
        "a": "nan",
        "b": "inf",
        "c": "-inf",
        "d": 1,
        "e": 0.5,
        "f": 3,
        "g": 1.0,
        "h": 1e30,
        "i": "nan",
    }
    assert [number(read[key]) for key in "bcd"] == [float("inf"), -float("inf"), 1.0]
    assert number(read["a"]) != number(read["a"])
    assert number("x") != number("x")
    assert number(None) != number(None)


def test_what_no_reader_would_take_is_not_written(path: Path) -> None:
    with Journal(path) as journal:
        for kind, fields in (
            ("metrics", {}), ("metrics", {"values": {"a": "much"}}), ("control", {"action": "set"}),
            ("status", {"state": 3}), ("note", {"text": "x", "more": object()}),
            ("note", {"text": "x", "more": ["y" * 7_000] * 200}), ("", {}),
        ):  # fmt: skip
            with pytest.raises((ValueError, TypeError)):
                journal.append(kind, 1, **fields)
        assert journal.append("note", 1, text="x")["seq"] == 1
    assert len(read_all(path)[0]) == 1


def test_text_is_cleaned_on_the_way_in_and_on_the_way_out(path: Path) -> None:
    hostile = "a\x1b]52;c;AAAA\x07b\x9b31m\u202ec\n[@click=app.bell]d[/]"
    with Journal(path) as journal:
        journal.append("note", 1, text=hostile, **{hostile: [hostile]})
        journal.append("metrics", 1, values={hostile: 1.0})
    line = {"seq": 3, "time": 1, "iteration": 1}
    with path.open("ab") as file:
        file.write(
            orjson.dumps({**line, "kind": "metrics", "values": {hostile: 1, "k" * 1_000_000: 2}}) + b"\n"
        )
    unsealed = path.read_bytes().splitlines()[-1] + b"\n"
    path.with_name("unsealed").write_bytes(
        unsealed + orjson.dumps({**line, "seq": 4, "kind": hostile}) + b"\n"
    )
    for file in (path, path.with_name("unsealed")):
        text = repr(read_all(file)[0])
        assert not any(bad in text for bad in ("\\x1b", "\\x9b", "\\u202e", "\\n", "\x1b"))
    assert max(map(len, read_all(path.with_name("unsealed"))[0][0]["values"])) <= 120


def test_a_bad_line_in_the_middle_is_skipped_and_counted(path: Path) -> None:
    written = write_example(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for bad in (
        b"\xff\xfe\n",
        b"[1]\n",
        b"\0" * 300 + b"\n",
        b"[" * 5_000 + b"\n",
        b"{}\n",
        b"\n",
        lines[2][:-30] + b"\n",
    ):
        path.write_bytes(b"".join([*lines[:2], bad, *lines[3:]]))
        records, reader = read_all(path)
        assert records == written[:2] + written[3:]
        assert reader.damaged == 1


def test_a_flipped_bit_never_gives_another_row(path: Path) -> None:
    written = write_example(path, rows=2)
    data = bytearray(path.read_bytes())
    lines = data.splitlines(keepends=True)
    start = 0
    for index, line in enumerate(lines):
        for position in range(start, start + len(line) - 1):
            bit = 1 << position % 7
            data[position] ^= bit
            path.write_bytes(data)
            records, reader = read_all(path)
            assert records == written[:index] + written[index + 1 :], position
            assert reader.damaged == (1 + (data[position] == 10)), position
            data[position] ^= bit
        start += len(line)


def test_a_journal_that_something_else_wrote_needs_no_checksums(path: Path) -> None:
    records = [
        {"seq": seq, "time": 1.0, "iteration": seq, "kind": "metrics", "values": {"a": seq}}
        for seq in range(9)
    ]
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    assert read_all(path)[0] == records
    with Journal(path) as journal:
        more = [journal.append("metrics", seq, values={"a": seq}) for seq in range(9, 12)]
    found, reader = read_all(path, max_bytes=100)
    assert found == records + more
    assert reader.damaged == 0


def test_deleted_lines_and_repeated_lines_are_counted(path: Path) -> None:
    written = write_example(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[5:]))
    records, reader = read_all(path)
    assert (records, reader.damaged) == (written[:2] + written[5:], 3)
    path.write_bytes(b"".join(lines[:3] + lines[1:]))
    records, reader = read_all(path)
    assert (records, reader.damaged) == (written, 2)


@pytest.mark.parametrize(
    "record",
    [
        {"seq": True}, {"seq": -1}, {"seq": 10**30}, {"seq": "1"}, {"time": None}, {"time": 1e300},
        {"time": -1},
        {"iteration": -1}, {"iteration": 1.0}, {"iteration": "1"}, {"iteration": None}, {"iteration": 10**18},
        {"kind": 3}, {"kind": ""}, {"kind": None}, {"values": None}, {"values": [1]}, {"values": {"a": None}},
        {"values": {"a": True}}, {"values": {"a": "NaN"}}, {"values": {"a": [1]}}, {"values": {"a": {}}},
        {"kind": "note"}, {"kind": "note", "text": 1}, {"kind": "resumed"}, {"kind": "resumed", "from": -1},
        {"kind": "status"}, {"kind": "checkpoint", "name": 1}, {"kind": "control", "action": "set"},
        {"kind": "control", "result": "applied", "changes": {"a": 1}}, {"more": [[[[[[[[[[1]]]]]]]]]]},
    ],
)  # fmt: skip
def test_records_that_are_not_what_they_should_be_are_damage(path: Path, record: dict[str, Any]) -> None:
    good = {"seq": 1, "time": 1.0, "iteration": 1, "kind": "metrics", "values": {"a": 1.0}}
    path.write_bytes(orjson.dumps(good) + b"\n" + orjson.dumps({**good, "seq": 2, **_plain(record)}) + b"\n")
    records, reader = read_all(path)
    assert records == [good]
    assert reader.damaged == 1


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: float(value) if isinstance(value, int) and value > 1 << 64 else value
        for name, value in record.items()
    }


def test_kinds_and_fields_of_later_versions_are_passed_on(path: Path) -> None:
    with Journal(path) as journal:
        journal.append("picture", 3, type="curve", points=[[0.0, 1.0], [1.0, float("nan")]])
        journal.append("metrics", 4, values={"a": 1.0}, thinned={"a": [0.5, 2.0]})
    picture, row = read_all(path)[0]
    assert picture["points"] == [[0.0, 1.0], [1.0, "nan"]]
    assert row["thinned"] == {"a": [0.5, 2.0]}


def test_following_a_growing_journal_byte_by_byte(tmp_path: Path, path: Path) -> None:
    written = write_example(path, rows=2)
    growing = tmp_path / "growing.jsonl"
    reader = JournalReader(growing)
    assert reader.read() == []
    assert reader.at_end
    seen = []
    with growing.open("ab", buffering=0) as file:
        for byte in path.read_bytes():
            file.write(bytes([byte]))
            new = reader.read()
            assert len(new) == (byte == 10)
            seen += new
    assert seen == written
    assert reader.damaged == 0


def test_a_file_that_shrank_or_was_replaced_is_read_from_its_start(tmp_path: Path, path: Path) -> None:
    written = write_example(path)
    other = tmp_path / "other"
    write_example(other, rows=40)
    reader = JournalReader(path)
    assert reader.read() == written
    assert not reader.restarted
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    assert reader.read() == written[:2]
    assert reader.restarted
    assert reader.read() == []
    assert not reader.restarted
    path.write_bytes(other.read_bytes())  # same file, longer, another content
    assert len(reader.read()) == 43
    assert reader.restarted
    path.unlink()
    assert reader.read() == []
    path.write_bytes(other.read_bytes())
    assert reader.read() == []
    assert not reader.restarted


def test_lines_without_end_use_no_memory_and_stop_nobody(path: Path) -> None:
    written = write_example(path, rows=2)
    data = path.read_bytes()
    path.write_bytes(data + b"x" * (3 * LONGEST_LINE))
    records, reader = read_all(path, max_bytes=1 << 16)
    assert records == written
    assert reader.damaged == 1
    with path.open("ab") as file:
        file.write(b"\n")
    with Journal(path) as journal:
        record = journal.append("note", 3, text="on")
    assert reader.read() == [record]
    assert reader.damaged == 1


def test_starting_at_the_end_or_within_the_tail(path: Path) -> None:
    written = write_example(path, rows=50)
    reader = JournalReader(path)
    reader.seek_end()
    assert reader.read() == []
    with Journal(path) as journal:
        new = journal.append("note", 51, text="new")
    assert reader.read() == [new]
    assert reader.damaged == 0
    size = path.stat().st_size
    for window in (0, 1, 100, 1000, size - 1, size, size * 2):
        found = last_records(path, window)
        assert found == [*written, new][len(written) + 1 - len(found) :]
        assert sum(len(orjson.dumps(record)) for record in found) <= window
    assert len(last_records(path, size)) == len(written) + 1
    assert last_records(path.with_name("none")) == []


def test_the_newest_record_of_a_kind(path: Path) -> None:
    assert newest(path, "status") is None
    write_example(path)
    with Journal(path) as journal:
        running = journal.append("status", 9, state="running")
        journal.append("note", 9, text='says "status" too')
    assert newest(path, "status") == running
    with path.open("ab") as file:
        file.write(b'{"kind":"status"')
    assert newest(path, "status") == running
    assert newest(path, "resumed") is None


def test_a_full_disk_leaves_no_part_of_a_record(path: Path) -> None:
    with Journal(path) as journal:
        first = journal.append("note", 1, text="first")
        before = path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 40, hard))  # cuts the next write short
        try:
            for _ in range(2):
                with pytest.raises(OSError, match="space") as caught:
                    journal.append("note", 2, text="second")
                assert caught.value.errno == errno.ENOSPC
                assert path.stat().st_size == before
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        second = journal.append("note", 2, text="second")
    assert read_all(path)[0] == [first, second]
    assert second["seq"] == 2


def test_when_even_cutting_back_fails_the_next_append_does_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    real_write = os.write
    with Journal(path) as journal:
        journal.append("note", 1, text="first")
        with monkeypatch.context() as patch:
            patch.setattr(
                journal_module.os, "write", lambda descriptor, data: real_write(descriptor, data[:9])
            )
            patch.setattr(journal_module.os, "ftruncate", refuse)
            for _ in range(2):
                with pytest.raises(OSError, match=r"space|Input"):
                    journal.append("note", 2, text="second")
        journal.append("note", 2, text="second")
    records, reader = read_all(path)
    assert [record["text"] for record in records] == ["first", "second"]
    assert reader.damaged == 0


def test_every_record_is_one_write(path: Path, writes: list[bytes]) -> None:
    write_example(path)
    assert b"".join(writes) == path.read_bytes()
    assert all(data.count(b"\n") == 1 for data in writes)


def test_a_journal_whose_folder_was_removed_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Journal(folder / "journal.jsonl") as journal:
        journal.append("note", 1, text="x")
        (folder / "journal.jsonl").unlink()
        with pytest.raises(FileNotFoundError):
            journal.append("note", 2, text="y")


def test_links_and_pipes_are_not_journals(tmp_path: Path, path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious\n")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Journal(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="regular file"):
        Journal(path)
    reader = JournalReader(path)
    assert reader.read() == []
    assert reader.at_end
    assert reader.problem == "not a regular file"
    assert last_records(path) == []
    assert newest(path, "note") is None


def test_opening_reads_only_the_tail_of_a_large_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(path, rows=3_000)
    read = []
    real_pread = os.pread
    monkeypatch.setattr(
        os,
        "pread",
        lambda descriptor, size, offset: read.append(size) or real_pread(descriptor, size, offset),
    )
    with Journal(path) as journal:
        assert journal.seq == 3_003
    assert sum(read) < path.stat().st_size / 2


def test_a_journal_that_was_renamed_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("note", 0, text="here")
        path.rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError, match="the journal was removed"):
            journal.append("note", 0, text="where?")
        path.write_bytes(b"")
        journal.hold(1, {"loss": 0.5})
        with pytest.raises(FileNotFoundError, match="another file is in the journal's place"):
            journal.flush()
        path.unlink()
        (tmp_path / "away").rename(path)
        journal.flush()
    assert [record["kind"] for record in JournalReader(path).read()] == ["note", "metrics"]


@pytest.mark.parametrize("claimed", [2**53 - 1, 2**53 - 2])
def test_a_journal_that_claims_to_have_no_number_left_is_refused(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(to_line({"seq": claimed, "time": 0.0, "iteration": 0, "kind": "note", "text": ""}))
    with pytest.raises(OSError, match=f"its last record has the number {claimed}"):
        Journal(path)
    with pytest.raises(OSError, match=f"its last record has the number {claimed}"):
        Journal(tmp_path / "another", at_least=claimed)
