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
from fake_runs import HYPERPARAMETERS
from pseudo_terminal import Terminal
from victims import Figure

from metarl_tui.runs.folder import RunConfig

RUNS = 10_000
PAINTED_SECONDS, COMPLETE_SECONDS = 1.0, 3.0

MALFORMED: list[Callable[[Path], object]] = [
    lambda config: config.write_bytes(b""),
    lambda config: config.write_bytes(config.read_bytes()[:100]),
    lambda config: config.write_bytes(b"\0" * 400),
    lambda config: config.write_bytes(b"[]"),
    lambda config: config.write_bytes(b"[" * 10_000),
    lambda config: config.write_bytes(b'{"trainer": 3, "created": "yesterday"}'),
    lambda config: config.write_bytes(b'{"trainer": "ppo", "created": 1e300}'),
    lambda config: config.chmod(0o000),
]


def _many_runs(place: Path, count: int) -> int:
    """Folders of ``count`` runs that ended; how many of them are malformed."""
    random_source, bad = random.Random(12), 0
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
            MALFORMED[bad % len(MALFORMED)](run / "run.json")
            bad += 1
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
        f"home with runs, {bad} of them malformed", count,
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
    """Whether the malformed runs in view are marked; the newest one lies within the first rows."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if "not valid JSON" in screen.shown or "must be" in screen.shown or "is missing" in screen.shown:
            return True
        screen.read(0.1)
    return False
