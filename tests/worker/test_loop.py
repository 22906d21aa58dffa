"""The worker's loop in this process: what is journaled, resuming, faults."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import numpy as np
import orjson
import pytest
from small_runs import (
    MakeRun,
    assert_same_run,
    at_iteration,
    damage_checkpoints_after,
    metrics,
    records,
    states,
    train_here,
)

from metarl_tui.runs import checkpoints, process, requests
from metarl_tui.runs.folder import RunError
from metarl_tui.worker.evaluate import evaluate_checkpoint
from metarl_tui.worker.loop import AskedAtStart


def test_a_run_from_start_to_finish(make_run: MakeRun) -> None:
    run = make_run()
    assert train_here(run) == 0
    assert states(run) == ["starting", "started", "running", "finished"]
    done = metrics(run)
    assert list(done) == list(range(1, len(done) + 1))
    assert done[len(done)]["rollout/episodes"] > 0
    started = records(run, "status")[1]
    assert started["decisions"]["vector"] == "native"
    assert {"torch", "gymnasium", "numpy", "python"} <= started["versions"].keys()
    assert records(run, "checkpoint")[-1]["iteration"] == len(done) >= 10
    assert [record["seq"] for record in records(run)] == list(range(1, len(records(run)) + 1))


def test_pause_resume_save_and_stop(make_run: MakeRun) -> None:
    run = make_run()

    def observe(record: dict[str, Any]) -> None:
        match record["kind"], record.get("state"), record["iteration"]:
            case "metrics", _, 2:
                requests.send(run, "pause")
            case "status", "paused", _:
                requests.send(run, "set", {"pace": 500})
                requests.send(run, "resume", {"clip_epsilon": 0.1})
            case "metrics", _, 4:
                requests.send(run, "save")
                requests.send(run, "stop")

    assert train_here(run, observer=observe) == 0
    assert states(run) == ["starting", "started", "running", "paused", "running", "stopped"]
    answers = [
        (record["action"], record["iteration"], record["result"]) for record in records(run, "control")
    ]
    assert answers == [
        ("pause", 3, "applied"),
        ("set", 3, "applied"),
        ("resume", 3, "applied"),
        ("save", 5, "applied"),
        ("stop", 5, "applied"),
    ]
    assert {2, 4} <= {checkpoint.iteration for checkpoint in checkpoints.listed(run)}


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_stopped_and_resumed_equals_uninterrupted(make_run: MakeRun, env: str) -> None:
    straight, broken = make_run(env=env), make_run(env=env)
    train_here(straight)
    train_here(broken, observer=at_iteration(broken, 4, lambda: requests.send(broken, "stop")))
    assert list(metrics(broken)) == [1, 2, 3, 4]
    train_here(broken)
    assert [record["from"] for record in records(broken, "resumed")] == [4]
    assert_same_run(straight, broken)


def test_a_removed_lock_lets_no_second_worker_in(make_run: MakeRun) -> None:
    run = make_run()
    train_here(run, observer=at_iteration(run, 3, lambda: requests.send(run, "stop")))
    before = run.journal.read_bytes()
    with subprocess.Popen(["sleep", "60"]) as other:
        process.write_worker(run)
        found = orjson.loads(run.worker.read_bytes())
        found |= {"pid": other.pid, "start_time": process.start_time(other.pid)}
        run.worker.write_bytes(orjson.dumps(found))
        with pytest.raises(RunError, match=f"is being trained by process {other.pid}"):
            train_here(run)
        other.kill()
    assert run.journal.read_bytes() == before
    assert train_here(run) == 0


def test_a_finished_run_goes_on_with_more_steps(make_run: MakeRun) -> None:
    extended = make_run()
    train_here(extended)
    first = max(metrics(extended))
    assert train_here(extended) == 2
    assert "nothing left to do" in records(extended, "status")[-1]["refused"]
    more = AskedAtStart({"total_steps": 1280}, rebase=False, request="r1", by="someone@here")
    assert train_here(extended, asked=more) == 0
    assert max(metrics(extended)) > 2 * first - 2


def test_a_fault_waits_for_a_person_or_fails(make_run: MakeRun) -> None:
    waiting, alone = make_run(env="hostile:Explodes"), make_run(env="hostile:Explodes")

    def leave(record: dict[str, Any]) -> None:
        if record.get("state") == "paused":
            requests.send(waiting, "stop")

    assert train_here(waiting, observer=leave) == 0
    assert "paused" in states(waiting)
    assert train_here(alone, attended=False) == 1
    why = records(alone, "status")[-1]["why"]
    assert "inf" in why or "nan" in why
    found = checkpoints.newest_good(alone)
    assert found is not None
    assert all(np.isfinite(array).all() for array in found[1].weights.values())


def test_an_environment_that_raises_fails_the_run(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(env="hostile:Raises")
    assert train_here(run) == 1
    last = records(run, "status")[-1]
    assert last["state"] == "failed"
    assert "the pole is gone" in last["why"]
    assert "\x1b" not in last["why"]
    assert "ZeroDivisionError" in run.log.read_text()
    assert metrics(run)


def test_an_environment_that_exits_fails_the_run_as_well(make_run: MakeRun) -> None:
    run = make_run(env="hostile:Exits", vector="sync")
    assert train_here(run) == 1
    assert records(run, "status")[-1]["why"] == "SystemExit: 0"


def test_a_refused_resume_leaves_the_run_as_it_was(make_run: MakeRun) -> None:
    run = make_run()
    train_here(run)
    before = metrics(run)
    for values in ({"total_steps": 1}, {"minibatch_size": 60}):
        asked = AskedAtStart(values, rebase=False, request=str(values), by="someone@here")
        assert train_here(run, asked=asked) == 2
        assert records(run, "control")[-1]["result"] == "rejected"
        last = records(run, "status")[-1]
        assert last["state"] == "finished"
        assert last["refused"]
    more = AskedAtStart({"total_steps": 1280}, rebase=False, request="r3", by="someone@here")
    assert train_here(run, asked=more) == 0
    after = metrics(run)
    assert {number: after[number] for number in before} == before
    assert len(after) > len(before)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(make_run: MakeRun) -> None:
    run = make_run()
    train_here(run)
    damage_checkpoints_after(run, -1)
    assert train_here(run) == 2
    assert "none of the" in records(run, "status")[-1]["refused"]


@pytest.mark.parametrize("part", ["spaces", "settings", "generators"])
def test_a_whole_checkpoint_that_lacks_something_is_refused_in_words(make_run: MakeRun, part: str) -> None:
    run = make_run()
    train_here(run)
    newest = checkpoints.newest_good(run)
    assert newest is not None
    checkpoint, contents, _ = newest
    checkpoints.remove(run, checkpoint)
    del contents.numbers[part]
    checkpoints.save(run, checkpoint.iteration, contents, "automatic")
    more = AskedAtStart({"total_steps": 1280}, rebase=False, request="r1", by="someone@here")
    assert train_here(run, asked=more) == 2
    refused = records(run, "status")[-1]["refused"]
    assert refused.startswith(f"checkpoint {checkpoint.path.name} does not fit")
    assert f"it has no '{part}'" in refused
    assert "move its folder away" in refused


def test_evaluation_takes_the_threads_of_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    train_here(run)
    taken: list[int] = []
    monkeypatch.setattr("trainers.devices.use_threads", taken.append)
    evaluate_checkpoint(run, {"episodes": 1}, None, lambda _: None)
    assert taken == [1]


def test_a_faster_pace_does_not_wait_for_the_slow_one(make_run: MakeRun) -> None:
    run = make_run(options={"pace": 0.001})
    ask = at_iteration(run, 1, lambda: requests.send(run, "set", {"pace": 1000}))
    began = time.monotonic()
    assert train_here(run, observer=ask) == 0
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("setup", "why"),
    [
        ({"env": "CartPol-v1"}, "CartPole-v1"),
        ({"env": "hostile:Missing"}, "Missing"),
        ({"env": "FrozenLake-v1"}, "Discrete"),
    ],
)
def test_what_cannot_be_trained_is_refused(make_run: MakeRun, setup: dict[str, Any], why: str) -> None:
    run = make_run(**setup)
    assert train_here(run) == 2
    assert states(run) == ["starting", "failed"]
    assert why in records(run, "status")[-1]["why"]
