"""Screens that go: their terminal closed, killed, crashed, ended by a signal. What trains goes on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pseudo_terminal import Terminal, assert_restored
from victims import Figure, MakeRun, Times, iterations_done, wait_until
from warm_parent import WarmParent

from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.liveness import observe, read_worker

PROGRAM = [sys.executable, "-m", "metarl_tui"]
CRASHING = """
import sys
from metarl_tui.app.screens.run import RunScreen
RunScreen.action_zoom = lambda self: 1 / 0
from metarl_tui.cli import main
main()
"""
CODES = {"crash": 70, "SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}
HARMS = ("hangup", "kill", *CODES)
COMPLETE_SECONDS = 2.0


@pytest.fixture
def screens() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


def _iteration_shown(screen: Terminal) -> int:
    found = re.search(r"iteration (\d+)", screen.shown)
    return int(found[1]) if found else 0


def _wait_until_shown(screen: Terminal, iteration: int, seconds: float = 20.0) -> float:
    """Seconds until the screen shows ``iteration`` or a later one."""
    began = time.monotonic()
    while _iteration_shown(screen) < iteration:
        assert time.monotonic() < began + seconds, screen.shown
        assert screen.process.poll() is None, screen.shown
        screen.read()
    return time.monotonic() - began


def _harm(screen: Terminal, harm: str) -> str:
    """End the screen so; what is not as it should be afterwards."""
    match harm:
        case "hangup":
            os.close(screen.slave)
            os.close(screen.master)  # the kernel sends SIGHUP to the session of the terminal
            screen.process.wait(15)
            return ""
        case "kill":
            screen.process.kill()
            screen.process.wait(15)
            return ""
        case "crash":
            os.write(screen.master, b"z")
        case _:
            screen.process.send_signal(signal.Signals[harm])
    code = screen.ends()
    with contextlib.suppress(AssertionError):
        assert_restored(screen)
        return "" if code == CODES[harm] else f"{harm}: exit code {code}"
    return f"{harm}: the terminal is not restored"


def test_screens_that_go_do_no_harm(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure, screens: list[Terminal]
) -> None:
    run = make_run(endless=True, options={"pace": 50})
    worker = warm.start("train", str(run.path))
    wait_until(lambda: iterations_done(run) > 20)
    count = max(times(50), len(HARMS))
    slowest, wrong = 0.0, []
    for turn in range(count):
        harm = HARMS[turn % len(HARMS)]
        known = iterations_done(run)
        command = [sys.executable, "-c", CRASHING] if harm == "crash" else PROGRAM
        screens.append(Terminal([*command, "open", str(run.path)], controlling=True))
        slowest = max(slowest, _wait_until_shown(screens[-1], known))
        if what := _harm(screens[-1], harm):
            wrong.append(what)
        before = iterations_done(run)
        wait_until(lambda before=before: iterations_done(run) > before or worker.poll() is not None, 10)
        if worker.poll() is not None:
            wrong.append(f"{harm}: the worker does not go on")
    assert observe(run).state == "running"
    figure(
        f"screens that went: {', '.join(HARMS)}", count,
        f"{count - len(wrong)} of {count} workers go on; a new screen shows all within {slowest:.2f} s",
    )  # fmt: skip
    assert not wrong
    assert slowest < 2.5 * COMPLETE_SECONDS  # on a machine that does other things too


@pytest.mark.parametrize("harm", ["hangup", "kill"])
def test_a_worker_outlives_the_screen_that_started_it(
    harm: str, tmp_path: Path, screens: list[Terminal]
) -> None:
    runs = tmp_path / "runs"
    command = [*PROGRAM, "train", "ppo", "--runs-dir", str(runs), "--preset", "none", "--pace", "20"]
    screens.append(Terminal(command, controlling=True))
    _wait_until_shown(screens[-1], 3, 60)
    (run,) = [RunFolder(path) for path in runs.iterdir()]
    worker = read_worker(run)
    assert worker is not None
    _harm(screens[-1], harm)
    before = iterations_done(run)
    wait_until(lambda: iterations_done(run) > before + 5)
    assert observe(run).state == "running"
    os.kill(worker.identity.pid, signal.SIGTERM)
    wait_until(lambda: not observe(run).alive)
