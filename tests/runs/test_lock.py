"""One writer per run: the lock, and whom it outlives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import first_line, kill

from metarl_tui.runs.folder import RunBusy, RunError, RunFolder, acquire_lock
from metarl_tui.runs.process import write_worker

HOLDER = """
import os, sys, time
from metarl_tui.runs import folder
run = folder.RunFolder(sys.argv[1])
try:
    lock = folder.acquire_lock(run)
except folder.RunBusy:
    print("busy", flush=True)
    sys.exit()
child = 0
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def start_holder(run: RunFolder, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path), *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_run_has_one_writer_in_this_process(run: RunFolder) -> None:
    write_worker(run)
    with acquire_lock(run) as lock:
        with pytest.raises(RunBusy, match=f"process {os.getpid()} on"):
            acquire_lock(RunFolder(run.path))
        holder = start_holder(run)
        assert first_line(holder) == "busy"
        kill(holder)
        lock.release()
        with acquire_lock(run):
            pass


def test_of_several_processes_exactly_one_becomes_the_writer(run: RunFolder) -> None:
    holders = [start_holder(run) for _ in range(4)]
    assert sorted(first_line(holder) for holder in holders) == ["0", "busy", "busy", "busy"]
    with pytest.raises(RunBusy):
        acquire_lock(run)
    for holder in holders:
        kill(holder)
    acquire_lock(run).release()


def test_a_lock_ends_with_its_process_although_a_forked_child_lives(run: RunFolder) -> None:
    holder = start_holder(run, "fork")
    child = int(first_line(holder))
    try:
        with pytest.raises(RunBusy):
            acquire_lock(run)
        kill(holder)
        os.kill(child, 0)
        acquire_lock(run).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_neither_takes_nor_ends_its_parents_lock(run: RunFolder) -> None:
    lock = acquire_lock(run)
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    holder = start_holder(run)
    assert first_line(holder) == "busy"
    kill(holder)
    lock.release()


def test_a_lock_that_cannot_be_made_is_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="lock"):
        acquire_lock(RunFolder(tmp_path / "none"))
    run.lock.symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="lock"):
        acquire_lock(run)
    assert not (tmp_path / "outside").exists()
