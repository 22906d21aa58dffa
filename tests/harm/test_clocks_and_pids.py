"""Held and let go; a number that another process has now; another boot or host; clocks set wrong by a day."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import orjson
import pytest
from victims import Figure, MakeRun, iterations_done, records, wait_until
from warm_parent import WarmParent

from metarl_tui.runs import liveness
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import Observer, observe
from metarl_tui.runs.process import own_identity, read_worker

DAY = 86_400.0


def test_a_worker_that_is_held_for_a_while(
    make_run: MakeRun, warm: WarmParent, scale: float, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = max(60.0 * scale, 3.0)
    if held < liveness.BEAT_LIMIT:
        monkeypatch.setattr(liveness, "BEAT_LIMIT", 1.5)
    run = make_run(endless=True, options={"pace": 50})
    worker = warm.start("train", str(run.path))
    wait_until(lambda: observe(run).state == "running" and iterations_done(run) > 2)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(held)
    during, reached = observe(run), iterations_done(run)
    os.kill(worker.pid, signal.SIGCONT)
    wait_until(lambda: observe(run).state == "running" and iterations_done(run) > reached)
    figure(f"SIGSTOP for {held:.0f} s, SIGCONT", 1, f"{during.state}: {during.why}; then it went on")
    assert (during.state, during.alive) == ("stalled", True)


@pytest.mark.parametrize("clock", [DAY, -DAY])
@pytest.mark.parametrize("whose", ["the worker's", "the looker's"])
def test_a_clock_set_wrong_changes_nothing(
    clock: float, whose: str, make_run: MakeRun, warm: WarmParent, figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = make_run(endless=True, options={"pace": 50})
    shift = clock if whose == "the worker's" else 0.0
    worker = warm.start("train_with_clock", str(run.path), shift)
    if not shift:
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + clock)
    states = set()
    wait_until(lambda: iterations_done(run) > 2)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        states.add(observe(run).state)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    states.add(observe(run).state)
    again = warm.start("train_with_clock", str(run.path), -shift)
    reached = iterations_done(run)
    wait_until(lambda: iterations_done(run) > reached)
    again.signal(signal.SIGTERM)
    again.wait()
    states.add(observe(run).state)
    figure(f"{whose} clock {clock / DAY:+.0f} day", 1, ", ".join(sorted(states)))
    assert states == {"running", "lost", "stopped"}
    assert [record["seq"] for record in records(run)] == list(range(1, len(records(run)) + 1))


@pytest.mark.parametrize("what", ["reused pid", "another boot", "another host", "another namespace"])
def test_a_process_that_is_not_the_worker_is_never_signalled(
    what: str, make_run: MakeRun, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``stop`` asks by a file; whatever has the worker's number now must not notice."""
    run = make_run()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        here = own_identity()
        fields = dataclasses.asdict(here) | {"pid": bystander.pid, "seq": 0}
        fields |= {
            "reused pid": {"start_time": here.start_time - 100},
            "another boot": {"boot_id": "0" * 36},
            "another host": {"host": "elsewhere"},
            "another namespace": {"namespace": "pid:[1]"},
        }[what]
        run.worker.write_bytes(orjson.dumps(fields))
        with Journal(run.journal) as journal:
            journal.append("status", 0, state="running")
        monkeypatch.setattr(liveness, "WATCH_SECONDS", 0.2)
        standing = observe(run)
        command = [sys.executable, "-m", "metarl_tui", "stop", "--no-wait", str(run.path)]
        subprocess.run(command, capture_output=True, check=False)
        alive = bystander.poll() is None
        figure(what, 1, f"{standing.state}, {'never signalled' if alive else 'SIGNALLED'}")
        assert alive
        assert standing.state == ("lost" if what in ("reused pid", "another boot") else "unknown")
        assert not standing.alive
        assert read_worker(run) is not None
    finally:
        bystander.kill()
        bystander.wait()


def test_on_another_host_the_beat_alone_tells(make_run: MakeRun, warm: WarmParent) -> None:
    run: RunFolder = make_run(endless=True, options={"pace": 50})
    warm.start("train", str(run.path))
    wait_until(lambda: iterations_done(run) > 2)
    run.worker.write_bytes(orjson.dumps(orjson.loads(run.worker.read_bytes()) | {"host": "elsewhere"}))
    observer = Observer(run)
    assert observer.observe().state == "unknown"
    wait_until(lambda: observer.observe().state == "running", 5, 0.1)
