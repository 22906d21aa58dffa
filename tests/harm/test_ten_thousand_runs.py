"""A folder with very many runs, some of them malformed: painted at once, complete soon, bad ones marked."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest
from fake_runs import HYPERPARAMETERS
from live_run import app_on, text, until
from pseudo_terminal import Terminal
from victims import Figure

from metarl_tui.app.screens.home import HomeScreen
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder

RUNS = 10_000
STAMP = "20261122-154210"
"""How an id begins; the list has room for so much of one that is malformed."""
PAINTED_SECONDS, COMPLETE_SECONDS = 1.0, 3.0


def _instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(config: Path) -> None:
        config.unlink()
        make(config)

    return replace


MALFORMED: list[Callable[[Path], object]] = [
    lambda config: config.write_bytes(b""),
    lambda config: config.write_bytes(config.read_bytes()[:100]),
    lambda config: config.write_bytes(b"\0" * 400),
    lambda config: config.write_bytes(b"[]"),
    lambda config: config.write_bytes(b"[" * 10_000),
    lambda config: config.write_bytes(b'{"trainer": 3, "created": "yesterday"}'),
    lambda config: config.write_bytes(b'{"trainer": "ppo", "created": 1e300}'),
    lambda config: config.write_bytes(config.read_bytes() + b" " * (1 << 21)),
    _instead(Path.mkdir),
    _instead(lambda config: config.symlink_to("/dev/zero")),
]


def _many_runs(place: Path, count: int) -> set[str]:
    """Folders of ``count`` runs that ended; the ids of those that are malformed."""
    random_source, bad = random.Random(12), set[str]()
    start = time.time() - 30 * 86_400
    for number in range(count):
        created = start + 60 * number
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(created))
        run = place / f"{stamp}-ppo-cartpole-{number:05d}"
        run.mkdir()
        config = RunConfig(
            trainer="ppo", setup={"env": "CartPole-v1", "seed": number}, hyperparameters=HYPERPARAMETERS,
            subject="CartPole-v1", created=created,
        )  # fmt: skip
        (run / "run.json").write_bytes(config.to_json())
        summary = {
            "state": "finished", "iteration": 100, "total": 640, "done": 640, "unit": "steps", "best": 500.0,
            "objective": "eval/return_mean", "latest": 480.0, "updated": created,
            "sparkline": [random_source.uniform(0, 500) for _ in range(60)],
        }  # fmt: skip
        (run / "summary.json").write_bytes(orjson.dumps(summary))
        if number % 20 == 7:
            MALFORMED[len(bad) % len(MALFORMED)](run / "run.json")
            bad.add(run.name)
    return bad


def test_home_with_very_many_runs(tmp_path: Path, scale: float, figure: Figure) -> None:
    count = max(int(RUNS * scale), 200)
    bad = _many_runs(tmp_path, count)
    began = time.monotonic()
    screen = Terminal([sys.executable, "-m", "metarl_tui", "--runs-dir", str(tmp_path)])
    try:
        while b"metarl-tui" not in screen.seen:
            assert time.monotonic() < began + 30, screen.shown
            screen.read(0.02)
        painted = time.monotonic() - began
        painting = _processor_seconds(screen)
        while b"finished" not in screen.seen:
            assert time.monotonic() < began + 30, screen.shown
            screen.read(0.02)
        rows = time.monotonic() - began
        complete = re.compile(rf"{count} runs(?!,)")
        while not complete.search(screen.shown):
            assert time.monotonic() < began + 60, screen.shown
            screen.read(0.2)
        done = time.monotonic() - began
        completing = _processor_seconds(screen)
        marked = _marked(screen)
        os.write(screen.master, b"q")
        assert screen.ends() == 0
    finally:
        screen.close()
    figure(
        f"home with runs, {len(bad)} of them malformed", count,
        f"painted in {painted:.2f} s, first rows {rows:.2f} s, complete {done:.2f} s; "
        f"{painting:.2f} s and {completing:.2f} s of processor time",
    )  # fmt: skip
    assert marked
    # Of processor time: the machine may do other things too. What is read grows with the number of runs.
    assert painting < PAINTED_SECONDS
    assert completing < PAINTED_SECONDS + (COMPLETE_SECONDS - PAINTED_SECONDS) * count / RUNS
    # By the clock: whoever asks for all of it leaves the machine alone.
    patience = 1 if scale >= 1 else 5
    assert painted < patience * PAINTED_SECONDS
    assert done < patience * COMPLETE_SECONDS


def _processor_seconds(screen: Terminal) -> float:
    used = psutil.Process(screen.process.pid).cpu_times()
    return float(used.user + used.system)


def _marked(screen: Terminal) -> bool:
    """Whether what is malformed in view is marked; the newest one lies within the first rows."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if "unreadable" in screen.shown:
            return True
        screen.read(0.1)
    return False


async def test_every_malformed_run_is_marked_and_no_other(
    tmp_path: Path, scale: float, figure: Figure
) -> None:
    """In what the list knows, and on the rows that it shows when all of it is paged through."""
    count = max(int(RUNS * scale), 200)
    bad = _many_runs(tmp_path, count)
    for name in bad:
        with pytest.raises(RunError):
            _ = RunFolder(tmp_path / name).config
    app = app_on(tmp_path)
    async with app.run_test(size=(120, 60)) as pilot:
        assert isinstance(app.screen, HomeScreen)
        table = app.screen.table
        await until(pilot, lambda: len(table.entries) == count, 60)
        known = {run.path.name for run, entry in table.entries.items() if entry.problem}
        rows: set[str] = set()
        for chosen in [*range(0, count, 40), count - 1]:
            table.move(chosen - table.chosen)
            await pilot.pause()
            rows.update(re.findall(r"▲ unreadable +([\d-]+)", text(pilot)))
    figure("malformed runs in the list", len(bad), f"{len(known & bad)} known as such, {len(rows)} shown so")
    assert known == bad
    assert rows == {name[: len(STAMP)] for name in bad}
