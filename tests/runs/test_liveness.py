from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from child_processes import first_line, kill

from metarl_tui.runs import heartbeat, liveness, process
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.heartbeat import SIZE, Heart, read_heartbeat
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import Observer, Standing, observe
from metarl_tui.runs.process import is_alive, own_identity, read_worker, write_launched, write_worker


def test_a_process_is_known_by_more_than_its_number() -> None:
    own = own_identity()
    assert is_alive(own) is True
    assert is_alive(replace(own, start_time=own.start_time + 1)) is False
    assert is_alive(replace(own, boot_id="another")) is False
    assert is_alive(replace(own, host="another")) is None
    assert is_alive(replace(own, namespace="another")) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while process.start_time(ended.pid) is not None:  # until it is a zombie, which trains nothing
        time.sleep(0.01)
    ended.wait()


def test_a_worker_is_recorded(run: RunFolder) -> None:
    assert read_worker(run) is None
    with Journal(run.journal) as journal:
        journal.append("note", 1, text="x")
    identity = write_worker(run)
    worker = read_worker(run)
    assert worker is not None
    assert (worker.identity, worker.seq) == (identity, 1)
    content = orjson.loads(run.worker.read_bytes())
    for bad in (
        b"",
        b"[]",
        b"{}",
        b"\xff",
        orjson.dumps({**content, "pid": -1}),
        orjson.dumps({**content, "host": 3}),
    ):
        run.worker.write_bytes(bad)
        assert read_worker(run) is None


def test_a_heartbeat_has_a_fixed_size_and_says_how_far_the_worker_is(run: RunFolder) -> None:
    with Heart(run, interval=0.01) as heart:
        first = read_heartbeat(run)
        inode = run.heartbeat.stat().st_ino
        for iteration in range(1, 4):
            heart.boundary(iteration)
        heart.message = "“ε” \\ \x1b[31m\n" * 100
        heart.state = "paused"
        deadline = time.monotonic() + 5
        while (beat := read_heartbeat(run)) is None or not beat.message:
            assert time.monotonic() < deadline
    assert first is not None
    assert (first.iteration, first.state, first.message, first.pid) == (0, "", "", os.getpid())
    assert (beat.iteration, beat.state) == (3, "paused")
    assert "\x1b" not in beat.message
    assert beat.beat > first.beat
    assert beat.monotonic >= first.monotonic
    assert (run.heartbeat.stat().st_size, run.heartbeat.stat().st_ino) == (SIZE, inode)
    content = run.heartbeat.read_bytes()
    for bad in (b"", content[:100], content.replace(b'"iteration":3', b'"iteration":4'), b"x" * 10_000):
        run.heartbeat.write_bytes(bad)
        assert read_heartbeat(run) is None


def test_a_wait_does_not_count_as_an_iteration(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    with Heart(run, interval=60) as heart:
        for iteration in range(1, 6):
            clock[0] += 2.0
            heart.boundary(iteration)
        clock[0] += 500.0
        heart.boundary(5)
        heart.beat()
        beat = read_heartbeat(run)
        assert beat is not None
        assert (beat.median_iteration, beat.since_boundary, heart.median_iteration) == (2.0, 0.0, 2.0)


class Bench:
    """A run with a worker that is this process, whose clock can be moved."""

    def __init__(self, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = run
        self.now = time.monotonic()
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: self.now)
        self.identity = write_worker(run)
        self.journal = Journal(run.journal)
        self.heart = Heart(run, interval=3600)
        self.observer = Observer(run)

    def says(self, state: str, why: str = "") -> None:
        self.journal.append("status", 3, state=state, why=why)

    def is_elsewhere(self, **identity: Any) -> None:
        content = {**orjson.loads(run_worker := self.run.worker.read_bytes()), **identity}
        assert run_worker
        self.run.worker.write_bytes(orjson.dumps(content))

    def passes(self, seconds: float, beats: bool = True) -> Standing:
        self.now += seconds
        if beats:
            self.heart.beat()
        return self.observer.observe()


@pytest.fixture
def bench(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(run, monkeypatch)
    yield bench
    bench.heart.stop()
    bench.journal.close()


def test_a_worker_here_from_start_to_end(bench: Bench) -> None:
    assert bench.passes(0).state == "starting"
    assert bench.passes(100).state == "starting"
    bench.says("started")
    bench.heart.boundary(0)
    assert bench.passes(0).state == "running"
    bench.heart.boundary(40)
    assert bench.passes(5, beats=False) == Standing("running", "", 3, True)
    assert bench.passes(1) == Standing("running", "", 40, True)
    bench.says("paused", "asked by me")
    assert bench.passes(5000) == Standing("paused", "asked by me", 40, True)
    bench.says("running")
    bench.heart.boundary(40)
    assert bench.passes(50).state == "running"
    for state in ("stopped", "failed", "finished"):
        bench.says(state, "because")
        assert (bench.passes(5000, beats=False).state, bench.passes(0).why) == (state, "because")


def test_no_beat_or_no_boundary_is_stalled_and_comes_back(bench: Bench) -> None:
    bench.says("running")
    assert bench.passes(9, beats=False).state == "running"
    stalled = bench.passes(2, beats=False)
    assert (stalled.state, stalled.alive) == ("stalled", True)
    assert "0:11" in stalled.why
    assert bench.passes(0).state == "running"
    for iteration in range(1, 20):
        bench.heart.boundary(iteration)
    assert bench.passes(59).state == "running"
    assert bench.passes(2).state == "stalled"
    bench.heart.boundary(20)
    assert bench.passes(0).state == "running"


def test_long_iterations_are_not_stalled(bench: Bench) -> None:
    bench.says("running")
    for iteration in range(1, 10):
        bench.now += 30
        bench.heart.boundary(iteration)
    assert bench.passes(299).state == "running"
    assert bench.passes(2).state == "stalled"


def test_the_wall_clock_decides_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.says("running")
    for shift in (86_400.0, -86_400.0):
        moved = time.time() + shift
        monkeypatch.setattr(heartbeat.time, "time", lambda moved=moved: moved)
        assert bench.passes(1).state == "running"
        assert observe(bench.run).state == "running"


def test_a_full_disk_is_told_by_the_heartbeat(bench: Bench) -> None:
    bench.says("running")
    bench.heart.message = "waiting: no space left"
    assert bench.passes(1000) == Standing("paused", "waiting: no space left", 3, True)
    bench.heart.state, bench.heart.message = "paused", "No space left on device"
    assert bench.passes(1000) == Standing("paused", "No space left on device", 3, True)
    bench.heart.state = "running"
    bench.heart.message = ""
    assert bench.passes(1) == Standing("running", "", 3, True)


def test_the_newer_word_counts(bench: Bench) -> None:
    bench.heart.state = "running"
    bench.heart.beat()
    bench.says("paused", "asked")
    assert bench.passes(0, beats=False) == Standing("paused", "asked", 3, True)
    bench.heart.state = "paused"
    bench.heart.beat()
    bench.says("running")
    assert bench.passes(0, beats=False).state == "running"


@pytest.mark.parametrize(
    "identity", [{"start_time": 1.0, "pid": 1}, {"boot_id": "another"}, {"pid": 2**31 - 2}]
)
def test_a_process_that_is_gone_is_lost_unless_it_said_goodbye(
    bench: Bench, identity: dict[str, Any]
) -> None:
    bench.is_elsewhere(**identity)
    lost = bench.passes(0)
    assert (lost.state, lost.alive) == ("lost", False)
    assert "before it had started" in lost.why
    bench.says("running")
    assert (bench.passes(0).state, bench.passes(0).why.endswith("without a word")) == ("lost", True)
    bench.says("stopped", "asked")
    assert bench.passes(0) == Standing("stopped", "asked", 3, False)


@pytest.mark.parametrize("identity", [{"host": "another"}, {"namespace": "another"}])
def test_elsewhere_only_the_heartbeat_tells(bench: Bench, identity: dict[str, Any]) -> None:
    bench.is_elsewhere(**identity)
    bench.says("running")
    first = bench.passes(0, beats=False)
    assert (first.state, first.alive) == ("unknown", False)
    assert bench.observer.watching
    assert bench.passes(1) == Standing("running", "", 3, True)
    assert bench.passes(9, beats=False).state == "running"
    silent = bench.passes(2, beats=False)
    assert (silent.state, silent.alive) == ("unknown", False)
    assert bench.passes(0).state == "running"
    assert bench.passes(61).state == "stalled"
    bench.says("finished")
    assert bench.passes(0).state == "finished"


def test_elsewhere_without_a_beat_is_unknown_after_a_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        bench.now += seconds

    bench.is_elsewhere(host="another")
    bench.says("running")
    monkeypatch.setattr(liveness.time, "sleep", sleep)
    began = bench.now
    assert observe(bench.run).state == "unknown"
    assert 2.9 < bench.now - began < 3.3

    def sleep_while_it_beats(seconds: float) -> None:
        bench.now += seconds
        bench.heart.beat()

    monkeypatch.setattr(liveness.time, "sleep", sleep_while_it_beats)
    assert observe(bench.run).state == "running"


def test_what_an_earlier_worker_said_is_not_this_ones_word(bench: Bench) -> None:
    bench.says("stopped", "asked")
    bench.identity = write_worker(bench.run)
    assert bench.passes(0).state == "starting"
    bench.journal.append("metrics", 4, values={"a": 1.0})
    assert bench.passes(0).state == "running"
    bench.says("paused")
    assert bench.passes(0).state == "paused"


def test_a_status_far_back_in_a_long_journal(bench: Bench) -> None:
    bench.says("running")
    filler = {f"key{number}": 0.5 for number in range(2_000)}
    for iteration in range(1, 80):
        bench.journal.append("metrics", iteration, values=filler)
    assert bench.run.journal.stat().st_size > 1 << 20
    bench.journal.append("metrics", 80, values={"a": 1.0})
    assert Observer(bench.run).observe() == Standing("running", "", 80, True)


def test_a_run_without_a_worker(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert observe(run) == Standing("starting", "", 0, False)
    os.utime(run.path / "run.json", (1, 1))
    assert observe(run).state == "lost"
    with Journal(run.journal) as journal:
        journal.append("status", 5, state="running")
        assert observe(run).state == "unknown"
        last = journal.append("status", 6, state="finished", why="all steps done")
        assert observe(run) == Standing("finished", "all steps done", 6, False)
        assert observe(run, last).state == "finished"
    assert observe(RunFolder(run.path / "none")).state == "lost"


WORKER = """
import sys, time
from metarl_tui.runs import folder, heartbeat, journal, process
run = folder.RunFolder(sys.argv[1])
lock = folder.acquire_lock(run)
process.write_worker(run)
tape = journal.Journal(run.journal)
heart = heartbeat.Heart(run, interval=0.05)
tape.append("status", 0, state="started")
print("ready", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_held_goes_on_and_one_that_is_killed_is_lost(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until(expected: str) -> None:
        deadline = time.monotonic() + 10
        while observe(run).state != expected:
            assert time.monotonic() < deadline, observe(run)
            time.sleep(0.02)

    monkeypatch.setattr(liveness, "BEAT_LIMIT", 0.5)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    assert first_line(worker) == "ready"
    until("running")
    worker.send_signal(signal.SIGSTOP)
    until("stalled")
    worker.send_signal(signal.SIGCONT)
    until("running")
    worker.send_signal(signal.SIGKILL)
    until("lost")  # although nobody has taken the zombie's exit code yet
    kill(worker)
    assert observe(run).state == "lost"


def test_looking_at_many_runs_each_second_is_cheap(run: RunFolder) -> None:
    write_worker(run)
    with Journal(run.journal) as journal, Heart(run):
        journal.append("status", 0, state="running")
        observer = Observer(run)
        cost: Callable[[], float] = time.perf_counter
        began = cost()
        for iteration in range(50):
            journal.append("metrics", iteration, values={"a": 1.0})
            assert observer.observe().state == "running"
        assert cost() - began < 0.5


def test_a_control_record_tells_the_iteration_to_come(run: RunFolder) -> None:
    write_worker(run)
    with Journal(run.journal) as journal:
        journal.append("metrics", 7, values={"a": 1.0})
        assert observe(run).iteration == 7
        journal.append("control", 8, action="set", result="applied", changes={"gamma": [0.99, 0.9]})
        assert observe(run).iteration == 7


def test_a_process_on_its_way_to_train_an_ended_run_shows(run: RunFolder) -> None:
    with Journal(run.journal) as journal:
        journal.append("status", 5, state="stopped", why="asked")
        starter = subprocess.Popen([sys.executable, "-c", WAITER], stdin=subprocess.PIPE)
        assert starter.stdin is not None
        write_launched(run, starter.pid)
        observer = Observer(run)
        assert observer.observe() == Standing("starting", "", 5, True)
        assert not observer.is_over(observer.observe())
        starter.stdin.close()
        starter.wait()
        assert observer.observe() == Standing("stopped", "asked", 5, False)
        assert observer.is_over(observer.observe())


def test_a_run_whose_folder_was_removed_is_said_to_be_gone(run: RunFolder) -> None:
    observer = Observer(run)
    write_worker(run)
    with Journal(run.journal) as journal:
        journal.append("status", 0, state="running")
    assert observer.observe().state == "running"
    shutil.rmtree(run.path)
    assert observer.observe() == Standing("lost", "its folder is gone", 0, False)


WAITER = "import sys; sys.stdin.read()"


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_to_train_elsewhere_is_never_lost(
    run: RunFolder, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_launched(run, os.getpid(), waits=waits)
    run.launched.write_text(run.launched.read_text().replace(os.uname().nodename, "another"))
    os.utime(run.path / "run.json", (1, 1))
    standing = observe(run)
    assert (standing.state, standing.alive) == ("unknown", False)
    assert "from another" in standing.why
    observer = Observer(run)
    assert not observer.is_over(observer.observe())
    monkeypatch.setattr(liveness, "WATCH_SECONDS", 0.0)
    assert observer.is_over(observer.observe())
