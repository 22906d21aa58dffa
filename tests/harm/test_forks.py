"""Forks: exact without a change, and never half made when whoever makes one is killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pseudo_terminal import Terminal
from victims import (
    SAVE_ALWAYS,
    SMALL,
    Figure,
    MakeRun,
    Times,
    first_difference,
    make_harmed_run,
    records,
    rows,
    wait_until,
)
from warm_parent import WarmParent

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import observe
from trainers.hyperparameters import TRAINERS

MAKING_SECONDS = 0.06
"""About as long as the making of a fork takes once its folder is there."""
STEERING = {"ppo": {"clip_epsilon": 0.07}, "maml": {"inner_lr": 0.05}, "maml-ppo": {"inner_lr": 0.05}}


def _steered_parent(trainer: str, make_run: MakeRun, warm: WarmParent) -> RunFolder:
    parent = make_run(trainer, options={"pace": 40})
    worker = warm.start("train", str(parent.path), patches=SAVE_ALWAYS)
    wait_until(lambda: observe(parent).state == "running")
    requests.send(parent, "set", STEERING[trainer])
    assert worker.wait(60) == 0
    return parent


def _folders(parent: RunFolder) -> int:
    return sum(1 for _ in parent.path.parent.iterdir())


def _forks_of(parent: RunFolder) -> list[RunFolder]:
    return [run for run in list_runs(parent.path.parent) if run.config.parent]


@pytest.mark.parametrize("trainer", [name for name in SMALL if name in TRAINERS])
def test_a_fork_without_a_change_is_its_parent(
    trainer: str, make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    random_source = random.Random(trainer)
    parent = _steered_parent(trainer, make_run, warm)
    *_, before, last = [checkpoint.iteration for checkpoint in checkpoints.listed(parent)]
    for path in sorted(parent.checkpoints.iterdir())[1:-1]:
        if int(path.name) % 3:  # thinned, so that the way to most iterations must be trained again
            checkpoints.remove(parent, checkpoints.Checkpoint(path, int(path.name)))
    # A fork goes its own way: what people did to its parent later is not done to it.
    steered = max(record["iteration"] for record in records(parent, "control"))
    count, differences, at = times(10), [], []
    for _ in range(count):
        at.append(random_source.randrange(steered, before + 1))
        assert warm.start("fork", str(parent.path), at[-1]).wait(60) == 0
        (fork,) = _forks_of(parent)
        assert warm.start("train", str(fork.path)).wait(60) == 0
        assert max(rows(fork)) == last
        if difference := first_difference(parent, fork, after=at[-1]):
            differences.append(difference)
        fork.path.rename(parent.path.parent.parent / fork.path.name)
    same = count - len(differences)
    figure(f"forks without a change, {trainer}", count, f"{same} of {count} identical, at {at}")
    assert not differences


@pytest.mark.parametrize("trainer", [name for name in SMALL if name in TRAINERS])
def test_a_fork_whose_maker_is_killed(
    trainer: str, make_run: MakeRun, warm: WarmParent, times: Times, figure: Figure
) -> None:
    """It is whole, or it is refused; it never trains on as something that its parent was not."""
    random_source = random.Random(trainer)
    parent = _steered_parent(trainer, make_run, warm)
    at = max(6, *(record["iteration"] for record in records(parent, "control")))
    before = parent.journal.read_bytes()
    count, whole, refused = times(100), 0, 0
    for _ in range(count):
        known = _folders(parent)
        maker = warm.start("fork", str(parent.path), at)
        wait_until(
            lambda known=known, maker=maker: maker.poll() is not None or _folders(parent) > known, 10, 0.0
        )
        time.sleep(random_source.uniform(0, MAKING_SECONDS))
        maker.kill()
        assert parent.journal.read_bytes() == before
        for fork in _forks_of(parent):
            code = warm.start("train", str(fork.path)).wait(60)
            if code == 0:
                assert first_difference(parent, fork, after=at) is None
                whole += 1
            else:
                assert code == 2
                assert "was not completed" in records(fork, "status")[-1]["why"]
                refused += 1
            fork.path.rename(parent.path.parent.parent / fork.path.name)
    figure(
        f"kill -9 while forking, {trainer}", count,
        f"{whole} forks whole, {refused} half made and refused, {count - whole - refused} not there",
    )  # fmt: skip


PROGRAM = [sys.executable, "-m", "metarl_tui"]


@pytest.fixture(scope="module")
def crossroads(warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with checkpoints at iterations 3 and 10 only: a fork at 6 is trained forward."""
    parent = make_harmed_run(tmp_path_factory.mktemp("crossroads") / "runs", "ppo")
    assert warm_parent.start("train", str(parent.path), patches=SAVE_ALWAYS).wait(60) == 0
    for one in checkpoints.listed(parent):
        if one.iteration not in (3, 10):
            checkpoints.remove(parent, one)
    return parent


def _rewrite(run: RunFolder, iteration: int, values: dict[str, Any]) -> None:
    """As if ``run`` had measured other ``values`` in that iteration."""
    found = records(run)
    run.journal.unlink()
    with Journal(run.journal) as journal:
        for record in found:
            fields = {name: record[name] for name in record if name not in ("seq", "time", "crc")}
            if (record["kind"], record["iteration"]) == ("metrics", iteration):
                fields["values"] = {**fields["values"], **values}
            journal.append(fields.pop("kind"), fields.pop("iteration"), **fields)


@pytest.mark.parametrize("how", ["--no-ui", "--detach", "on the screen"])
def test_a_fork_that_is_found_to_be_another_than_its_parent(
    how: str, crossroads: RunFolder, tmp_path: Path, figure: Figure
) -> None:
    """It is never there to be taken for one: whoever asked for it is told why, and its folder is removed."""
    parent = RunFolder(tmp_path / "runs" / crossroads.path.name)
    shutil.copytree(crossroads.path, parent.path)
    _rewrite(parent, 5, {"train/grad_norm": 0.25})
    command = [*PROGRAM, "fork", str(parent.path), "--at", "6", "--runs-dir", str(parent.path.parent)]
    if how == "on the screen":
        terminal = Terminal(command)
        try:
            code, said = terminal.ends(60), terminal.shown.replace("\n", "")
        finally:
            terminal.close()
    else:
        done = subprocess.run([*command, how], capture_output=True, text=True, timeout=60)
        code, said = done.returncode, done.stderr
        assert said.count("\n") == 1
        assert "not as the parent's" not in done.stdout
    figure(f"a fork that is another than its parent, {how}", 1, f"exit {code}, said why, nothing left")
    assert code == 2
    assert "iteration 5 is not as the parent's: train/grad_norm was 0.25 and is " in said
    assert list_runs(parent.path.parent) == [parent]


def test_a_fork_behind_the_screen_has_started_when_it_leaves_its_parent(crossroads: RunFolder) -> None:
    runs = crossroads.path.parent
    command = [*PROGRAM, "fork", str(crossroads.path), "--at", "6", "--detach", "--runs-dir", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (fork,) = _forks_of(crossroads)
    assert done.stdout == f"{fork.id}\n"
    assert any(one.iteration == 6 for one in checkpoints.listed(fork))
    assert [record["forward_to"] for record in records(fork, "status") if record["state"] == "started"] == [6]
    wait_until(lambda: not observe(fork).alive)
    assert observe(fork).state == "finished"
