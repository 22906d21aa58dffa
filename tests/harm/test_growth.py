"""What grows while a journal of a day's length is read: nothing but the numbers themselves."""

from __future__ import annotations

import asyncio
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
from victims import Figure

from metarl_tui.app.follow import Follower
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal

DAY = 86_400
"""Iterations of a day at one a second."""
BYTES_PER_VALUE = 8
"""As many as a float has: shorter ones make up for the room to grow, and rows share their iterations."""


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
