"""Code that a run names is imported only for who named it, or was asked and agreed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from live_run import app_on, text, until
from received import MODULE, Invoke, append, change, received
from small_runs import SMALL, train_here
from test_terminal import Terminal

from metarl_tui.launch import StartFailed, start, start_group
from metarl_tui.runs import trust
from metarl_tui.runs.folder import NotTrusted, RunConfig, RunError, RunFolder
from metarl_tui.runs.trust import names_code
from metarl_tui.worker.build import find_environments_of
from metarl_tui.worker.exact import read_history

NAMED = "evil:Evil"


def begun(runs_dir: Path, env: str = NAMED, **fields: Any) -> RunFolder:
    """A run that its reader began."""
    return RunFolder.create(
        runs_dir, RunConfig("ppo", setup={"env": env}, subject=env, trusted=True, **fields)
    )


@pytest.fixture
def evil(runs_dir: Path, tmp_path: Path) -> RunFolder:
    """A run from somebody else that names a module of its own, which is where it says."""
    run = received(runs_dir)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "evil.py").write_text(MODULE)
    change(run.path, subject=NAMED, working_folder=str(tmp_path / "theirs"), setup={"env": NAMED})
    return run


@pytest.mark.parametrize(
    ("setup", "named"),
    [
        ({"env": "CartPole-v1", "device": "cuda:1", "data": "C:images", "env_arg": {}, "seed": 1}, []),
        ({"env": "module:CartPole-v1"}, ["env"]),
        ({"env": "CartPole-v1", "env_arg": {"path": "/"}}, ["env_arg"]),
        ({"task": "package.module:Class", "data": "images.npz"}, ["task"]),
        ({"env": "\x1b]evil:Evil\x07CartPole-v1"}, ["env"]),
    ],
)
def test_what_names_code(runs_dir: Path, setup: dict[str, Any], named: list[str]) -> None:
    assert list(names_code(setup)) == named
    run = received(runs_dir)
    change(run.path, setup=setup)
    assert run.config.trusted == (not named)


def test_the_values_that_a_fork_replaced_name_code_too(runs_dir: Path) -> None:
    run = received(runs_dir)
    change(run.path, parent={"run": "x", "iteration": 3, "replaced": {"env": NAMED, "hidden_sizes": [8]}})
    with pytest.raises(NotTrusted, match="the parent's env = evil:Evil"):
        run.check_trusted()


def test_who_began_a_run_is_never_asked_again(runs_dir: Path, tmp_path: Path) -> None:
    run = begun(runs_dir)
    RunFolder(run.path).check_trusted()
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    RunFolder(copy).check_trusted()
    for name in ("key", "metarl-tui"):
        (found,) = (tmp_path / "state").rglob(name)
        assert found.stat().st_mode & 0o077 == 0


def test_a_mark_is_for_one_reader_and_one_configuration(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(runs_dir)
    content = (run.path / "run.json").read_bytes()
    (run.path / "run.json").write_bytes(content.replace(b"evil:Evil", b"evil:Else"))
    with pytest.raises(NotTrusted, match="evil:Else"):
        RunFolder(run.path).check_trusted()
    (run.path / "run.json").write_bytes(content)
    RunFolder(run.path).check_trusted()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody else's"))
    begun(runs_dir)
    with pytest.raises(NotTrusted):
        RunFolder(run.path).check_trusted()


def test_a_key_that_others_can_read_proves_nothing(runs_dir: Path, tmp_path: Path) -> None:
    run = begun(runs_dir)
    next((tmp_path / "state").rglob("key")).chmod(0o644)
    with pytest.raises(NotTrusted):
        RunFolder(run.path).check_trusted()


def test_two_that_need_a_first_key_at_once_have_one(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = []

    def key(size: int) -> bytes:
        monkeypatch.undo()
        monkeypatch.setenv("XDG_STATE_HOME", str(runs_dir.parent / "state"))
        marked.append(begun(runs_dir))  # while the other makes its own
        return bytes(size)

    monkeypatch.setattr(trust.secrets, "token_bytes", key)
    marked.append(begun(runs_dir))
    assert len(marked) == 2
    for run in marked:
        RunFolder(run.path).check_trusted()
    assert [path.name for path in (runs_dir.parent / "state").rglob("*") if path.is_file()] == ["key"]


def swapped(evil: RunFolder) -> RunFolder:
    """As ``evil`` was read and agreed to; what stands there since then is another."""
    agreed = RunFolder(evil.path)
    assert agreed.config.setup["env"] == NAMED
    change(evil.path, setup={"env": "evil:Else"})
    agreed.trust()
    return agreed


def test_what_was_agreed_to_is_what_was_read_before_the_question(evil: RunFolder) -> None:
    agreed = swapped(evil)
    agreed.check_trusted()
    assert agreed.config.setup["env"] == NAMED
    with pytest.raises(NotTrusted, match="evil:Else"):
        RunFolder(evil.path).check_trusted()
    with pytest.raises(NotTrusted):
        RunFolder(evil.path, trusted=agreed.trusted_digest).check_trusted()
    change(evil.path, setup={"env": NAMED})
    RunFolder(evil.path, trusted=agreed.trusted_digest).check_trusted()


def test_a_worker_refuses_another_configuration_than_was_agreed_to(evil: RunFolder, witness: Path) -> None:
    agreed = swapped(evil)
    for launch in (start(agreed), start_group([agreed], 1)):
        with pytest.raises(StartFailed, match="evil:Else"):
            launch.wait()
        launch.end()
    assert not witness.exists()


def test_what_is_evaluated_is_what_was_looked_at(runs_dir: Path, witness: Path) -> None:
    from metarl_tui.worker.evaluate import evaluate_checkpoint

    run = begun(runs_dir, "CartPole-v1", hyperparameters={**SMALL, "total_steps": 64})
    assert train_here(run) == 0
    looked_at = RunFolder(run.path)
    looked_at.check_trusted()
    change(run.path, setup={"env": NAMED})
    with pytest.raises(RunError, match=r"run\.json was changed while it was read"):
        evaluate_checkpoint(looked_at, {"episodes": 1}, None, lambda _: None)
    assert not witness.exists()


def test_without_a_place_for_a_key_trust_lasts_as_long_as_the_process(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    run = begun(runs_dir)
    run.check_trusted()
    with pytest.raises(NotTrusted):
        RunFolder(run.path).check_trusted()
    assert not (run.path / "trusted").exists()


def test_a_registered_name_needs_neither_key_nor_mark(runs_dir: Path, tmp_path: Path) -> None:
    run = begun(runs_dir, "CartPole-v1")
    run.check_trusted()
    assert not (run.path / "trusted").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("words", [["resume"], ["resume", "--no-ui"], ["evaluate"]])
def test_a_script_is_refused_and_told_what_would_be_imported(
    evil: RunFolder, witness: Path, invoke: Invoke, words: list[str], tmp_path: Path
) -> None:
    before = evil.journal.read_bytes()
    result = invoke(*words, str(evil.path))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    for part in ("env = evil:Evil", str(tmp_path / "theirs"), "not begun by you", "--trust"):
        assert part in line
    assert evil.journal.read_bytes() == before
    assert not witness.exists()
    assert str(tmp_path / "theirs") not in sys.path


def test_trust_runs_it_and_is_remembered(evil: RunFolder, witness: Path, invoke: Invoke) -> None:
    result = invoke("resume", str(evil.path), "--trust")
    assert result.exit_code != 0  # what it imports leaves at once
    assert "evil was imported" in result.stderr
    assert witness.exists()
    RunFolder(evil.path).check_trusted()


def test_whoever_starts_a_worker_is_refused_as_well(evil: RunFolder, witness: Path) -> None:
    from metarl_tui.worker.evaluate import evaluate_checkpoint
    from metarl_tui.worker.interruption import Interruption
    from metarl_tui.worker.loop import train

    for act in (
        lambda: start(evil),
        lambda: train(evil, Interruption()),
        lambda: evaluate_checkpoint(evil, {"episodes": 1}, None, lambda _: None),
    ):
        with pytest.raises(NotTrusted):
            act()
    assert not witness.exists()


def test_a_folder_that_others_may_write_is_not_even_asked_about(evil: RunFolder, invoke: Invoke) -> None:
    evil.path.chmod(0o777)
    for words in (["resume"], ["evaluate"]):
        result = invoke(*words, str(evil.path), "--trust")
        assert result.exit_code == 2
        assert "chmod go-w" in result.stderr


def test_a_fork_of_it_is_no_more_trusted(evil: RunFolder, witness: Path, runs_dir: Path) -> None:
    from metarl_tui.worker.fork import make_fork

    fork = make_fork(evil, runs_dir, 5).folder
    with pytest.raises(NotTrusted):
        start(fork)
    assert not witness.exists()


def test_a_journal_names_no_environment(runs_dir: Path) -> None:
    run = received(runs_dir)
    run.journal.unlink()
    decisions = {"env": NAMED, "env_arg": {"a": 1}, "vector": "sync", "threads": 2}
    append(run.path, {"kind": "status", "state": "started", "decisions": decisions})
    assert read_history(run).decisions == {"vector": "sync", "threads": 2}


def test_where_it_was_begun_is_no_place_for_modules_unless_it_names_one(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package may try to import what is not there, as torch and gymnasium do."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    run = received(runs_dir, {"working_folder": str(tmp_path)})
    find_environments_of(run.config)
    assert str(tmp_path) not in sys.path
    find_environments_of(begun(runs_dir, working_folder=str(tmp_path)).config)
    assert str(tmp_path) in sys.path


@pytest.mark.parametrize(("answer", "runs"), [(b"n\n", False), (b"\n", False), (b"y\n", True)])
def test_a_person_is_asked(evil: RunFolder, witness: Path, answer: bytes, runs: bool) -> None:
    terminal = Terminal([sys.executable, "-m", "metarl_tui", "resume", str(evil.path)])
    try:
        terminal.wait_for("[y/N]")
        for part in ("env = evil:Evil", "theirs", "not begun by you"):
            assert part in terminal.shown.replace("\n", "")
        assert not witness.exists()
        os.write(terminal.master, answer)
        assert terminal.ends(60) == (2 if runs else 1)
        assert witness.exists() == runs
    finally:
        terminal.close()


async def test_the_screen_refuses_and_names_the_command(evil: RunFolder, witness: Path) -> None:
    async with app_on(evil.path.parent, evil).run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "resume" in text(pilot))
        await pilot.press("r")
        await pilot.press("y")
        await until(pilot, lambda: "metarl-tui resume k3f9 shows it and asks" in text(pilot))
    assert not witness.exists()
