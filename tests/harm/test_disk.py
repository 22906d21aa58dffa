"""A full disk at every write, a folder that may not be written, a folder that is gone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from victims import (
    SAVE_ALWAYS,
    Figure,
    Times,
    iterations_done,
    make_harmed_run,
    newest_contents,
    records,
    wait_until,
)
from warm_parent import WarmParent

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.liveness import observe

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
        run = make_harmed_run(place / "runs", "ppo", endless=True, options={"pace": 200})
        worker = warm.start("train", str(run.path), patches=SAVE_ALWAYS)
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
        records(run)
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
