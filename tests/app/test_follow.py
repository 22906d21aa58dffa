"""What the screen makes of a run folder: how long it will be, what is queued, what is told once."""

from __future__ import annotations

import gc
import math
import subprocess
from pathlib import Path

import orjson
import pytest
from fake_runs import HYPERPARAMETERS, Record, run_records, write_run
from live_run import LiveRun, app_on, lines, text, until

from metarl_tui.app import garbage
from metarl_tui.app.follow import Follower, total_iterations
from metarl_tui.app.garbage import Garbage
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.playhead import Playhead
from metarl_tui.runs import blocks
from metarl_tui.runs.blocks import blocks_if_big
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.records import seal
from metarl_tui.tape import Tape
from metarl_tui.tape_reading import TapeReading


def rows(iterations: int, per_iteration: float, start: int = 1, before: float = 0.0) -> list[Record]:
    """Metrics whose iterations take so many steps."""
    return [
        {"kind": "metrics", "iteration": start + index, "time": float(start + index),
         "values": {"time/steps": before + per_iteration * (index + 1)}}
        for index in range(iterations)
    ]  # fmt: skip


def test_the_number_of_iterations_hardly_moves_and_is_the_final_one_at_the_end() -> None:
    """Short episodes make early iterations a few steps shorter."""
    tape, values = Tape(HYPERPARAMETERS), {"total_steps": 1_000_000}
    forecast, told, steps = None, [], 0.0
    for iteration in range(1, 600):
        per_iteration = 2048 - 128 * math.exp(-iteration / 30)
        tape.extend(rows(1, per_iteration, iteration, steps))
        steps += per_iteration
        forecast = total_iterations(tape, values, forecast)
        told.append(forecast)
        if steps >= 1_000_000:
            break
    assert len(set(told)) <= 5
    assert all(abs(one - iteration) <= 0.1 * iteration for one in told[20:])
    assert all(abs(one - iteration) <= 0.03 * iteration for one in told[100:])
    tape.extend([{"kind": "status", "iteration": iteration, "state": "finished"}])
    assert total_iterations(tape, values, told[-1]) == iteration


def test_more_total_steps_are_more_iterations() -> None:
    tape = Tape(HYPERPARAMETERS)
    tape.extend(rows(100, 1000.0))
    assert total_iterations(tape, {"total_steps": 200_000}) == 200
    assert total_iterations(tape, {"total_steps": 400_000}, 200) == 400
    assert total_iterations(tape, {"iterations": 50}) == 100


def test_the_speed_at_the_end_counts_waiting_and_elsewhere_is_the_iterations_own(tmp_path: Path) -> None:
    """Of a run that counts no steps."""
    records = [
        {"seq": one, "kind": "metrics", "iteration": one, "time": 4.0 * one,
         "values": {"time/iteration_seconds": one / 10}}
        for one in range(1, 41)
    ]  # fmt: skip
    folder = RunFolder(write_run(tmp_path, records=records))
    follower = Follower(folder, folder.config)
    follower.take(follower.look())
    speeds = [follower.moment(Playhead("held", at)) for at in (5, 20, 40)]
    assert [(one.speed, one.unit) for one in speeds] == [
        (2.0, "iterations"), (0.5, "iterations"), (0.25, "iterations"),
    ]  # fmt: skip


@pytest.mark.parametrize("total", [1e308, math.inf, "many", None, -5])
@pytest.mark.parametrize("steps", [1e-300, 0.0, -1.0, math.nan, 1e300])
def test_no_total_is_too_strange(total: object, steps: float) -> None:
    tape = Tape()
    tape.extend(rows(30, steps))
    found = total_iterations(tape, {"total_steps": total})
    assert found is None or found >= 30


def test_looking_leaves_a_malformed_request_where_it_is(tmp_path: Path) -> None:
    live = LiveRun(tmp_path)
    try:
        bad = live.folder.requests / "mine.json"
        bad.write_bytes(b"{")
        good = live.folder.requests / "other.json"
        good.write_bytes(orjson.dumps({"id": "mine-1", "time": 0, "action": "save"}))
        follower = Follower(live.folder, live.folder.config)
        follower.take(follower.look(at_once=True))
        assert [one.id for one in follower.queued] == ["mine-1"]
        assert bad.exists()
        assert good.exists()
    finally:
        live.close()


@pytest.fixture
def answered(tmp_path: Path) -> RunFolder:
    """A run that was paused, went on, was saved and stopped, as a worker records it."""
    records = run_records(40, steered_at=None, checkpoint_every=10**6)
    who = {"by": "ada@box", "result": "applied", "changes": {}}
    happened = [
        {"kind": "control", "action": "pause", "request": "a", **who},
        {"kind": "status", "state": "paused", "why": "asked by ada@box"},
        {"kind": "control", "action": "resume", "request": "b", **who},
        {"kind": "status", "state": "running"},
        {"kind": "control", "action": "save", "request": "c", **who},
        *({"kind": "checkpoint", "name": "x", "reason": "automatic", "bytes": 1} for _ in range(3)),
        {"kind": "note", "text": "long " * 40},
        {"kind": "control", "action": "stop", "request": "d", **who},
        {"kind": "status", "state": "stopped", "why": "asked by ada@box"},
    ]
    records += [{"time": 1.0, "iteration": 40, **one} for one in happened]
    return RunFolder(write_run(tmp_path, records=[{**one, "seq": n} for n, one in enumerate(records, 1)]))


async def test_the_journal_says_each_thing_once_and_nothing_at_length(
    tmp_path: Path, answered: RunFolder
) -> None:
    async with app_on(tmp_path, answered).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "stopped: asked by" in text(pilot).partition("journal")[2])
        told = text(pilot).partition("journal")[2]
        assert "paused: asked by ada@box" in told
        assert "goes on: asked by ada@box" in told
        assert not any(f"{action} applied" in told for action in ("pause", "resume", "save", "stop"))
        assert told.count("checkpoint") == 1
        assert sum("long long" in line for line in told.splitlines()) == 4
        assert "…" in told
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: text(pilot).partition("journal")[2].count("long long long long long") == 2)


async def test_while_a_run_starts_again_it_can_not_be_started_twice(tmp_path: Path) -> None:
    class Slow:
        def check(self) -> str:
            return "starting"

    folder = RunFolder(write_run(tmp_path, iterations=30, end="stopped"))
    app = app_on(tmp_path, folder, start=lambda run: Slow())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "r resume" in lines(pilot)[-1])
        await pilot.press("r", "y")
        await until(pilot, lambda: "● starting" in lines(pilot)[0])
        assert "r resume" not in lines(pilot)[-1]
        await pilot.press("r")
        assert "Train" not in text(pilot)


async def test_iterations_at_the_edge_of_32_bits_are_drawn(tmp_path: Path) -> None:
    records = run_records(20, steered_at=None)
    for last in (2**31 - 2, 2**31 - 1, 10**30):
        row = {"kind": "metrics", "iteration": last, "time": 1.0, "values": {"rollout/ep_rew_mean": 7.0}}
        records.append({"seq": len(records) + 1, **row})
    records.append({"kind": "resumed", "iteration": 5, "from": 10**30, "seq": 99, "time": 1.0})
    tape = Tape()
    tape.extend(records)
    assert tape.last == 2**31 - 2
    folder = RunFolder(write_run(tmp_path, records=[one for one in records if one["iteration"] < 2**60][:-1]))
    async with app_on(tmp_path, folder).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "2147483646" in lines(pilot)[-3])
        assert "return" in text(pilot)


def test_garbage_is_collected_while_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(garbage.time, "monotonic", lambda: now)
    before = gc.get_threshold()
    try:
        one = Garbage()
        now += 100
        assert not one.tick()  # not asked to
        one.start()
        one.typed()
        assert not one.tick()
        now += 5
        assert one.tick()
        assert not one.tick()
        now += 700
        one.typed()
        assert one.tick()  # somebody who types for ever does not keep it from being done
    finally:
        gc.set_threshold(*before)


@pytest.fixture
def big_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose journal counts as big: ε was lowered long before its end."""
    monkeypatch.setattr(blocks, "BIG", 1 << 20)
    folder = RunFolder(write_run(tmp_path, records=[]))
    records = run_records(6000, steered_at=100, checkpoint_every=500, end="stopped")
    folder.journal.write_bytes(b"".join(seal(orjson.dumps(record)) + b"\n" for record in records))
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started to read a journal."""
    processes: list[subprocess.Popen[bytes]] = []
    start = blocks._start

    def noted(*arguments: int) -> subprocess.Popen[bytes]:
        processes.append(start(*arguments))
        return processes[-1]

    monkeypatch.setattr(blocks, "_start", noted)
    return processes


@pytest.mark.parametrize("helped", [True, False])
def test_of_a_big_run_the_end_comes_first(big_run: RunFolder, helped: bool) -> None:
    follower = Follower(big_run, big_run.config, blocks_if_big(big_run.journal) if helped else None)
    assert follower.take(follower.look())
    tape = follower.tape
    assert (follower.at_end, follower.complete, follower.steerable) == (True, False, False)
    assert tape.last == 6000
    assert tape.first > 100
    assert tape.hyperparameters_at() == {}  # ε was changed before what is known
    moment = follower.moment(Playhead(position=6000))
    assert moment.reading is not None
    assert moment.share == moment.reading < 1
    while not follower.complete:
        follower.take(follower.look())
    assert follower.tape is not tape
    assert (follower.tape.first, follower.tape.last) == (1, 6000)
    assert follower.tape.hyperparameters_at()["clip_epsilon"] == 0.1
    assert follower.moment(Playhead(position=6000)).reading is None


def test_a_big_run_that_goes_on_is_steered_when_all_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BIG", 0)
    live = LiveRun(tmp_path, iterations=50)
    try:
        follower = Follower(live.folder, live.folder.config, blocks_if_big(live.folder.journal))
        follower.take(follower.look(at_once=True))
        assert follower.tape.last == 50
        assert follower.standing is not None
        assert follower.standing.alive
        assert (follower.controllable, follower.steerable) == (True, False)
        live.train(20)
        while not follower.complete:
            follower.take(follower.look())
        assert follower.tape.last == 70
        assert follower.steerable
        live.train(20)
        assert follower.take(follower.look())
        assert follower.tape.last == 90
    finally:
        live.close()


async def test_a_run_is_paused_and_stopped_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BIG", 0)
    monkeypatch.setattr(TapeReading, "advance", lambda self, seconds: False)
    live = LiveRun(tmp_path)
    try:
        async with app_on(tmp_path, live.folder).run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "p pause" in lines(pilot)[-1])
            assert "e steer" not in lines(pilot)[-1]
            screen = pilot.app.screen
            assert isinstance(screen, RunScreen)
            assert screen.seen_alive
            await pilot.press("p", "s")
            await until(pilot, lambda: len(live.queued()) == 2)
            assert {one.action for one in live.queued()} == {"pause", "save"}
            await pilot.press("Q", "y")
            await until(pilot, lambda: "stop" in {one.action for one in live.queued()})
    finally:
        live.close()


async def test_a_big_run_is_replayed_from_its_start_and_left_with_nothing_running(
    tmp_path: Path, big_run: RunFolder, started: list[subprocess.Popen[bytes]]
) -> None:
    app = app_on(tmp_path, big_run, replay=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "playing" in text(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        assert screen.follower is not None
        assert screen.follower.complete
        assert screen.iteration < 6000
    assert started
    assert all(process.returncode is not None for process in started)


async def test_a_screen_that_is_left_ends_what_reads_for_it(
    tmp_path: Path, big_run: RunFolder, started: list[subprocess.Popen[bytes]]
) -> None:
    async with app_on(tmp_path, big_run).run_test(size=(120, 40)):
        assert started
    assert all(process.returncode is not None for process in started)
