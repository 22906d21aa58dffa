"""``kill -9`` at random moments: the run opens, its newest checkpoint loads, no journaled record is lost."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from victims import SAVE_ALWAYS, SMALL, Figure, MakeRun, Times, iterations_done, wait_until
from warm_parent import WarmParent

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.heartbeat import last_journaled
from metarl_tui.runs.journal import Journal, JournalReader
from metarl_tui.runs.liveness import observe
from metarl_tui.worker.exact import read_history, rows_that_count
from trainers.hyperparameters import TRAINERS

MOMENTS = ("starting", "training", "saving", "pausing")


def _complete_lines(folder: RunFolder) -> list[bytes]:
    data = folder.journal.read_bytes() if folder.journal.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


def _kill_while(moment: str, folder: RunFolder, warm: WarmParent, random_source: random.Random) -> None:
    patches: dict[str, Any] = SAVE_ALWAYS if moment == "saving" else {}
    before = iterations_done(folder)
    worker = warm.start("train", str(folder.path), patches=patches)
    if moment == "starting":
        time.sleep(random_source.uniform(0, 0.08))
    else:
        wait_until(lambda: iterations_done(folder) > before or worker.poll() is not None)
        if moment == "pausing":
            requests.send(folder, "pause")
        time.sleep(random_source.uniform(0, 0.06))
    assert worker.poll() is None
    worker.kill()


def _look_after(folder: RunFolder, lines: list[bytes], saved: set[int]) -> list[str]:
    """What a kill must not have done, in words."""
    wrong = []
    if _complete_lines(folder)[: len(lines)] != lines:
        wrong.append("a journaled record is gone")
    reader = JournalReader(folder.journal)
    while reader.read():
        pass
    if reader.damaged:
        wrong.append(f"{reader.damaged} records are damaged")
    if observe(folder).state != "lost" and folder.worker.exists():
        wrong.append(f"it stands as {observe(folder)}")
    if reader.missing_before(last_journaled(folder)):
        wrong.append("the heartbeat tells of records that the journal lacks")
    found = checkpoints.newest_good(folder)
    rows = [row["iteration"] for row in rows_that_count(folder, read_history(folder).resumes)]
    if rows != list(range(1, len(rows) + 1)) or (found is not None and len(rows) < found[0].iteration):
        wrong.append("iterations up to the newest checkpoint have no row")
    if found is not None and found[2]:
        wrong.append(f"checkpoints are damaged: {found[2]}")
    if saved and (found is None or found[0].iteration < max(saved)):
        wrong.append(f"checkpoint {max(saved)} is gone")
    return wrong


@pytest.mark.parametrize("trainer", [name for name in SMALL if name in TRAINERS])
def test_kill_9_at_random_moments(
    trainer: str, make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(trainer)
    count = times(100)
    folder = make_run(trainer, endless=True)
    wrong: list[str] = []
    for number in range(count):
        moment = MOMENTS[number % len(MOMENTS)]
        before = _complete_lines(folder)
        saved = {checkpoint.iteration for checkpoint in checkpoints.listed(folder)}
        _kill_while(moment, folder, warm, random_source)
        killed = _complete_lines(folder)
        wrong += [f"{moment}: {what}" for what in _look_after(folder, before, saved)]
        Journal(folder.journal).close()  # what the next worker does first: the torn tail is moved aside
        wrong += [f"{moment}: {what}" for what in _look_after(folder, killed, saved)]
    rows = iterations_done(folder)
    figure(
        f"kill -9, {trainer}: {', '.join(MOMENTS)}",
        count,
        f"{count - len(wrong)} of {count} whole; {rows} iterations, nothing journaled is lost",
    )
    assert not wrong
    assert rows > 0
