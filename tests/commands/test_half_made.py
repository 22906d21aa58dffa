"""Signals while a run's folder is made, before its worker has it: nothing stays, and the code is theirs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import SMALL

from metarl_tui.commands.auto import beginning
from metarl_tui.launch import StartFailed
from metarl_tui.runs import folder as folders
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
HOW = [("--no-ui",), ("--detach",), ("--seeds", "1-3", "--no-ui"), ("--seeds", "1-3", "--detach"),
       ("--no-ui", "--resume", "auto", "--name", "job")]  # fmt: skip


def told(act: Callable[..., Any], number: int) -> Callable[..., Any]:
    """``act``, and in the middle of it the signal."""

    def acting(*arguments: Any, **keywords: Any) -> Any:
        result = act(*arguments, **keywords)
        os.kill(os.getpid(), number)
        return result

    return acting


@pytest.fixture
def never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("metarl_tui.launch.start", start)
    monkeypatch.setattr("metarl_tui.launch.start_group", start)
    monkeypatch.setattr("metarl_tui.headless.train_here", start)
    monkeypatch.setattr("metarl_tui.supervisor.Supervisor.run", start)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("how", HOW, ids=" ".join)
def test_a_signal_while_a_folder_is_made(
    how: tuple[str, ...], number: int, runs_dir: Path, invoke: Any, never_started: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The configuration has just been written; the folder is not yet whole."""
    before = signal.getsignal(number)
    monkeypatch.setattr(folders, "write_atomically", told(folders.write_atomically, number))
    assert invoke("train", "ppo", *how, *SMALL).exit_code == 128 + number
    assert [path for path in runs_dir.iterdir() if path.is_dir()] == []
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_fork_is_made(
    number: int, make_run: Any, runs_dir: Path, invoke: Any, never_started: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parent = make_run()
    monkeypatch.setattr("metarl_tui.worker.fork.steering", told(lambda history, until: [], number))
    assert invoke("fork", parent.id, "--at", "0", "--no-ui").exit_code == 128 + number
    assert list_runs(runs_dir) == [parent]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_worker_heeds_it(
    number: int, runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the foreground: the folder is made, and what trains is being imported."""
    monkeypatch.setattr("metarl_tui.headless.train_here", told(lambda folder, **how: 0, number))
    assert invoke("train", "ppo", "--no-ui", *SMALL).exit_code == 128 + number
    assert list_runs(runs_dir) == []


@pytest.mark.parametrize("can_be_read", [True, False])
def test_a_run_that_has_trained_stays_whatever_goes_wrong_afterwards(
    can_be_read: bool, runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: RunFolder, **how: Any) -> int:
        with Journal(folder.journal) as journal:
            for state in ("starting", "started", "running", "finished"):
                journal.append("status", 0, state=state)
        if not can_be_read:
            folder.journal.rename(folder.path / "elsewhere")
            folder.journal.mkdir()
        raise RuntimeError("the summary could not be drawn")

    monkeypatch.setattr("metarl_tui.headless.train_here", train)
    with pytest.raises(RuntimeError, match="could not be drawn"):
        invoke("train", "ppo", "--no-ui", *SMALL)
    assert len(list_runs(runs_dir)) == 1


def test_a_folder_that_can_not_be_made_whole_does_not_stay(
    runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_atomically", full)
    result = invoke("train", "ppo", "--no-ui", *SMALL)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert list(runs_dir.iterdir()) == []


def test_a_worker_that_can_not_be_started_leaves_nothing(
    runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: RunFolder, **how: Any) -> None:
        raise StartFailed("the worker could not be started: Cannot allocate memory")

    monkeypatch.setattr("metarl_tui.launch.start", start)
    result = invoke("train", "ppo", "--detach", *SMALL)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert list_runs(runs_dir) == []


@pytest.mark.parametrize("how", [("--seeds", "1-3", "--detach"), ("--no-ui", "--resume", "auto")])
def test_ctrl_c_is_heeded_while_another_makes_runs(
    how: tuple[str, ...], runs_dir: Path, invoke: Any, never_started: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert len(waits) == 1
        os.kill(os.getpid(), signal.SIGINT)

    with beginning(runs_dir):
        monkeypatch.setattr("metarl_tui.commands.auto.time.sleep", sleep)
        assert invoke("train", "ppo", *how, *SMALL).exit_code != 0
    assert waits
    assert list_runs(runs_dir) == []
