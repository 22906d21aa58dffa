"""What grows while a journal of a day's length is read: nothing but the numbers themselves."""

from __future__ import annotations

import asyncio
import functools
import gc
import random
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_runs import metric_values, run_records, write_run
from live_run import LiveRun, app_on, text, until
from textual.cache import FIFOCache, LRUCache
from victims import SMALL, Figure, MakeRun, iterations_done, records, wait_until
from warm_parent import WarmParent

from metarl_tui.app.follow import Follower
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.runs import requests
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import observe
from trainers.hyperparameters import TRAINERS

DAY = 86_400
"""Iterations of a day at one a second."""
BYTES_PER_VALUE = 8
"""As many as a float has: shorter ones make up for the room to grow, and rows share their iterations."""
BESIDE_VALUES = 112 << 10
"""Bytes by which all else of a screen may differ, however often it paints."""
LEAK = 1 << 10
"""Bytes a paint that must be noticed."""


def _append_rows(path: Path, first: int, count: int) -> int:
    """Rows of a journal from iteration ``first`` on; how many values they hold."""
    noise, values = random.Random(first), 0
    with Journal(path) as journal:
        for iteration in range(first, first + count):
            row: dict[str, Any] = metric_values(iteration, DAY, noise, None)
            values += len(row)
            journal.append("metrics", iteration, values=row)
    return values


def _used() -> int:
    """Bytes in use but for caches, which are as large as they may get after some hundred paints more."""
    gc.unfreeze()  # or none of what others have frozen would be found
    for one in gc.get_objects():
        if type(one) is functools._lru_cache_wrapper:  # isinstance would ask proxies, also dead ones
            one.cache_clear()
        elif type(one) in (LRUCache, FIFOCache):
            one.clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_the_screens_memory(tmp_path: Path, scale: float, figure: Figure) -> None:
    """Measured over the second half, so that what is there once does not count."""
    rows = max(int(DAY * scale), 4000)
    run = RunFolder(write_run(tmp_path, records=run_records(0)))
    _append_rows(run.journal, 1, rows // 2)
    follower = Follower(run, run.config)
    tracemalloc.start()
    try:
        _read(follower)
        before = _used()
        values = _append_rows(run.journal, rows // 2 + 1, rows // 2)
        _read(follower)
        grown = _used() - before
    finally:
        tracemalloc.stop()
    result = f"{grown / values:.1f} bytes a value read"
    figure("a screen's memory over a journal of values", 2 * values, result)
    assert follower.tape.last == 2 * (rows // 2)
    assert grown / values <= BYTES_PER_VALUE


def _read(follower: Follower) -> None:
    while True:
        glimpse = follower.look()
        follower.take(glimpse)
        if glimpse.at_end:
            return


async def test_the_memory_of_a_screen_whose_charts_follow(
    tmp_path: Path, scale: float, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the app, which paints every row; measured over the second half."""
    half = max(int(DAY * scale) // 80, 200)
    run = LiveRun(tmp_path, iterations=60)
    app = app_on(tmp_path, run.folder, refresh=500.0)
    paint, painted = RunScreen.paint, 0

    def counted_paint(screen: RunScreen) -> None:
        nonlocal painted
        painted += 1
        paint(screen)

    monkeypatch.setattr(RunScreen, "paint", counted_paint)
    try:
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "running" in text(pilot))
            tracemalloc.start()
            await _follow(run, app.run_screen, half)
            before, painted = _used(), 0
            values = await _follow(run, app.run_screen, half)
            grown = _used() - before
    finally:
        tracemalloc.stop()
        run.close()
    allowed = values * BYTES_PER_VALUE + BESIDE_VALUES
    figure(
        "memory of a screen whose charts follow", values,
        f"{grown / values:.1f} bytes a value read in {painted} paints, {allowed / values:.1f} allowed",
    )  # fmt: skip
    assert painted >= half
    assert grown <= allowed < values * BYTES_PER_VALUE + painted * LEAK * 3 / 4


async def _follow(run: LiveRun, screen: RunScreen | None, count: int) -> int:
    """Rows that are each painted; how many values they hold."""
    assert screen is not None
    noise, values = random.Random(run.iteration), 0
    for _ in range(count):
        run.iteration += 1
        row: dict[str, Any] = metric_values(run.iteration, DAY, noise, None)
        values += len(row)
        run.journal.append("metrics", run.iteration, values=row)
        run.heart.boundary(run.iteration)
        while screen.iteration < run.iteration:
            await asyncio.sleep(0.001)
    return values


async def test_threads_and_handles_while_a_screen_follows(
    tmp_path: Path, scale: float, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = max(int(DAY * scale) // 10, 400)
    run = LiveRun(tmp_path, iterations=60)
    app = app_on(tmp_path, run.folder)
    me = psutil.Process()
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "running" in text(pilot))
            await pilot.press("e", "escape", "z", "z")
            await asyncio.sleep(1.0)
            before = threading.active_count(), me.num_fds()
            noise = random.Random(1)
            for iteration in range(61, 61 + rows):
                run.journal.append("metrics", iteration, values=metric_values(iteration, rows, noise, None))
                if iteration % 50 == 0:
                    run.heart.boundary(iteration)
                    await pilot.press("z", "z")
            await until(pilot, lambda: f"iteration {60 + rows}" in text(pilot))
            after = threading.active_count(), me.num_fds()
    finally:
        run.close()
    figure(
        "threads and handles of a screen", rows,
        f"{before[0]} and {before[1]} before {rows} rows, {after[0]} and {after[1]} after",
    )  # fmt: skip
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def test_many_looks_at_one_run_leave_no_handle(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path, iterations=50))
    follower = Follower(run, run.config)
    _read(follower)
    before = psutil.Process().num_fds()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        follower.take(follower.look(at_once=True))
    assert psutil.Process().num_fds() == before


OFTEN_SAVED = {"metarl_tui.worker.saving:COST_SHARE": 0.5, "metarl_tui.worker.saving:LEAST_SECONDS": 0.0}
STEERING = {"ppo": {"clip_epsilon": 0.07}, "maml": {"inner_lr": 0.05}, "maml-ppo": {"inner_lr": 0.05}}
SIZES: dict[str, dict[str, Any]] = {
    "ppo": {"num_envs": 2, "rollout_steps": 8, "minibatch_size": 16, "setup": {"vector": "async"}},
    "maml-ppo": {"meta_batch_size": 1, "trajectories_per_task": 1, "epochs": 1, "eval_every": 20},
}


@pytest.mark.parametrize("trainer", [name for name in SMALL if name in TRAINERS])
def test_threads_and_handles_of_a_worker(
    trainer: str, make_run: MakeRun, warm: WarmParent, scale: float, figure: Figure
) -> None:
    """Of a real one that saves, evaluates and is steered all the time, counted while it is paused."""
    half = max(int(DAY * scale) // 160, 60)
    run = make_run(trainer, endless=True, **SIZES.get(trainer, {}))
    worker = warm.start("train", str(run.path), patches=OFTEN_SAVED)
    process = psutil.Process(worker.pid)
    counted = []
    for turn in (1, 2):
        while iterations_done(run) < turn * half:
            assert worker.poll() is None
            requests.send(run, "set", STEERING[trainer])
            time.sleep(0.1)
        requests.send(run, "pause")
        wait_until(lambda: observe(run).state == "paused")
        counted.append((process.num_threads(), process.num_fds(), len(process.children(recursive=True))))
        requests.send(run, "resume")
    worker.kill()
    saved, asked = len(records(run, "checkpoint")), len(records(run, "control"))
    before, after = counted
    figure(
        f"threads, handles and processes of a worker, {trainer}", 2 * half,
        f"{before} after half, {after} after all; {saved} checkpoints, {asked} requests",
    )  # fmt: skip
    assert before == after
    assert min(saved, asked) > 4
