"""When rows are written: at once where they are few, together where they are many, and in any case soon."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from small_runs import MakeRun, metrics, records, states, train_here, wait_until

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.heartbeat import Heart, read_heartbeat
from metarl_tui.runs.journal import Journal, last_records
from metarl_tui.worker import writer
from metarl_tui.worker.writer import Writer

LONG = 1e9
"""Seconds; rows that are held so long are written for other reasons only."""


@pytest.fixture
def long_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "OFTEN_SECONDS", LONG)
    monkeypatch.setattr(writer, "HOLD_SECONDS", LONG)


@contextmanager
def writing(folder: RunFolder, *, attended: bool = True, observer: Any = None) -> Iterator[Writer]:
    """A writer of the journal, with a heart that beats often."""
    with Journal(folder.journal) as journal, Heart(folder, interval=0.02) as heart:
        record = Writer(journal, attended, observer)
        record.heart, heart.before = heart, record.keep
        yield record
        heart.stop()


def iterations(folder: RunFolder) -> list[int]:
    return [record["iteration"] for record in records(folder)]


@contextmanager
def full_disk(folder: RunFolder, room: int = 0) -> Iterator[Callable[[], None]]:
    """Only ``room`` bytes more can be written to the journal; yields what frees space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (folder.journal.stat().st_size + room, hard))
    try:
        yield free
    finally:
        free()


def test_few_rows_are_written_at_once_and_many_together(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    now, there = 1_000_000.0, []
    monkeypatch.setattr("metarl_tui.runs.journal.time.time", lambda: now)
    monkeypatch.setattr(writer, "HOLD_SECONDS", 0.0115)
    with Journal(run.journal) as journal:
        record = Writer(journal, True, None)
        hour = 3_600.0
        for passes in (
            0.011,
            0.011,
            0.003,
            0.003,
            0.003,
            0.003,
            0.003,
            0.011,
            0.003,
            -hour,
            0.003,
            hour,
            0.003,
        ):
            now += passes
            record.row(len(there) + 1, {"loss": 0.5})
            there.append(len(iterations(run)))
        assert there == [1, 2, 2, 2, 2, 6, 6, 8, 8, 10, 10, 12, 12]
        record("note", 14, text="solved")
    assert iterations(run) == list(range(1, 15))


def test_the_heartbeat_writes_rows_that_would_wait(make_run: MakeRun, long_held: None) -> None:
    run = make_run()
    heard: list[int] = []
    with writing(run, observer=lambda record: heard.append(record["seq"])) as record:
        record("note", 0, text="begun")
        record.row(1, {"loss": 0.5})
        record.row(2, {"loss": 0.5})
        wait_until(lambda: iterations(run) == [0, 1, 2])
        assert heard == [1]  # the training thread alone tells
        wait_until(lambda: (beat := read_heartbeat(run)) and beat.journaled == 3)
        record.row(3, {"loss": 0.5})
        record.flush()
        assert heard == [1, 2, 3, 4]


def test_the_heartbeat_never_counts_what_is_not_on_the_disk(make_run: MakeRun) -> None:
    run = make_run()
    done = threading.Event()
    counts, wrong = [0], []

    def look() -> None:
        while not done.is_set():
            beat = read_heartbeat(run)
            there = last_records(run.journal)
            if beat and beat.journaled:
                counts.append(beat.journaled)
                if not there or there[-1]["seq"] < beat.journaled:
                    wrong.append((beat.journaled, there[-1:]))

    looker = threading.Thread(target=look)
    with writing(run) as record, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "HOLD_SECONDS", 0.05)
        looker.start()
        for iteration in range(1, 1_000):
            record.row(iteration, {"loss": 0.5})
            time.sleep(0.0005)
        record.flush()
    done.set()
    looker.join()
    beat = read_heartbeat(run)
    assert beat is not None
    assert beat.journaled == 999
    assert not wrong
    assert len(set(counts)) > 5


def test_observers_hear_of_every_record_once_it_is_written_and_in_order(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "HOLD_SECONDS", 0.05)
    run = make_run()
    heard: list[dict[str, Any]] = []

    def observe(record: dict[str, Any]) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert last_records(run.journal)[-1]["seq"] >= record["seq"]
        heard.append(record)

    assert train_here(run, observer=observe) == 0
    assert heard == records(run)


def test_a_full_disk_is_waited_for_with_the_rows_held(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, long_held: None
) -> None:
    run = make_run()
    heard: list[dict[str, Any]] = []
    said: list[str] = []
    with writing(run, observer=heard.append) as record:
        record("note", 0, text="begun")
        for how in (record.flush, lambda: record("note", 9, text="more")):
            with full_disk(run, room=150) as free:

                def wait(seconds: float, free: Callable[[], None] = free) -> None:
                    assert record.heart is not None
                    said.append(record.heart.message)
                    if len(said) % 3 == 0:
                        free()

                monkeypatch.setattr(writer.time, "sleep", wait)
                for iteration in range(1, 5):
                    record.row(iteration, {"loss": 0.5})
                how()
        assert record.heart is not None
        assert (len(said), set(said)) == (6, {"waiting: no space left on the disk"})
        assert record.heart.message == ""
    assert iterations(run) == [0, 1, 2, 3, 4, 1, 2, 3, 4, 9]
    assert heard == records(run)


def test_a_full_disk_that_is_not_waited_for_loses_no_row_that_can_be_written_later(
    make_run: MakeRun, long_held: None
) -> None:
    run = make_run()
    heard: list[dict[str, Any]] = []
    with writing(run, attended=False, observer=heard.append) as record:
        record("note", 0, text="begun")
        with full_disk(run, room=150):
            for iteration in range(1, 5):
                record.row(iteration, {"loss": 0.5})
            for attempt in (record.flush, lambda: record("note", 5, text="more")):
                with pytest.raises(OSError, match="space") as caught:
                    attempt()
                assert caught.value.errno == errno.ENOSPC
            record.keep()
            assert not record.once("note", 6, text="more")
        record("status", 7, state="failed")
    assert iterations(run) == [0, 1, 2, 3, 4, 7]
    assert heard == records(run)


@pytest.mark.parametrize(("env", "end"), [("CartPole-v1", "finished"), ("hostile:Raises", "failed")])
def test_a_run_that_ends_has_all_its_rows(
    make_run: MakeRun, long_held: None, env: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(env=env)
    ahead: list[int] = []
    save = checkpoints.save

    def look(folder: RunFolder, iteration: int, *arguments: Any) -> Any:
        ahead.append(iteration - max(metrics(folder), default=0))
        return save(folder, iteration, *arguments)

    monkeypatch.setattr(checkpoints, "save", look)
    monkeypatch.setattr("metarl_tui.worker.saving.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("metarl_tui.worker.saving.COST_SHARE", 1e9)
    train_here(run)
    assert states(run)[-1] == end
    last = records(run, "status")[-1]["iteration"]
    assert list(metrics(run)) == list(range(1, last + 1))
    assert last >= 2
    assert len(ahead) >= 2
    assert max(ahead) <= 0  # no checkpoint is ahead of the journal


def test_a_run_that_waits_for_its_pace_holds_no_row_back(make_run: MakeRun, long_held: None) -> None:
    run = make_run(options={"pace": 0.001})
    began = time.monotonic()

    def observe(record: dict[str, Any]) -> None:
        if record["kind"] == "metrics":
            requests.send(run, "set", {"pace": 500})

    assert train_here(run, observer=observe) == 0
    assert time.monotonic() - began < 30
    assert records(run, "control")[0]["iteration"] == 2


HANGING = """
import functools, sys
from pathlib import Path
from metarl_tui.headless import train_here
from metarl_tui.runs.folder import RunFolder
from metarl_tui.worker import interruption, loop, writer
writer.OFTEN_SECONDS = writer.HOLD_SECONDS = 1e9
interruption.PATIENCE_SECONDS = float(sys.argv[3])
loop.Heart = functools.partial(loop.Heart, interval=float(sys.argv[2]))
sys.exit(train_here(RunFolder(Path(sys.argv[1]))))
"""


@contextmanager
def hanging(folder: RunFolder, *, beats: float, patience: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds each row until something else has it written, once it hangs."""
    command = [sys.executable, "-c", HANGING, str(folder.path), str(beats), str(patience)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: "running" in states(folder) or process.poll() is not None)
            wait_until(lambda: _is_idle(psutil.Process(process.pid)))
            yield process
        finally:
            process.kill()


def _is_idle(process: psutil.Process) -> bool:
    used = process.cpu_times()
    time.sleep(0.5)
    return process.cpu_times()[:2] == used[:2]


@pytest.fixture
def stuck(make_run: MakeRun) -> RunFolder:
    """A run whose third iteration never ends."""
    return make_run(env="hostile:Hangs", vector="sync", total_steps=10_000_000, eval_every=None)


def test_an_iteration_that_hangs_holds_no_row_back(stuck: RunFolder) -> None:
    with hanging(stuck, beats=1.0) as process:
        wait_until(lambda: list(metrics(stuck)) == [1, 2], 10)
        assert process.poll() is None


def test_what_is_given_up_has_its_rows(stuck: RunFolder) -> None:
    with hanging(stuck, beats=3_600, patience=0.5) as process:
        assert metrics(stuck) == {}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert list(metrics(stuck)) == [1, 2]
    assert "given up" in records(stuck, "status")[-1]["why"]


def test_a_second_ctrl_c_leaves_with_the_rows_written(stuck: RunFolder) -> None:
    with hanging(stuck, beats=3_600) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert metrics(stuck) == {}
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    assert list(metrics(stuck)) == [1, 2]


def test_kill_9_loses_what_was_held_and_nothing_else(stuck: RunFolder) -> None:
    with hanging(stuck, beats=3_600) as process:
        before = records(stuck)
        process.kill()
        process.wait(5)
    assert records(stuck) == before
    assert states(stuck)[-1] == "running"
    beat = read_heartbeat(stuck)
    assert beat is not None
    assert beat.journaled <= before[-1]["seq"]
