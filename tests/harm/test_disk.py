"""A full disk at every write, a folder that may not be written, a folder that is gone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pseudo_terminal import Terminal
from victims import (
    SAVE_ALWAYS,
    Figure,
    MakeRun,
    Times,
    iterations_done,
    make_harmed_run,
    newest_contents,
    records,
    rows,
    wait_until,
)
from warm_parent import WarmParent

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.liveness import observe
from metarl_tui.runs.summary import read as read_summary

PROGRAM = [sys.executable, "-m", "metarl_tui"]
NOBODY = 65534
SIZES = (64, 128, 256, 1024, 4096)
"""Of the disk, in KiB."""

Disk = Callable[[int], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a disk of so many KiB."""
    mounted: list[Path] = []

    def mount(kibibytes: int) -> Path:
        path = tmp_path / f"disk-{len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k,mode=0700", "harm", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _make_room(disk: Path) -> None:
    (disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


def _fill(disk: Path, leave: int) -> None:
    """Write to ``disk`` until only about ``leave`` bytes are free."""
    statistics = os.statvfs(disk)
    size = max(statistics.f_bavail * statistics.f_frsize - leave, 0)
    with (disk / "filler").open("ab", buffering=0) as file, suppress(OSError):
        while size > 0:
            size -= file.write(bytes(min(size, 1 << 12)))


def test_a_full_disk_is_waited_for_and_training_goes_on(
    disk: Disk, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(6)
    count, waited, slowest = times(50), 0, 0.0
    for turn in range(count):
        place = disk(SIZES[turn % len(SIZES)])
        fast = turn % 2 == 1  # rows are held, and few checkpoints saved
        run = make_harmed_run(place / "runs", "ppo", endless=True, options={} if fast else {"pace": 200})
        worker = warm.start("train", str(run.path), patches={} if fast else SAVE_ALWAYS)
        wait_until(lambda run=run: checkpoints.listed(run) or observe(run).state == "paused")
        _fill(place, random_source.randrange(0, 24 << 10))
        wait_until(lambda run=run: "no space left" in observe(run).why, 20)
        standing = observe(run)
        assert (standing.state, standing.alive) == ("paused", True)
        reached = iterations_done(run)
        if checkpoints.listed(run):
            newest_contents(run)  # all of them are whole
        _make_room(place)
        began = time.monotonic()
        wait_until(lambda run=run, reached=reached: iterations_done(run) > reached, 20)
        slowest = max(slowest, time.monotonic() - began)
        waited += 1
        worker.kill()
        done = [record["iteration"] for record in records(run, "metrics")]
        assert done == list(range(1, len(done) + 1))
    figure(
        f"disk full, {SIZES[0]} KiB to {SIZES[-1] >> 10} MiB, with a person there", count,
        f"{waited} paused with the reason and went on {slowest:.1f} s after space was freed at the latest",
    )  # fmt: skip


def test_a_full_disk_without_anybody_there_fails_the_run(
    disk: Disk, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(7)
    count, whole = times(50), 0
    for turn in range(count):
        place = disk(SIZES[turn % len(SIZES)])
        run = make_harmed_run(place / "runs", "ppo", endless=True, options={"pace": 200})
        process = warm.start("train_headless", str(run.path), patches=SAVE_ALWAYS)
        wait_until(lambda run=run, process=process: checkpoints.listed(run) or process.poll() is not None)
        _fill(place, random_source.randrange(0, 24 << 10))
        assert process.wait(30) == 1, warm.output(process)
        said = warm.output(process)
        states = [record["state"] for record in records(run, "status")]
        assert "No space left" in said or "no space left" in said.lower(), said
        assert "finished" not in states
        newest_contents(run)
        _make_room(place)
        resumed = warm.start("train", str(run.path))
        reached = iterations_done(run)
        wait_until(lambda run=run, reached=reached: iterations_done(run) > reached, 20)
        resumed.kill()
        whole += 1
    figure("disk full, nobody there", count, f"{whole} failed with exit 1, said why, and resumed")


def test_a_run_that_finds_a_full_disk_at_its_start(disk: Disk, times: Times) -> None:
    place = disk(64)
    _fill(place, 0)
    with pytest.raises(RunError, match="No space left on device"):
        RunFolder.create(place / "runs", RunConfig(trainer="ppo"))


def _killed_run(place: Path, warm: WarmParent, **what: Any) -> RunFolder:
    """A run on that disk with at least three iterations and checkpoints, whose worker was killed."""
    run = make_harmed_run(place / "runs", "ppo", options={"pace": 40}, **what)
    worker = warm.start("train", str(run.path), patches=SAVE_ALWAYS)
    wait_until(lambda: iterations_done(run) >= 3)
    worker.kill()
    return run


@pytest.mark.parametrize("how", ["--no-ui", "in the background"])
def test_a_saved_run_that_is_resumed_on_a_full_disk(
    how: str, disk: Disk, warm: WarmParent, figure: Figure
) -> None:
    place = disk(512)
    run = _killed_run(place, warm)
    journal, newest = run.journal.read_bytes(), checkpoints.listed(run)[-1].iteration
    _fill(place, 0)
    command = [*PROGRAM, "resume", str(run.path), *([how] if how == "--no-ui" else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    figure(f"a saved run resumed on a full disk, {how}", 1, f"exit {done.returncode}, said why and where")
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert f"{run.path}" in done.stderr
    assert "No space left on device" in done.stderr
    assert "started" not in done.stdout
    assert run.journal.read_bytes() == journal
    assert newest_contents(run).numbers["iteration"] == newest
    _make_room(place)
    assert warm.start("train", str(run.path)).wait(60) == 0
    assert [record["from"] for record in records(run, "resumed")] == [newest]
    assert records(run, "status")[-1]["state"] == "finished"
    assert list(rows(run)) == list(range(1, iterations_done(run) + 1))


def test_a_worker_that_starts_on_an_almost_full_disk(
    disk: Disk, warm: WarmParent, times: Times, figure: Figure
) -> None:
    """The disk is full at another of its first writes each time; nothing that was there is lost."""
    place = disk(1024)
    run = _killed_run(place, warm, endless=True)
    count, waited, ended = times(60), 0, 0
    for turn in range(count):
        before, newest = _whole_lines(run), checkpoints.listed(run)[-1].iteration
        _fill(place, (turn // 2) << 12)
        function = ("train", "train_headless")[turn % 2]
        worker = warm.start(function, str(run.path), patches=SAVE_ALWAYS)
        wait_until(lambda worker=worker: worker.poll() is not None or "no space left" in observe(run).why, 20)
        if worker.poll() is None:
            assert function == "train"
            assert observe(run).state in ("paused", "starting")
            waited += 1
        else:
            said = warm.output(worker)
            assert worker.poll() in (1, 2), said
            assert "no space left" in said.lower()
            assert "Traceback" not in said
            assert ".py" not in said
            ended += 1
        assert _whole_lines(run)[: len(before)] == before
        assert newest_contents(run).numbers["iteration"] >= newest
        _make_room(place)
        if worker.poll() is not None:
            worker = warm.start("train", str(run.path))
        reached = iterations_done(run)
        wait_until(lambda reached=reached: iterations_done(run) > reached, 20)
        worker.kill()
    figure("disk full at a worker's first writes", count, f"{waited} waited, {ended} ended and said why")


def _whole_lines(run: RunFolder) -> list[bytes]:
    data = run.journal.read_bytes()
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that belongs to a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if os.getuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        yield place
        for path in [place, *place.rglob("*")]:
            path.chmod(0o700)


@pytest.mark.parametrize("which", ["run", "checkpoints", "all"])
def test_a_folder_made_read_only(which: str, others_folder: Path, warm: WarmParent, figure: Figure) -> None:
    run = make_harmed_run(others_folder / "runs", "ppo", endless=True, options={"pace": 100})
    user = NOBODY if os.getuid() == 0 else None
    if user is not None:
        for path in [others_folder / "runs", *(others_folder / "runs").rglob("*")]:
            os.chown(path, user, user)
    worker = warm.start("train", str(run.path), user=user, patches=SAVE_ALWAYS)
    wait_until(lambda: len(checkpoints.listed(run)) > 2)
    places = {"run": [run.path], "checkpoints": [run.checkpoints], "all": [run.checkpoints, run.path]}[which]
    for path in places:
        path.chmod(0o500)
    assert worker.wait(20) == 1, warm.output(worker)
    status = records(run, "status")[-1]
    figure(f"folder made read-only: {which}", 1, f"exit 1, {status['state']}: {status.get('why', '')}")
    assert status["state"] == "failed"
    assert "Permission denied" in status["why"]
    newest_contents(run)


def test_a_folder_removed_while_it_is_written(
    tmp_path: Path, warm: WarmParent, times: Times, figure: Figure
) -> None:
    count, slowest = times(20), 0.0
    for turn in range(count):
        run = make_harmed_run(tmp_path / "runs", "ppo", endless=True)
        process = warm.start(("train", "train_headless")[turn % 2], str(run.path))
        wait_until(lambda run=run: iterations_done(run) > 2)
        began = time.monotonic()
        shutil.rmtree(run.path, ignore_errors=True)
        code = process.wait(20)
        slowest = max(slowest, time.monotonic() - began)
        said = warm.output(process)
        assert code == 1, said
        assert "No such file or directory" in said or "removed" in said, said
        assert "finished" not in said
    figure("folder removed while it is written", count, f"exit 1 and said each time, slowest {slowest:.1f} s")


def test_a_folder_removed_while_a_screen_shows_it(
    make_run: MakeRun, warm: WarmParent, figure: Figure
) -> None:
    run = make_run(endless=True, options={"pace": 50})
    worker = warm.start("train", str(run.path))
    wait_until(lambda: iterations_done(run) > 2)
    screen = Terminal([*PROGRAM, "open", str(run.path)], controlling=True)
    try:
        screen.wait_for("live")
        shutil.rmtree(run.path, ignore_errors=True)
        assert worker.wait(20) == 1
        screen.wait_for("folder is gone")
        shown = screen.shown
        os.write(screen.master, b"q")
        code, left = screen.ends(), screen.seen.rpartition(b"\x1b[?1049l")[2]
    finally:
        screen.close()
    figure("folder removed while a screen shows it", 1, "the screen says that it is gone")
    assert code == 0
    assert "lost" in shown
    assert "finished" not in shown
    assert b"its folder is gone" in left
    assert not any(word in left for word in (b"finished", b"goes on", b"Traceback"))


@pytest.mark.parametrize("function", ["train", "train_headless"])
def test_a_journal_moved_away_while_it_is_written(
    function: str, make_run: MakeRun, tmp_path: Path, warm: WarmParent, figure: Figure
) -> None:
    """What is written then is read by nobody: a run that ends so is not finished."""
    run = make_run(options={"pace": 20})
    process = warm.start(function, str(run.path))
    wait_until(lambda: iterations_done(run) > 2)
    moved = run.journal.rename(tmp_path / "moved.jsonl")
    code, said = process.wait(20), warm.output(process)
    figure(f"journal moved away, {function}", 1, f"exit {code}: {said.splitlines()[-1] if said else ''}")
    assert code == 1
    assert "journal" in said
    assert "finished" not in said
    assert b'"finished"' not in moved.read_bytes()
    assert observe(run).state != "finished"
    assert (summary := read_summary(run)) is None or summary.state != "finished"
