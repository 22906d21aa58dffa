"""What is written is for its owner alone, and holds nothing that nobody asked to be kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_run import LiveRun, app_on, text, until
from received import Invoke, append, contents, linked_folders, received
from small_runs import ENVIRONMENTS, SMALL, train_here

from metarl_tui.launch import start
from metarl_tui.runs.checkpoints import Contents, save
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.requests import send
from metarl_tui.worker.fork import plan_fork

SECRET = "AKIAPLANTED0SECRET"
ONE_ITERATION = {**SMALL, "total_steps": 64}


def everything(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_a_run_is_private_whatever_the_umask(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a run, its worker, requests and its key write."""
    monkeypatch.syspath_prepend(str(ENVIRONMENTS))
    before = os.umask(mask)
    try:
        config = RunConfig(
            "ppo", setup={"env": "CartPole-v1", "env_arg": {"sutton_barto_reward": True}},
            hyperparameters=ONE_ITERATION, subject="CartPole-v1", trusted=True,
        )  # fmt: skip
        run = RunFolder.create(tmp_path / "new" / "runs", config)
        assert train_here(run) == 0
        send(run, "pause")
        (run.path / "journal.jsonl").open("ab").write(b'{"torn')
        assert train_here(run) in (0, 2)
        found = [*everything(tmp_path / "new"), *everything(tmp_path / "state")]
    finally:
        os.umask(before)
    names = {path.name for path in found}
    assert {"journal.jsonl", "heartbeat", "worker.json", "summary.json", "lock", "key", "trusted"} <= names
    assert {"weights.safetensors", "manifest.json", "journal.torn-1"} <= names
    for path in found:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_what_the_launcher_and_its_worker_write_is_private(tmp_path: Path) -> None:
    run = _trained(tmp_path, mask=0)
    assert {stat.S_IMODE(path.stat().st_mode) for path in everything(run) if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in everything(run) if path.is_file()} == {0o600}
    assert (run / "worker.log").is_file()


def test_nothing_is_kept_that_was_not_asked_for(tmp_path: Path) -> None:
    """Neither environment variables nor the words of the command line, also not in a traceback."""
    fine = _trained(tmp_path)
    failed = _trained(tmp_path, "--env-arg", "after=5", env="hostile:Raises", expect=1)
    for run in (fine, failed):
        for path in everything(run):
            assert SECRET not in path.name
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert b"Traceback" in (failed / "worker.log").read_bytes()


def test_arguments_of_the_environment_are_kept_because_they_are_the_run(tmp_path: Path) -> None:
    run = _trained(tmp_path, "--env-arg", "sutton_barto_reward=true")
    assert b"sutton_barto_reward" in (run / "run.json").read_bytes()


def _trained(
    tmp_path: Path, *flags: str, env: str = "CartPole-v1", mask: int = 0o022, expect: int = 0
) -> Path:
    """The folder of a run that a command line trained in the background, with secrets all around it."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in ONE_ITERATION.items()
             if name != "hidden_sizes"]  # fmt: skip
    command = [
        "train",
        "ppo",
        f"--env={env}",
        "--on-nan=stop",
        "--detach",
        "--hidden-sizes=8",
        *words,
        *flags,
    ]
    script = (
        f"import os, sys; os.umask({mask}); sys.argv = ['metarl-tui', *sys.argv[2:]]; "
        "from metarl_tui.cli import main; main()"
    )
    runs = tmp_path / f"runs{len(list(tmp_path.iterdir()))}"
    environment = {
        **os.environ, "AWS_SECRET": SECRET, "WANDB_API_KEY": SECRET, "METARL_RUNS_DIR": str(runs),
        "PYTHONPATH": str(ENVIRONMENTS), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    argv = [sys.executable, "-c", script, SECRET, *command]
    subprocess.run(argv, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    (run,) = runs.iterdir()
    wait = [sys.executable, "-m", "metarl_tui", "wait", str(run)]
    assert subprocess.run(wait, capture_output=True, timeout=100).returncode == expect
    return run


SENDERS: dict[str, Callable[[str], list[str]]] = {
    "set": lambda run: ["set", run, "gamma=0.9"],
    "pause": lambda run: ["pause", run],
    "save": lambda run: ["save", run],
    "stop": lambda run: ["stop", run],
    "let go": lambda run: ["resume", run],
    "resume": lambda run: ["resume", run],
    "resume --no-ui": lambda run: ["resume", run, "--no-ui"],
}


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("where", ["", "requests"])
def test_a_folder_that_others_may_write_is_not_steered(
    sender: str, mode: int, where: str, runs_dir: Path, invoke: Invoke
) -> None:
    live = None if sender in ("resume", "resume --no-ui") else LiveRun(runs_dir)
    if live:
        live.say("paused" if sender == "let go" else "running")
    run = live.folder if live else received(runs_dir)
    try:
        (run.path / where).chmod(mode)
        before = run.journal.read_bytes()
        result = invoke(*SENDERS[sender](str(run.path)))
        assert result.exit_code == 2, result.output
        for part in (
            "may be written by",
            "everyone" if mode & 2 else "its group",
            "chmod go-w",
            str(run.path),
        ):
            assert part in result.stderr
        assert list(run.requests.iterdir()) == []
        assert run.journal.read_bytes() == before
        assert list(runs_dir.iterdir()) == [run.path]
        with pytest.raises(RunError, match="chmod"):
            start(run)
    finally:
        if live:
            live.close()


async def test_the_screen_refuses_to_steer_it_and_says_why(runs_dir: Path) -> None:
    live = LiveRun(runs_dir)
    live.say("running")
    live.folder.path.chmod(0o777)
    async with app_on(runs_dir, live.folder).run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: "pause" in text(pilot))
        await pilot.press("p")
        await until(pilot, lambda: "chmod go-w" in text(pilot))
    assert live.queued() == []
    live.close()


def test_training_a_run_with_links_for_folders_writes_only_inside_it(runs_dir: Path, outside: Path) -> None:
    run = received(runs_dir, {"hyperparameters": ONE_ITERATION})
    linked_folders(run.path, outside)
    append(run.path, {"kind": "status", "state": "stopped"})
    before = contents(outside)
    assert train_here(run) in (1, 2)
    with pytest.raises(OSError, match="own"):
        save(run, 1, Contents(), "automatic")
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["journal.jsonl", "worker.log", "heartbeat"])
@pytest.mark.parametrize("sender", ["resume", "resume --no-ui"])
def test_what_is_written_in_place_has_no_other_name(
    sender: str, name: str, runs_dir: Path, outside: Path, invoke: Invoke
) -> None:
    """A hard link in an archive may be one to a file of the reader's."""
    run = received(runs_dir)
    (run.path / name).touch()
    os.link(run.path / name, outside / name)
    before = contents(outside)
    result = invoke(*SENDERS[sender](str(run.path)))
    assert result.exit_code == 2, result.output
    for part in (f"{name} has another name elsewhere", "work on a copy: cp -r"):
        assert part in result.stderr
    assert contents(outside) == before
    with pytest.raises(RunError, match="hard link"):
        start(run)


def test_a_backup_made_of_hard_links_keeps_nobody_from_steering_or_forking(
    runs_dir: Path, outside: Path
) -> None:
    """As ``cp -al`` and rsnapshot make it."""
    run = received(runs_dir)
    for path in (run.journal, run.heartbeat, run.log):
        path.touch()
        os.link(path, outside / path.name)
    send(run, "pause")
    assert plan_fork(run, 5).remarks == ()


@pytest.mark.parametrize("mode", [0o700, 0o770, 0o777])
def test_a_fork_of_a_run_that_others_may_write_is_made_and_that_is_said(
    mode: int, runs_dir: Path, tmp_path: Path
) -> None:
    """It only reads, and what it reads is data; its own folder is its maker's alone."""
    run = received(runs_dir)
    run.path.chmod(mode)
    before = contents(run.path)
    plan = plan_fork(run, 5)
    fork = plan.make(tmp_path / "own").folder
    said = [record["text"] for record in JournalReader(fork.journal).read() if record["kind"] == "note"]
    assert len(plan.remarks) == (mode != 0o700)
    assert said[:-1] == list(plan.remarks)
    for remark in plan.remarks:
        assert remark.startswith("what is taken from the parent may not be what it trained: ")
        assert ("everyone" if mode & 2 else "its group") in remark
    fork.check_private()
    assert contents(run.path) == before
