"""Reruns: the same for whatever a person did, and the first difference where something is other."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import MakeRun, metrics, records, train_here, train_saving

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.requests import send
from metarl_tui.worker.fork import make_fork
from metarl_tui.worker.loop import AskedAtStart
from metarl_tui.worker.rerun import Comparison, rerun


def train_again(folder: RunFolder) -> Comparison:
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    result = rerun(folder, lambda iteration, goal: None)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    return result


def steered_run(make_run: MakeRun) -> RunFolder:
    """Planned and asked for by hand, paused, stopped, resumed with more to do, from an older checkpoint."""
    run = make_run(env="Acrobot-v1", vector="sync", total_steps=640, changes=[{"iteration": 2, "gamma": 0.9}])

    def ask(record: dict[str, Any]) -> None:
        if record["kind"] == "metrics" and record["iteration"] == 3:
            send(run, "pause")
            send(run, "resume", {"learning_rate": 1e-3}, rebase=True)
        if record["kind"] == "metrics" and record["iteration"] == 5:
            send(run, "save")
        if record["kind"] == "metrics" and record["iteration"] == 7:
            send(run, "set", {"clip_epsilon": 0.05})
            send(run, "stop")

    assert train_here(run, observer=ask) == 0
    for checkpoint in checkpoints.listed(run):
        if checkpoint.iteration > 5:
            checkpoints.remove(run, checkpoint)
    asked = AskedAtStart({"entropy_coef": 0.01, "total_steps": 768}, False, "b" * 10, "me")
    assert train_here(run, asked=asked) == 0
    return run


def test_a_hand_steered_resumed_run_is_the_same_again(make_run: MakeRun) -> None:
    run = steered_run(make_run)
    by_hand = [record for record in records(run, "control") if record["changes"] and record["request"]]
    assert {record["iteration"] for record in by_hand} == {4, 6, 8}
    result = train_again(run)
    assert result.difference is None
    assert (result.first, result.last, result.compared) == (1, 12, 12)
    assert result.changes == 4
    assert "train/approx_kl" in result.metrics
    assert not any(key.startswith("time/") for key in result.metrics)


def test_the_first_difference_is_named(make_run: MakeRun) -> None:
    run = make_run()
    assert train_here(run) == 0
    rows = metrics(run)
    last = max(rows)
    with Journal(run.journal) as journal:
        values = {**rows[last], "train/grad_norm": 1.0, "train/ratio_max": 1.0}
        journal.append("resumed", last - 1, **{"from": last - 1})
        journal.append("metrics", last, values=values)
        journal.append("status", last, state="started", versions={"torch": "1.0"}, host="elsewhere")
    result = train_again(run)
    assert result.difference is not None
    assert (result.difference.iteration, result.compared) == (last, last)
    assert result.difference.metric == "train/grad_norm"
    assert (result.difference.recorded, result.difference.now) == (1.0, rows[last]["train/grad_norm"])
    assert any(reason.startswith("torch: 1.0 then, ") for reason in result.reasons)
    assert any(reason.startswith("host: elsewhere then, ") for reason in result.reasons)


def test_rows_that_are_missing_are_counted_and_the_others_compared(make_run: MakeRun) -> None:
    run = make_run()
    assert train_here(run) == 0
    lines = run.journal.read_bytes().splitlines(keepends=True)
    gone = [line for line in lines if b'"metrics"' in line and b'"iteration":4,' in line]
    assert len(gone) == 1
    run.journal.write_bytes(b"".join(line for line in lines if line not in gone))
    result = train_again(run)
    assert result.difference is None
    assert result.last - result.first + 1 - result.compared == 1


def test_not_a_number_is_the_same_as_not_a_number(make_run: MakeRun) -> None:
    run = make_run(env="hostile:Explodes", vector="sync", options={"on_nan": "stop"})
    assert train_here(run) == 1
    last = metrics(run)[max(metrics(run))]
    assert {"nan", "inf"} & set(map(str, last.values()))
    assert train_again(run).difference is None


@pytest.mark.parametrize("changes", [{}, {"num_envs": 2, "clip_epsilon": 0.1}])
@pytest.mark.parametrize("at", [5, 7])
def test_a_fork_is_trained_again_from_its_copied_checkpoint(
    make_run: MakeRun, changes: dict[str, Any], at: int
) -> None:
    parent = make_run(changes=[{"iteration": 6, "gamma": 0.9}])
    train_saving(parent, 5, 10)
    for checkpoint in checkpoints.listed(parent):
        if checkpoint.iteration in (6, 7):
            checkpoints.remove(parent, checkpoint)
    fork = make_fork(parent, parent.path.parent, at, changes).folder
    assert train_here(fork) == 0
    result = train_again(fork)
    assert result.difference is None
    assert result.start == "the parent's checkpoint 5"
    assert result.first == at + 1


def test_there_must_be_something_to_compare(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match="has no iteration yet"):
        rerun(make_run(), lambda iteration, goal: None)
