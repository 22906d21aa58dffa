"""set, pause, resume, save, stop: what a person is told, and the exit code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from metarl_tui.launch import StartFailed
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.requests import pending


def test_set_prints_iteration_and_old_and_new_value(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    worker(folder)
    result = invoke("set", folder.short_id, "clip_epsilon=0.1", "epochs=8")
    assert result.stdout == "applied at iteration 213: clip_epsilon 0.2 → 0.1, epochs 4 → 8\n"
    assert (result.exit_code, result.stderr) == (0, "")


def test_dashes_and_flags_name_settings_too(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    fake = worker(folder)
    assert invoke("set", "latest", "clip-epsilon=0.1", "--rebase").exit_code == 0
    assert fake.seen[0].changes == {"clip_epsilon": 0.1}
    assert fake.seen[0].rebase


@pytest.mark.parametrize(("action", "done"), [("pause", "paused"), ("save", "saved"), ("stop", "stopped")])
def test_action_says_what_was_done(invoke: Any, make_run: Any, worker: Any, action: str, done: str) -> None:
    folder = make_run()
    worker(folder)
    result = invoke(action, folder.id)
    assert (result.exit_code, result.stdout) == (0, f"applied at iteration 213: {done}\n")


def test_rejection_says_why(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    worker(folder, reject="gamma = 0.9: not now")
    result = invoke("set", folder.id, "gamma=0.9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "rejected: gamma = 0.9: not now\n"


def test_long_iteration_is_said_with_its_usual_duration(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    worker(folder, delay=1.2)
    result = invoke("pause", folder.id)
    assert re.fullmatch(r"pausing after this iteration, about \d s\n", result.stderr)
    assert (result.exit_code, result.stdout) == (0, "applied at iteration 213: paused\n")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("gamma=1.2", "gamma = 1.2: must be a number from 0 to 1"),
        ("gama=0.9", "gama = 0.9: no such setting; did you mean gamma"),
        ("minibatch_size=1000", "minibatch_size = 1000: must divide num_envs × rollout_steps"),
        ("env=Acrobot-v1", "env = Acrobot-v1: can't change during a run, only in a fork"),
        ("paused=true", "paused = true: can't change during a run; start a new run"),
        ("gamma", "gamma: must be NAME=VALUE"),
    ],
)
def test_impossible_value_is_refused_before_anything_is_sent(
    invoke: Any, make_run: Any, worker: Any, pair: str, message: str
) -> None:
    folder = make_run()
    fake = worker(folder)
    result = invoke("set", folder.id, "clip_epsilon=0.1", pair)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not fake.seen


def test_typed_and_planned_changes_are_refused_in_the_same_words(
    invoke: Any, make_run: Any, tmp_path: Path
) -> None:
    folder = make_run()
    for pair in ("num_envs=3", "seed=2", "minibatch_size=1000", "gamma=1.2", "gama=1"):
        typed = invoke("set", folder.id, pair).stderr.removeprefix("error: ")
        (tmp_path / "plan.toml").write_text(f"[[change]]\niteration = 5\n{pair}\n")
        planned = invoke("train", "ppo", "--no-ui", "--preset", "none", "--config", "plan.toml").stderr
        assert planned == f"error: plan.toml: [[change]] at iteration 5: {typed}"


@pytest.mark.parametrize("state", ["stopped", "failed", "finished"])
def test_set_on_an_ended_run_points_to_resume(invoke: Any, make_run: Any, state: str) -> None:
    folder: RunFolder = make_run(state)
    result = invoke("set", folder.id, "clip_epsilon=0.1")
    assert result.exit_code == 1
    assert f"is {state}" in result.stderr
    assert f"metarl-tui resume {folder.short_id} clip_epsilon=0.1" in result.stderr
    assert not pending(folder)


def test_where_nobody_can_be_seen_it_is_not_waited_without_end(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl_tui.runs.liveness.WATCH_SECONDS", 0.2)
    folder = make_run("running")
    worker = orjson.loads(folder.worker.read_bytes())
    folder.worker.write_bytes(orjson.dumps({**worker, "host": "elsewhere"}))
    result = invoke("set", folder.id, "gamma=0.9")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"rejected: nobody answers: run {folder.short_id} is unknown (no sign of life from elsewhere); "
        "the request was withdrawn"
    )
    assert not pending(folder)


def test_no_wait_queues_only(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    fake = worker(folder, delay=0.3)
    result = invoke("pause", folder.id, "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "queued\n")
    assert not fake.seen


def test_folder_that_others_may_write_is_refused(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    fake = worker(folder)
    folder.path.chmod(0o777)
    result = invoke("stop", folder.id)
    assert result.exit_code == 2
    assert "chmod go-w" in result.stderr
    assert not fake.seen


def test_resume_lets_a_paused_run_go_with_changes(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    fake = worker(folder, paused=True)
    result = invoke("resume", folder.id, "clip_epsilon=0.1")
    assert result.stdout == "applied at iteration 213: resumed, clip_epsilon 0.2 → 0.1\n"
    assert [(request.action, request.changes) for request in fake.seen] == [("resume", {"clip_epsilon": 0.1})]


def test_resume_of_a_running_run_points_to_set(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    worker(folder)
    result = invoke("resume", folder.id, "clip_epsilon=0.1")
    assert result.exit_code == 1
    assert f"running already; metarl-tui set {folder.short_id} clip_epsilon=0.1" in result.stderr


class StartedLaunch:
    """A worker that has started from a checkpoint."""

    resumed_from = 1200

    def wait(self, **how: Any) -> None:
        return


class RefusedLaunch:
    """A worker that refuses the value that it was started with, or can't start at all."""

    def __init__(self, folder: RunFolder, why: str, *, is_rejection: bool) -> None:
        self.folder, self.why, self.is_rejection = folder, why, is_rejection
        self.ended = False

    def terminate(self) -> None: ...

    def wait(self, **how: Any) -> None:
        refuse_to_start(self.folder, self.why, is_rejection=self.is_rejection)
        raise StartFailed(self.why)

    def end(self, timeout: float = 10.0) -> None:
        self.ended = True


def refuse_to_start(folder: RunFolder, why: str, *, is_rejection: bool) -> None:
    """What a worker journals that does not start."""
    with Journal(folder.journal) as journal:
        if is_rejection:
            journal.append("control", 4, action="set", result="rejected", why=why)
        journal.append("status", 3, state="stopped", why="asked by me@here", refused=why)


@pytest.mark.parametrize("is_foreground", [False, True])
@pytest.mark.parametrize(
    ("is_rejection", "code", "said"),
    [(True, 1, "rejected: gamma = 0.5: no\n"), (False, 2, "error: gamma = 0.5: no\n")],
)
def test_refusal_at_a_restart_is_told_from_a_start_that_fails(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch,
    is_foreground: bool, is_rejection: bool, code: int, said: str,
) -> None:  # fmt: skip
    folder, why = make_run("stopped"), "gamma = 0.5: no"
    launch = RefusedLaunch(folder, why, is_rejection=is_rejection)

    def train_here(folder: RunFolder, **how: Any) -> int:
        refuse_to_start(folder, why, is_rejection=is_rejection)
        return 2

    monkeypatch.setattr("metarl_tui.headless.train_here", train_here)
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: launch)
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    result = invoke("resume", folder.id, "gamma=0.5", *(["--no-ui"] if is_foreground else []))
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", said)
    assert (folder.path / "run.json").exists()
    assert launch.ended != is_foreground


def test_resume_starts_an_ended_run_again(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = make_run("stopped"), []

    def start(folder: RunFolder, **how: Any) -> StartedLaunch:
        calls.append((folder.id, how))
        return StartedLaunch()

    monkeypatch.setattr("metarl_tui.launch.start", start)
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    result = invoke("resume", folder.id, "clip_epsilon=0.1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "resumed from iteration 1200",
        f"metarl-tui open {folder.short_id} shows it",
    ]
    assert calls == [(folder.id, {"changes": {"clip_epsilon": 0.1}, "rebase": False})]


@pytest.mark.parametrize("words", [(), ("clip_epsilon=0.1",), ("total_steps=100",)])
def test_finished_run_needs_more_to_do(invoke: Any, make_run: Any, words: tuple[str, ...]) -> None:
    folder = make_run("finished", why="trained for 5000000 steps")
    result = invoke("resume", folder.id, *words)
    assert result.exit_code == 2
    assert f"as in metarl-tui resume {folder.short_id} total_steps=10000000" in result.stderr


@pytest.mark.parametrize(
    ("words", "is_enough"),
    [
        ((), False), (("total_steps=9000000",), False), (("until=475",), False), (("until=off",), True),
        (("until=490", "total_steps=9000000"), True),
    ],
)  # fmt: skip
def test_run_finished_by_until_needs_another_until(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], is_enough: bool
) -> None:
    folder = make_run("finished", why="mean return 480.2 over the last 100 episodes, until = 475")
    monkeypatch.setattr("metarl_tui.launch.start", lambda folder, **how: StartedLaunch())
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    result = invoke("resume", folder.id, *words)
    assert (result.exit_code == 0) == is_enough
    if not is_enough:
        hint = f"it needs a higher until or none, as in metarl-tui resume {folder.short_id} until=off\n"
        assert result.exit_code == 2
        assert result.stderr.endswith(hint)


def test_finished_run_with_more_to_do_is_started(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trained = make_run("finished"), []

    def train_here(folder: RunFolder, **how: Any) -> int:
        trained.append(how)
        return 130

    monkeypatch.setattr("metarl_tui.headless.train_here", train_here)
    monkeypatch.setattr("metarl_tui.commands.resume.wait_until_left", lambda folder: None)
    assert invoke("resume", folder.id, "total_steps=6000000", "--no-ui").exit_code == 130
    assert trained == [{"json": False, "asked": {"total_steps": 6_000_000}, "rebase": False}]


def test_two_matches_are_listed(invoke: Any, make_run: Any, worker: Callable[..., Any]) -> None:
    first, second = make_run(name="twin"), make_run(name="twin")
    result = invoke("pause", "twin")
    assert result.exit_code == 2
    assert first.id in result.stderr
    assert second.id in result.stderr
