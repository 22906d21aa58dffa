"""A journal that is cut, flipped, zeroed and shortened; requests and checkpoints too: nothing is misread."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from victims import Figure, MakeRun, Times, iterations_done, records, rows
from warm_parent import WarmParent

from metarl_tui.app.follow import Follower
from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.heartbeat import Heart
from metarl_tui.runs.journal import Journal, JournalReader, last_records, newest
from metarl_tui.runs.records import Record
from metarl_tui.runs.requests import pending, send
from metarl_tui.tape_reading import read_tape


def write_example(path: Path, iterations: int = 20) -> list[Record]:
    with Journal(path) as journal:
        written = [journal.append("status", 0, state="started", versions={"torch": "2.6"})]
        for iteration in range(1, iterations + 1):
            values = {"train/loss": 0.5 / iteration, "eval/return_mean": float("nan"), "ε": iteration}
            written.append(journal.append("metrics", iteration, values=values))
        changes = {"clip_epsilon": [0.2, 0.1]}
        control = {"request": "r1", "action": "set", "result": "applied", "changes": changes}
        written.append(journal.append("control", iterations, **control))
        written.append(journal.append("note", iterations, text="475 reached – “well”"))
    return written


def read_all(path: Path, max_bytes: int = 4 << 20) -> tuple[list[Record], JournalReader]:
    reader = JournalReader(path)
    found = reader.read(max_bytes)
    while not reader.at_end:
        found += reader.read(max_bytes)
    return found, reader


def test_the_journal_cut_at_every_byte_of_its_last_records(tmp_path: Path, figure: Figure) -> None:
    path = tmp_path / "journal.jsonl"
    written = write_example(path, 3)
    data = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    cuts = range(ends[-4], len(data) + 1)
    for cut in cuts:
        folder = tmp_path / str(cut)
        folder.mkdir()
        torn = folder / "journal.jsonl"
        torn.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        reader = JournalReader(torn)
        assert reader.read() == written[:whole]
        kept = whole + (cut + 1 in ends)  # only the newline is missing: the record is all there
        for text in ("on", "again"):
            with Journal(torn) as journal:
                journal.append("note", 9, text=text)
        found, again = read_all(torn)
        assert found[:kept] == written[:kept]
        assert [record.get("text") for record in found[kept:]] == ["on", "again"]
        assert again.damaged == 0
        assert [record["seq"] for record in reader.read()] == list(range(whole + 1, kept + 3))
        assert not reader.restarted
        aside = [file.read_bytes() for file in folder.glob("journal.torn-*")]
        assert aside == ([] if kept > whole or cut in ends else [data[ends[whole - 1] : cut]])
    figure("journal cut at every byte of its last 3 records", len(cuts), "nothing else lost, nothing misread")


def test_records_that_a_dead_run_has_lost_at_its_end_are_missed(tmp_path: Path, figure: Figure) -> None:
    """A cut between two lines leaves a journal without fault; the heartbeat knows how far it went."""
    count = 0
    for lost in range(1, 6):
        folder = RunFolder.create(tmp_path, RunConfig(trainer="ppo"))
        written = write_example(folder.journal)
        Heart(folder, journaled=len(written)).stop()
        lines = folder.journal.read_bytes().splitlines(keepends=True)
        folder.journal.write_bytes(b"".join(lines[:-lost]))
        follower = Follower(folder, folder.config)
        follower.look()
        assert follower.damaged == read_tape(folder).damaged == lost
        with Journal(folder.journal, at_least=len(written)) as journal:
            assert journal.missing == lost
            assert journal.append("note", 21, text="on")["seq"] == len(written) + 1
        found, reader = read_all(folder.journal)
        assert found[:-1] == written[:-lost]
        assert reader.damaged == lost
        follower.look(at_once=True)
        assert follower.damaged == read_tape(folder).damaged == lost
        count += lost
    figure(
        "records cut from the end at a line's boundary", count, f"{count} missed, before and after a resume"
    )


def mutate(data: bytes, random_source: random.Random) -> bytes:
    """``data`` cut, with flipped bits, a zeroed block, a line deleted, or bytes put in."""
    position = random_source.randrange(len(data))
    match random_source.randrange(5):
        case 0:
            return data[:position]
        case 1:
            changed = bytearray(data)
            for _ in range(random_source.randint(1, 5)):
                changed[random_source.randrange(len(data))] ^= 1 << random_source.randrange(8)
            return bytes(changed)
        case 2:
            length = random_source.choice([1, 16, 512, 4096])
            return data[:position] + bytes(min(length, len(data) - position)) + data[position + length :]
        case 3:
            lines = data.splitlines(keepends=True)
            del lines[random_source.randrange(len(lines))]
            return b"".join(lines)
        case _:
            return data[:position] + random_source.randbytes(random_source.randint(1, 40)) + data[position:]


def test_a_journal_at_random_harmed_is_never_read_as_another(
    tmp_path: Path, times: Times, figure: Figure
) -> None:
    folder = RunFolder.create(tmp_path, RunConfig(trainer="ppo"))
    path = folder.journal
    written = write_example(path)
    Heart(folder, journaled=len(written)).stop()
    data, random_source = path.read_bytes(), random.Random(5)
    count, uncounted, invented = times(10_000), 0, 0
    for turn in range(count):
        path.write_bytes(mutate(data, random_source))
        found, _ = read_all(path, max_bytes=random_source.choice([1, 700, 1 << 20]))
        invented += any(record not in written for record in found)
        last_records(path)
        newest(path, "status")
        if turn % 20 == 0:
            follower = Follower(folder, folder.config)
            follower.take(follower.look(at_once=True))
            uncounted += found != written and not follower.damaged
        if turn % 5 == 0:
            with Journal(path, at_least=len(written)) as journal:
                journal.append("note", 99, text="on")
            again, reader = read_all(path)
            assert again[-1]["text"] == "on"
            assert [record for record in again if record in written][: len(found)] == found
            uncounted += found != written and again[:-1] != written and not reader.damaged
            for aside in path.parent.glob("journal.torn-*"):
                aside.unlink()
    figure(
        "random mutations of a journal", count,
        f"no exception, {invented} invented rows, {uncounted} times damage not counted",
    )  # fmt: skip
    assert invented == 0
    assert uncounted == 0


def test_requests_at_random_harmed_are_never_carried_out_as_others(
    tmp_path: Path, times: Times, figure: Figure
) -> None:
    folder = RunFolder.create(tmp_path, RunConfig(trainer="ppo"))
    sent = send(folder, "set", {"clip_epsilon": 0.125, "learning_rate": 2.5e-4})
    path = folder.requests / sent.file
    data, random_source = path.read_bytes(), random.Random(1)
    count, invented, passed_over = times(10_000), 0, 0
    for _ in range(count):
        path.write_bytes(mutate(data, random_source))
        bad: list[str] = []
        found = pending(folder, bad)
        invented += found not in ([], [sent])
        passed_over += found == [] and len(bad) == 1
        path.with_name(path.name + ".bad").unlink(missing_ok=True)
    figure("random mutations of a request", count, f"{invented} invented, {passed_over} put aside and named")
    assert invented == 0
    assert passed_over > 0.9 * count


# -- checkpoints ---------------------------------------------------------------------------------------

_FILES = ("weights.safetensors", "state.safetensors", "state.json", "manifest.json")


def _edit_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, random.Random], None]:
    def corrupt(path: Path, _: random.Random) -> None:
        manifest = json.loads((path / "manifest.json").read_bytes())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return corrupt


def _mutated(name: str) -> Callable[[Path, random.Random], None]:
    def corrupt(path: Path, random_source: random.Random) -> None:
        data = (path / name).read_bytes()
        while (changed := mutate(data, random_source)) == data:
            pass
        (path / name).write_bytes(changed)

    return corrupt


def _gone(name: str) -> Callable[[Path, random.Random], None]:
    return lambda path, _: (path / name).unlink()


def _replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def corrupt(path: Path, _: random.Random) -> None:
        (path / name).unlink()
        make(path / name)

    return corrupt


CORRUPTIONS: list[Callable[[Path, random.Random], None]] = [
    *(_mutated(name) for name in _FILES for _ in range(4)),
    *(_gone(name) for name in _FILES),
    *(_replaced(name, lambda path: path.mkdir()) for name in _FILES),
    *(_replaced(name, lambda path: path.symlink_to("/dev/zero")) for name in _FILES),
    *(_replaced(name, lambda path: path.write_bytes(b"")) for name in _FILES),
    _edit_manifest(lambda manifest: manifest.update(format=2)),
    _edit_manifest(lambda manifest: manifest.update(iteration=manifest["iteration"] + 1)),
    _edit_manifest(lambda manifest: manifest["files"].pop("state.json")),
    _edit_manifest(lambda manifest: manifest["files"]["state.json"].update(bytes=1 << 60)),
    _edit_manifest(lambda manifest: manifest["files"]["state.json"].update(sha256="0" * 64)),
    _edit_manifest(lambda manifest: manifest.clear()),
]
"""Ways in which a checkpoint's folder may be not as it was written."""


@pytest.fixture
def saved_run(make_run: MakeRun, warm: WarmParent) -> RunFolder:
    """A run that was killed with checkpoints of several iterations."""
    run = make_run("ppo")
    patches = {"metarl_tui.worker.saving:COST_SHARE": 1e9, "metarl_tui.worker.saving:LEAST_SECONDS": 0.0}
    assert warm.start("train", str(run.path), patches=patches).wait() == 0
    return run


def test_the_newest_checkpoint_corrupted_in_many_ways(
    saved_run: RunFolder, tmp_path: Path, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(3)
    *_, previous, last = checkpoints.listed(saved_run)
    whole = rows(saved_run)
    count, used, said = times(100), 0, 0
    picked = random_source.sample(CORRUPTIONS, len(CORRUPTIONS)) * (count // len(CORRUPTIONS) + 1)
    for number, corrupt in enumerate(picked[:count]):
        copy = RunFolder(tmp_path / f"copy-{number}")
        shutil.copytree(saved_run.path, copy.path)
        corrupt(copy.checkpoints / last.path.name, random_source)
        assert warm.start("train", str(copy.path)).wait() == 0
        resumed = [record["from"] for record in records(copy, "resumed")]
        used += resumed == [previous.iteration] and rows(copy) == whole
        notes = [event.text for event in read_tape(copy).events if event.kind == "note"]
        said += any(f"checkpoint {last.path.name} is damaged" in note for note in notes)
        shutil.rmtree(copy.path)
    figure(
        "newest checkpoint corrupted", count,
        f"{used} of {count} went on from the one before, {said} of {count} say so",
    )  # fmt: skip
    assert used == said == count
    assert iterations_done(saved_run) == last.iteration


def test_a_request_by_hand_needs_no_checksum_but_must_be_whole(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, RunConfig(trainer="ppo"))
    fields = orjson.dumps({"id": "mine-1", "time": 0, "action": "set", "changes": {"gamma": 0.9}})
    for cut in range(1, len(fields)):
        (folder.requests / "mine.json").write_bytes(fields[:cut])
        assert pending(folder) == []
