"""A group of runs steered and waited for as one, and told apart from a run of its name."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from fake_worker import FakeWorker
from programs import SMALL, processes_of, program, states, wait_until

from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.groups import find_group, find_runs
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import NO_TURN, observe
from metarl_tui.runs.process import read_launched, write_launched
from metarl_tui.runs.requests import TOO_EARLY, pending
from metarl_tui.worker.fork import make_fork

NAME = "trio"


@pytest.fixture
def members(make_run: Any, worker: Any) -> list[RunFolder]:
    """A group of three: seed 2 has finished, the others are trained."""
    found = [make_run("finished" if seed == 2 else "stopped", group=NAME, seed=seed) for seed in (1, 2, 3)]
    for folder in (found[0], found[2]):
        worker(folder)
    return found


def line(folder: RunFolder, text: str) -> str:
    return f"seed {folder.config.setup['seed']}  {folder.short_id}  {text}"


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (("set", "clip_epsilon=0.1", "epochs=8"), "clip_epsilon 0.2 → 0.1, epochs 4 → 8"),
        (("pause",), "paused"), (("save",), "saved"), (("stop",), "stopped"),
    ],
)  # fmt: skip
def test_what_is_asked_of_a_group_is_asked_of_each_that_trains(
    invoke: Any, members: list[RunFolder], words: tuple[str, ...], done: str
) -> None:
    result = invoke(words[0], NAME, *words[1:])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        line(members[0], f"applied at iteration 213: {done}"),
        line(members[1], "finished already"),
        line(members[2], f"applied at iteration 213: {done}"),
    ]


def test_what_one_rejects_is_said_and_the_others_are_changed(invoke: Any, make_run: Any, worker: Any) -> None:
    first, second = (make_run(group=NAME, seed=seed) for seed in (1, 2))
    worker(first, reject="gamma = 0.9: not now")
    worker(second)
    result = invoke("set", NAME, "gamma=0.9")
    assert result.exit_code == 1
    assert result.stderr == line(first, "rejected: gamma = 0.9: not now\n")
    assert result.stdout == line(second, "applied at iteration 213: gamma 0.99 → 0.9\n")


def test_one_that_others_may_write_keeps_none_of_the_others(invoke: Any, members: list[RunFolder]) -> None:
    members[0].path.chmod(0o777)
    result = invoke("stop", NAME)
    assert result.exit_code == 1
    assert "rejected: " in result.stderr
    assert "chmod go-w" in result.stderr
    assert line(members[2], "applied at iteration 213: stopped") in result.stdout


def test_an_impossible_value_is_sent_to_none(invoke: Any, members: list[RunFolder]) -> None:
    result = invoke("set", NAME, "gamma=1.5")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not any(pending(folder) for folder in members)


def test_a_group_that_has_ended_is_told_how_it_goes_on(invoke: Any, make_run: Any) -> None:
    for seed in (1, 2):
        make_run(group=NAME, seed=seed)
    assert invoke("stop", NAME).stderr == f"rejected: no run of {NAME} is training\n"
    result = invoke("resume", NAME)
    assert result.exit_code == 1
    assert f"--seeds … --name {NAME} --resume auto goes on with those that ended" in result.stderr


def test_the_paused_of_a_group_are_let_go(invoke: Any, make_run: Any, worker: Any) -> None:
    paused, running = (make_run(group=NAME, seed=seed) for seed in (1, 2))
    worker(paused, paused=True)
    worker(running)
    result = invoke("resume", NAME)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        line(paused, "applied at iteration 213: resumed"), line(running, "running already"),
    ]  # fmt: skip


def test_a_group_is_waited_for_until_all_have_ended(invoke: Any, make_run: Any) -> None:
    runs = [make_run(state, group=NAME, seed=seed) for seed, state in enumerate(("finished", "failed"))]
    result = invoke("wait", NAME)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        line(runs[0], "finished at iteration 3"), line(runs[1], "failed at iteration 3"),
    ]  # fmt: skip


class JustStarted(FakeWorker):
    """Comes to life after a request was sent, and takes it for one of another start."""

    def _answer(self, journal: Any, request: Any) -> None:
        self.reject = "" if self.seen else TOO_EARLY
        super()._answer(journal, request)


def test_what_came_while_the_worker_was_on_its_way_is_asked_again(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    with JustStarted(folder) as fake:
        result = invoke("pause", folder.id)
    assert (result.exit_code, result.stdout) == (0, "applied at iteration 213: paused\n")
    assert len(fake.seen) == 2


def test_what_waits_for_its_turn_can_only_be_stopped(invoke: Any, make_run: Any, worker: Any) -> None:
    trained, waiting = (make_run(group=NAME, seed=seed) for seed in (1, 2))
    worker(trained)
    waiting.worker.unlink()
    waiting.journal.unlink()
    write_launched(waiting, os.getpid(), waits=True)
    assert observe(waiting).why == "waits for its turn"
    result = invoke("pause", NAME)
    assert result.exit_code == 1
    assert result.stderr == line(
        waiting, "rejected: waits for its turn; before that it can only be stopped\n"
    )
    assert not pending(waiting)


# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--resume", "auto")])
def test_a_run_is_not_called_as_a_group_is(
    invoke: Any, make_run: Any, runs_dir: Path, words: tuple[str, ...]
) -> None:
    made = [make_run(group=NAME, seed=seed) for seed in (1, 2)]
    refusal = f"error: name = {NAME}: a group of runs has this name; choose another\n"
    result = invoke("train", "ppo", "--no-ui", "--name", NAME, *words)
    assert (result.exit_code, result.stderr) == (2, refusal)
    result = invoke("fork", made[0].id, "--at", "0", "--name", NAME, "--no-ui")
    assert (result.exit_code, result.stderr) == (2, refusal)
    assert sorted(list_runs(runs_dir), key=repr) == sorted(made, key=repr)


def test_a_run_and_a_group_of_one_name_are_named(invoke: Any, make_run: Any, runs_dir: Path) -> None:
    """They may have come from elsewhere; which is meant is not guessed."""
    for seed in (1, 2):
        make_run(group=NAME, seed=seed)
    twin = make_run(name=NAME)
    for words in (["show"], ["stop"], ["wait"]):
        result = invoke(*words, NAME)
        assert result.exit_code == 2
        assert f"{NAME} is the name of run {twin.id} and of a group of 2 runs" in result.stderr
    assert find_runs(runs_dir, twin.short_id) == ([twin], False)


def test_a_groups_whole_name_goes_before_the_beginning_of_an_id(make_run: Any, runs_dir: Path) -> None:
    run = make_run(group="2")
    assert run.id.startswith("2")
    assert find_runs(runs_dir, "2") == ([run], True)
    assert find_runs(runs_dir, "20") == ([run], False)
    assert find_runs(runs_dir, "latest") == ([run], False)


def test_a_fork_belongs_to_no_group(make_run: Any, runs_dir: Path) -> None:
    parent = make_run(group=NAME)
    assert make_fork(parent, runs_dir, 0).folder.config.group == ""
    assert find_group(runs_dir, NAME) == [parent]


# -- with a supervisor -------------------------------------------------------------------------------------


def begin_on_one_core(runs_dir: Path) -> list[RunFolder]:
    """Three seeds behind a screen, of which two wait."""
    runs_dir.mkdir(parents=True)
    words = ("--name", NAME, "--detach", "--total-steps", "100000000", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "1-3", *words, one_core=True)
    _, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    return find_group(runs_dir, NAME)


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_stopping_a_group_lets_nothing_that_waits_begin(runs_dir: Path, invoke: Any) -> None:
    trained, *waiting = begin_on_one_core(runs_dir)
    assert [observe(folder).why for folder in waiting] == ["waits for its turn"] * 2
    result = invoke("stop", NAME)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [one.split("  ")[1] for one in result.stdout.splitlines()] == [
        folder.short_id for folder in (trained, *waiting)
    ]
    wait_until(lambda: not processes_of(runs_dir))
    assert states(trained)[-1] == "stopped"
    assert [states(folder) for folder in waiting] == [["stopped"]] * 2
    assert invoke("wait", NAME).exit_code == 0


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_a_supervisor_that_is_killed_leaves_what_waited_lost_and_says_how_to_go_on(
    runs_dir: Path, invoke: Any
) -> None:
    trained, *waiting = begin_on_one_core(runs_dir)
    supervisor = read_launched(waiting[0])
    assert supervisor is not None
    os.kill(supervisor.identity.pid, signal.SIGKILL)
    wait_until(lambda: observe(waiting[0]).state == "lost", 5)
    assert [observe(folder).why for folder in waiting] == [NO_TURN] * 2
    assert observe(trained).state == "running"
    how = "2 of 3 runs never had their turn; the command that began them goes on with "
    how += f"--name {NAME} --resume auto"
    assert how in invoke("list", NAME).stdout
    assert how in invoke("show", NAME).stdout
    again = program(
        runs_dir, "train", "ppo", "--seeds", "1-3", "--name", NAME, "--resume", "auto", "--no-ui",
        "--total-steps", "100000000", *SMALL, one_core=True,
    )  # fmt: skip
    wait_until(lambda: "running" in states(waiting[0]))
    assert invoke("stop", NAME).exit_code == 0
    out, errors = again.communicate(timeout=60)
    assert again.returncode == 2  # one was trained by others
    assert f"{trained.short_id}  running already" in errors
    assert f"{waiting[0].short_id}  stopped" in out
    assert len(list_runs(runs_dir)) == 3
    wait_until(lambda: not processes_of(runs_dir))


# -- what is not as it was asked ---------------------------------------------------------------------------


def test_one_whose_worker_is_gone_has_not_done_what_was_asked(
    invoke: Any, make_run: Any, worker: Any
) -> None:
    trained, failed, gone = (
        make_run("failed" if seed == 2 else "stopped", group=NAME, seed=seed) for seed in (1, 2, 3)
    )
    with Journal(gone.journal) as journal:
        journal.append("status", 3, state="running")
    gone.worker.write_text(gone.worker.read_text().replace(f'"pid":{os.getpid()}', '"pid":999999'))
    assert observe(gone).state == "lost"
    worker(trained)
    result = invoke("pause", NAME)
    assert result.exit_code == 1
    assert result.stdout == line(trained, "applied at iteration 213: paused\n")
    said = result.stderr.splitlines()
    assert said[0] == line(failed, "rejected: failed already")
    assert said[1].startswith(line(gone, "rejected: lost already: its process 999999"))
    result = invoke("stop", NAME)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_change_for_one_that_runs_already_is_not_lost_without_a_word(
    invoke: Any, make_run: Any, worker: Any
) -> None:
    paused, running = (make_run(group=NAME, seed=seed) for seed in (1, 2))
    worker(paused, paused=True)
    worker(running)
    result = invoke("resume", NAME, "gamma=0.9")
    assert result.exit_code == 1
    how = f"metarl-tui set {running.short_id} gamma=0.9 changes it"
    assert result.stderr == line(running, f"rejected: running already; {how}\n")
    assert line(paused, "applied at iteration 213: resumed") in result.stdout


@pytest.mark.parametrize("words", [("set", "gamma=0.9"), ("pause",)])
def test_nothing_is_queued_that_would_be_rejected_unseen(
    invoke: Any, make_run: Any, words: tuple[str, ...]
) -> None:
    run = make_run(group=NAME)
    run.worker.unlink()
    run.journal.unlink()
    for waits in (True, False):
        write_launched(run, os.getpid(), waits=waits)
        why = "before that it can only be stopped" if waits else "without --no-wait it is asked again"
        for reference in (run.id, NAME):
            result = invoke(words[0], reference, *words[1:], "--no-wait")
            assert (result.exit_code, result.stdout) == (1, "")
            assert why in result.stderr
    assert not pending(run)


@pytest.mark.parametrize("how", [("--no-ui",), ("--seeds", "1-2", "--no-ui")])
def test_a_name_is_no_path(invoke: Any, runs_dir: Path, how: tuple[str, ...]) -> None:
    result = invoke("train", "ppo", *how, "--name", "a/b")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "name = a/b: must be without /" in result.stderr
    assert list_runs(runs_dir) == []


def test_a_group_is_not_called_as_a_runs_id_ends(invoke: Any, make_run: Any, runs_dir: Path) -> None:
    run = make_run(name="with a name of its own")
    result = invoke("train", "ppo", "--seeds", "1-2", "--no-ui", "--name", run.short_id)
    assert result.exit_code == 2
    assert "would hide the group" in result.stderr
    assert list_runs(runs_dir) == [run]


def test_the_beginning_of_an_id_is_found_without_reading_what_the_runs_are(
    make_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(group=NAME)
    monkeypatch.setattr(RunFolder, "config", property(lambda folder: pytest.fail("was read")))
    for reference in (run.id, run.short_id, run.id[:-2], run.id[:11]):
        assert find_runs(runs_dir, reference) == ([run], False)
