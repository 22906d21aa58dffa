"""Screens that go: their terminal closed, killed, crashed, ended by a signal. What trains goes on."""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pseudo_terminal import Terminal, assert_restored
from victims import Figure, MakeRun, Times, iterations_done, wait_until
from warm_parent import WarmParent

from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.liveness import observe, read_worker
from metarl_tui.runs.process import is_alive, read_launched

PROGRAM = [sys.executable, "-m", "metarl_tui"]
CRASHING = """
from metarl_tui.app.screens.run import RunScreen
from metarl_tui.app.widgets.header import Header
from metarl_tui.app.widgets.steer_panel import SteerPanel
fail = lambda *_, **__: 1 / 0
{}
from metarl_tui.cli import main
main()
"""
CRASHES = {
    "an action": "RunScreen.action_zoom = fail",
    "a timer": "RunScreen.action_zoom = lambda screen: screen.set_interval(0.1, fail)",
    "a render": "RunScreen.action_zoom = lambda screen: setattr(Header, 'render_line', fail)",
    "a reader's thread": "RunScreen.action_zoom = lambda screen: setattr(screen.follower, 'look', fail)",
    "a widget's keys": "SteerPanel.on_key = fail",
}
"""Where a screen crashes, and what makes it: at the latest when ``KEYS`` are typed."""
KEYS = (b"z", b"e", b"\x1b[C")
BACK = b"\x1b[?1049l"
"""What gives the shell its screen back."""
CRASHED = 70
CODES = {"SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}
HARMS = ("hangup", "kill", *CRASHES, *CODES)
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
        case _ if harm in CRASHES:
            _type_until_it_ends(screen)
        case _:
            screen.process.send_signal(signal.Signals[harm])
    code = screen.ends()
    try:
        assert_restored(screen)
    except (AssertionError, ValueError):
        return f"{harm}: the terminal is not restored"
    if harm in CRASHES and b"ZeroDivisionError" not in screen.seen.rpartition(BACK)[2]:
        return f"{harm}: the terminal does not say what happened"
    return "" if code == CODES.get(harm, CRASHED) else f"{harm}: exit code {code}"


def _type_until_it_ends(screen: Terminal) -> None:
    for key in KEYS:
        os.write(screen.master, key)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            screen.read()
            if BACK in screen.seen:
                return


def _processor_seconds(screen: Terminal) -> float:
    """What the screen and the processes that it started have used so far."""
    own = psutil.Process(screen.process.pid)
    used = [process.cpu_times() for process in [own, *own.children(recursive=True)]]
    return sum(one.user + one.system for one in used)


def _in_words(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"


def test_screens_that_go_do_no_harm(
    make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure, screens: list[Terminal], scale: float
) -> None:
    """A new screen is complete in time, by the clock at full scale: the machine is left alone for that."""
    run = make_run(endless=True, options={"pace": 50})
    worker = warm.start("train", str(run.path))
    wait_until(lambda: iterations_done(run) > 20)
    count = max(times(50), len(HARMS))
    seconds, processor, wrong = [], [], []
    for turn in range(count):
        harm = HARMS[turn % len(HARMS)]
        known = iterations_done(run)
        command = [sys.executable, "-c", CRASHING.format(CRASHES[harm])] if harm in CRASHES else PROGRAM
        screens.append(Terminal([*command, "open", str(run.path)], controlling=True))
        seconds.append(_wait_until_shown(screens[-1], known))
        processor.append(_processor_seconds(screens[-1]))
        if what := _harm(screens[-1], harm):
            wrong.append(what)
        before = iterations_done(run)
        wait_until(lambda before=before: iterations_done(run) > before or worker.poll() is not None, 10)
        if worker.poll() is not None:
            wrong.append(f"{harm}: the worker does not go on")
    assert observe(run).state == "running"
    figure(
        f"screens that went: hangup, kill, a crash in {', '.join(CRASHES)}, {', '.join(CODES)}", count,
        f"{count - len(wrong)} of {count} workers go on; a new screen shows all in {_in_words(seconds)}, "
        f"of the processor's time {_in_words(processor)}",
    )  # fmt: skip
    assert not wrong
    assert max(processor) < COMPLETE_SECONDS / 2
    assert max(seconds) < COMPLETE_SECONDS * (1 if scale >= 1 else 2.5)


def test_signals_while_a_screen_starts(
    tmp_path: Path, times: Times, figure: Figure, screens: list[Terminal]
) -> None:
    """Of a new run: before the worker is started nothing of it stays, afterwards it goes on."""
    random_source = random.Random(4)
    count, wrong, nothing_there = max(times(20), 3), [], 0
    for turn in range(count):
        number = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[turn % 3]
        runs = tmp_path / f"runs-{turn}"
        screens.append(Terminal([*PROGRAM, "train", "ppo", "--runs-dir", str(runs)], controlling=True))
        screen, end = screens[-1], time.monotonic() + random_source.uniform(0.2, 1.5)
        while time.monotonic() < end:
            screen.read()
        screen.process.send_signal(number)
        code = screen.ends()
        if code not in (128 + number, -number):  # the latter: before the program has begun
            wrong.append(f"exit code {code} after {number.name}")
        if b"\x1b[?1049h" in screen.seen:
            assert_restored(screen)
        folders = [RunFolder(path) for path in runs.glob("2*")]
        nothing_there += not folders
        for run in folders:
            launched = read_launched(run)
            if launched is None or not is_alive(launched.identity):
                wrong.append(f"a folder without a worker after {number.name}")
            else:
                os.kill(launched.identity.pid, signal.SIGKILL)
    figure(
        "signals while the screen of a new run starts", count,
        f"{count - len(wrong)} of {count} with the right exit code; {nothing_there} left nothing, "
        f"{count - nothing_there} a run that goes on",
    )  # fmt: skip
    assert not wrong


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
