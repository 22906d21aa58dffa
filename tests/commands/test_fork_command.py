"""``fork`` and ``rerun`` as a person types them, with real workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.launch import Launch
from metarl_tui.runs import checkpoints
from metarl_tui.runs.find import find_run, list_runs
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal, JournalReader
from metarl_tui.runs.liveness import observe

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--num-envs", "4", "--rollout-steps", "16", "--minibatch-size", "32", "--hidden-sizes", "8")


@pytest.fixture
def run_program(runs_dir: Path) -> Any:
    runs_dir.mkdir(parents=True)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "METARL_RUNS_DIR": str(runs_dir)}
        command = [sys.executable, "-m", "metarl_tui", *words]
        return subprocess.run(
            command, env=environment, cwd=runs_dir.parent, text=True, capture_output=True, timeout=120
        )

    return run


def rows(folder: RunFolder) -> dict[int, dict[str, Any]]:
    records = JournalReader(folder.journal).read(1 << 24)
    return {
        record["iteration"]: {k: v for k, v in record["values"].items() if not k.startswith("time/")}
        for record in records
        if record["kind"] == "metrics"
    }


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_for_end(folder: RunFolder) -> None:
    wait_for(lambda: not observe(folder).alive and observe(folder).state not in ("running", "starting"))


def test_a_live_hand_steered_run_is_forked_and_both_are_trained_again(
    run_program: Any, invoke: Any, runs_dir: Path
) -> None:
    words = ("--name", "parent", "--total-steps", "6400", "--pace", "12", *SMALL)
    begun = run_program("train", "ppo", "--detach", *words)
    parent = find_run(runs_dir, begun.stdout.strip())
    steered = invoke("set", "parent", "clip_epsilon=0.05")
    found = re.match(r"applied at iteration (\d+)", steered.stdout)
    assert found
    wait_for(lambda: int(found[1]) in rows(parent))  # before that the fork would leave without the change
    at = max(rows(parent))
    forked = run_program("fork", "parent", "--at", str(at), "--detach", "--name", "child", "pace=off")
    assert forked.returncode == 0, forked.stderr
    child = find_run(runs_dir, "child")
    assert forked.stdout == f"{child.id}\n"
    assert child.config.parent is not None
    assert child.config.parent["run"] == parent.id
    invoke("set", "parent", "pace=off")
    wait_for_end(parent)
    wait_for_end(child)
    saved = checkpoints.listed(parent)[-2].iteration
    nothing_left = invoke("fork", "parent", "--at", str(saved), "total_steps=64", "--no-ui")
    assert nothing_left.exit_code == 2
    assert re.search(r"total_steps = 64: must be more than the \d+ done", nothing_left.stderr)
    assert rows(child) == {number: row for number, row in rows(parent).items() if number > at}
    for folder in (parent, child):
        again = invoke("rerun", folder.short_id, "--json")
        assert again.exit_code == 0, again.stdout + again.stderr
        page = json.loads(again.stdout)
        assert page["identical"]
        assert page["missing"] == 0
        assert page["compared"] == len(rows(folder))
    shown = invoke("show", "child")
    assert f"forked from {parent.id} at iteration {at}" in shown.stdout


def test_a_rerun_that_differs_says_where_and_exits_1(run_program: Any, invoke: Any, runs_dir: Path) -> None:
    words = ("train", "ppo", "--no-ui", "--total-steps", "640", *SMALL)
    assert run_program(*words).returncode == 0
    (folder,) = list_runs(runs_dir)
    config = folder.path / "run.json"
    config.write_text(config.read_text().replace('"entropy_coef": 0.0', '"entropy_coef": 0.5'))
    again = invoke("rerun", "latest")
    assert again.exit_code == 1
    assert again.stdout.startswith("differs from iteration 1 on: train/")
    assert "the journal names nothing that is other now" in again.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--at", "4"), "at = 4: run RUN has come to iteration 3"),
        (("hidden_sizes=4",), "hidden_sizes = 4: can't change in a fork"),
        (("num_envs",), "num_envs: must be NAME=VALUE, as in num_envs=16"),
        (("nun_envs=4",), "did you mean num_envs"),
        (("env=Cart\x1bPole",), "must be printable text"),
        (("--name", "latest"), "name = latest: is reserved"),
        (("--json",), "--json needs --no-ui"),
    ],
)
def test_forks_that_can_not_be_leave_nothing(
    invoke: Any, make_run: Any, runs_dir: Path, words: tuple[str, ...], message: str
) -> None:
    run = make_run()
    how = () if "--json" in words else ("--no-ui",)
    result = invoke("fork", run.short_id, *words, *how)
    assert result.exit_code == 2
    assert message.replace("RUN", run.short_id) in result.stderr
    assert "\x1b" not in result.stderr
    assert list_runs(runs_dir) == [run]


def test_a_fork_at_the_end_of_a_finished_run_needs_more_to_do(
    invoke: Any, make_run: Any, runs_dir: Path
) -> None:
    run = make_run("finished", why="trained for 5000000 steps, total_steps = 5000000")
    result = invoke("fork", run.short_id, "--no-ui")
    assert result.exit_code == 2
    assert f"metarl-tui fork {run.short_id} total_steps=10000000" in result.stderr
    for words, message in (
        (("--at", "99"), "at = 99: run"),
        (("seed=4",), "seed = 4: can't change in a fork"),
        (("hidden_sizes=4",), "hidden_sizes = 4: can't change in a fork"),
    ):
        assert message in invoke("fork", run.short_id, *words, "--no-ui").stderr
    assert list_runs(runs_dir) == [run]


def test_a_fork_names_its_parent(invoke: Any, make_run: Any, runs_dir: Path) -> None:
    from metarl_tui.worker.fork import make_fork

    parent = make_run()
    fork = make_fork(parent, runs_dir, 0, name="wider").folder
    assert f"forked from {parent.id} at iteration 0" in invoke("show", fork.short_id).stdout
    line = next(line for line in invoke("list").stdout.splitlines() if line.startswith(fork.short_id))
    assert line.endswith(f"wider, from {parent.short_id}@0")
    pages = {page["id"]: page["parent"] for page in json.loads(invoke("list", "--json").stdout)}
    assert pages[parent.id] is None
    assert (pages[fork.id]["run"], pages[fork.id]["iteration"]) == (parent.id, 0)


def test_arguments_of_the_environment_are_added(invoke: Any, make_run: Any) -> None:
    from metarl_tui.commands.fork import parse_fork_changes

    run = make_run()
    changes = parse_fork_changes(("env_arg=a=1", "env-arg=b=x", "num_envs=16"), run)
    assert changes == {"env_arg": {"a": 1, "b": "x"}, "num_envs": 16}


@pytest.fixture
def on_its_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers that say that they train a fork forward, and never arrive."""
    workers: list[subprocess.Popen[bytes]] = []

    def start(folder: RunFolder, **how: Any) -> Launch:
        workers.append(subprocess.Popen(["sleep", "60"]))
        reader = JournalReader(folder.journal)
        reader.seek_end()
        with Journal(folder.journal) as journal:
            journal.append("status", 0, state="started", forward_to=3)
            journal.append("status", 0, state="starting", why="training forward")
        return Launch(folder, workers[-1], reader)

    monkeypatch.setattr("metarl_tui.launch.start", start)
    yield workers
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_fork_on_its_way_is_named_and_outlives_its_shell(
    as_json: bool, number: int, invoke: Any, make_run: Any, runs_dir: Path,
    on_its_way: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parent = make_run()
    monkeypatch.setattr("metarl_tui.launch.time.sleep", lambda seconds: os.kill(os.getpid(), number))
    result = invoke("fork", parent.id, "--at", "0", "--detach", *(["--json"] if as_json else []))
    assert result.exit_code == 128 + number
    (fork,) = [run for run in list_runs(runs_dir) if run != parent]
    assert (json.loads(result.stdout)["id"] if as_json else result.stdout.strip()) == fork.id
    assert f"{fork.short_id} trains on; metarl-tui open {fork.short_id} shows it" in result.stderr
    assert on_its_way[0].poll() is None


def test_a_fork_that_is_resumed_on_its_way_outlives_a_signal_too(
    invoke: Any, make_run: Any, on_its_way: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    monkeypatch.setattr("metarl_tui.launch.time.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    result = invoke("resume", run.id)
    assert (result.exit_code, "trains on" in result.stderr) == (130, True)
    assert on_its_way[0].poll() is None


def test_a_fork_that_fails_on_its_way_is_removed(
    invoke: Any, make_run: Any, runs_dir: Path, on_its_way: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parent = make_run()

    def fail(seconds: float) -> None:
        (fork,) = [run for run in list_runs(runs_dir) if run != parent]
        with Journal(fork.journal) as journal:
            journal.append("status", 0, state="failed", why="another than its parent")
        on_its_way[0].kill()

    monkeypatch.setattr("metarl_tui.launch.time.sleep", fail)
    result = invoke("fork", parent.id, "--at", "0", "--detach")
    assert (result.exit_code, result.stderr) == (2, "error: another than its parent\n")
    assert list_runs(runs_dir) == [parent]
