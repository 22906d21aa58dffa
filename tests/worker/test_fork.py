"""Forks: exactly the parent's continuation without changes, its own way with them, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import MakeRun, metrics, records, states, train_here, train_saving

from metarl_tui.runs import checkpoints, requests
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.summary import read as read_summary
from metarl_tui.worker.fork import make_fork, plan_fork
from metarl_tui.worker.forked import parent_rows
from metarl_tui.worker.loop import AskedAtStart
from metarl_tui.worker.saving import Saver
from trainers.declarations import InvalidValue

MakeMAML = Callable[..., RunFolder]


@pytest.fixture
def make_maml(tmp_path: Path) -> MakeMAML:
    """Makes a small run of MAML."""

    def make(variant: str = "maml", changes: list[dict[str, Any]] | None = None) -> RunFolder:
        hyperparameters = {"iterations": 12, "meta_batch_size": 2, "eval_every": 4, "eval_tasks": 3}
        config = RunConfig(
            "maml", {"variant": variant}, {**hyperparameters, "hidden_sizes": [6]}, changes=changes or []
        )
        return RunFolder.create(tmp_path / "runs", config)

    return make


def same_end(one: RunFolder, other: RunFolder) -> None:
    """Both ended in the same state, bit for bit, but for the worker's own notes."""
    mine, theirs = (checkpoints.load(checkpoints.listed(folder)[-1]) for folder in (one, other))
    for name in ("weights", "tensors"):
        first, second = getattr(mine, name), getattr(theirs, name)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
    for numbers in (mine.numbers, theirs.numbers):
        del numbers["worker"]
    assert mine.numbers == theirs.numbers


def fork_at(parent: RunFolder, at: int | None = None, **changes: Any) -> RunFolder:
    return make_fork(parent, parent.path.parent, at, changes).folder


def last(folder: RunFolder) -> int:
    return max(metrics(folder))


def test_a_fork_knows_what_its_parent_had_done_of_its_budget(make_run: MakeRun, make_maml: MakeMAML) -> None:
    parent = make_run()
    train_saving(parent, 5)
    steps = {row["iteration"]: row["values"]["time/steps"] for row in records(parent, "metrics")}
    assert plan_fork(parent, 5).done == steps[5]
    assert plan_fork(parent, 6).done is None  # only training forward from 5 will tell
    few_shot = make_maml()
    train_here(few_shot)
    assert plan_fork(few_shot, 7).done == 7


def keep_only(folder: RunFolder, *iterations: int) -> None:
    """Remove the other checkpoints."""
    for checkpoint in checkpoints.listed(folder):
        if checkpoint.iteration not in iterations:
            checkpoints.remove(folder, checkpoint)


@pytest.mark.parametrize(
    ("env", "vector"), [("CartPole-v1", "native"), ("Acrobot-v1", "sync"), ("Pendulum-v1", "async")]
)
def test_a_fork_without_changes_is_its_parents_continuation(make_run: MakeRun, env: str, vector: str) -> None:
    parent = make_run(env=env, vector=vector, changes=[{"iteration": 3, "clip_epsilon": 0.1}])
    train_saving(parent, 5, 10)
    keep_only(parent, 5, last(parent))
    fork = fork_at(parent, 7)
    shutil.copytree(parent.path, parent.path.with_name("kept"))
    shutil.rmtree(parent.path)  # a fork needs nothing of it
    assert train_here(fork) == 0
    kept = RunFolder(parent.path.with_name("kept"))
    expected = {number: row for number, row in metrics(kept).items() if number > 7}
    assert metrics(fork) == expected
    assert {8, 9, 10} <= expected.keys()
    same_end(fork, kept)


@pytest.mark.parametrize("variant", ["maml", "metasgd", "reptile"])
def test_so_is_one_of_maml_from_the_seed(make_maml: MakeMAML, variant: str) -> None:
    parent = make_maml(variant, [{"iteration": 3, "inner_lr": 0.05}])
    train_saving(parent, 5, 10)
    keep_only(parent)
    checkpoints.remove(parent, checkpoints.listed(parent)[-1]) if checkpoints.listed(parent) else None
    fork = fork_at(parent, 5)
    assert not checkpoints.listed(fork)
    assert train_here(fork) == 0
    assert metrics(fork) == {number: row for number, row in metrics(parent).items() if number > 5}


def test_so_is_one_of_maml_ppo(tmp_path: Path) -> None:
    small = {"iterations": 6, "meta_batch_size": 2, "eval_every": None, "hidden_sizes": [8]}
    parent = RunFolder.create(tmp_path / "runs", RunConfig("maml-ppo", {}, small))
    train_saving(parent, 2)
    fork = fork_at(parent, 4)
    assert train_here(fork) == 0
    assert metrics(fork) == {number: row for number, row in metrics(parent).items() if number > 4}
    assert list(metrics(fork)) == [5, 6]


def test_what_was_steered_by_hand_is_repeated_up_to_the_fork_and_not_after(make_run: MakeRun) -> None:
    parent = make_run(env="Acrobot-v1", vector="sync", total_steps=64 * 4)
    train_saving(parent, 4)
    asked = [({"clip_epsilon": 0.05, "total_steps": 64 * 7}, "a"), ({"gamma": 0.9, "total_steps": 640}, "b")]
    for values, request in asked:
        assert train_here(parent, asked=AskedAtStart(values, False, request, "me")) == 0
    keep_only(parent, 4, 10)
    fork = fork_at(parent, 6, total_steps=640)
    assert train_here(fork) == 0
    rows, own = metrics(parent), metrics(fork)
    assert own[7].items() <= rows[7].items()  # where the parent finished, and measured once more
    assert own[10] != rows[10]  # gamma was changed in the parent before iteration 8
    steered = [record for record in records(fork, "control") if record["result"] == "applied"]
    assert [(record["iteration"], record["changes"]) for record in steered] == [
        (5, {"clip_epsilon": [0.2, 0.05], "total_steps": [256, 448]}), (7, {"total_steps": [448, 640]}),
    ]  # fmt: skip


def test_changes_hold_from_the_first_iteration_of_the_fork(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 5)
    fork = fork_at(parent, 7, num_envs=8, clip_epsilon=0.05, rollout_steps=8)
    config = fork.config
    assert config.parent is not None
    assert (config.parent["run"], config.parent["iteration"]) == (parent.id, 7)
    assert train_here(fork) == 0
    assert config.hyperparameters["num_envs"] == 8
    assert metrics(fork)[8]["train/clip_epsilon"] == 0.05
    notes = [record["text"] for record in records(fork, "note")]
    assert "forked: 8 environments (native) begin new episodes, because the state is of 4 (native)" in notes
    assert not any("not exact" in note for note in notes)
    # The parent's way to iteration 7, its own from there: the state at 7 has the parent's weights.
    again = fork_at(parent, 7)
    assert train_here(again) == 0
    at_seven = [
        checkpoints.load(checkpoints.Checkpoint(run.checkpoints / "00000007", 7)) for run in (fork, again)
    ]
    for name, array in at_seven[0].weights.items():
        assert np.array_equal(array, at_seven[1].weights[name])


def test_another_environment_begins_new_episodes(make_run: MakeRun) -> None:
    parent = make_run(env="CartPole-v1", vector="sync", seed=3)
    train_saving(parent, 5, 10)
    fork = fork_at(parent, 10, env="CartPole-v0", total_steps=704)
    assert train_here(fork) == 0
    assert (
        "forked: 4 environments (sync) begin new episodes, because the state is of CartPole-v1"
        in " ".join(record["text"] for record in records(fork, "note"))
    )
    assert min(metrics(fork)) == 11


def test_spaces_that_differ_are_refused_by_name(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    at_checkpoint, between = fork_at(parent, 10, env="Acrobot-v1"), fork_at(parent, 3, env="Acrobot-v1")
    assert train_here(at_checkpoint) == train_here(between) == 2
    assert "its observation space" in records(between, "status")[-1]["why"]
    why = records(at_checkpoint, "status")[-1]["why"]
    assert "env = Acrobot-v1: its observation space Box(shape 6," in why
    assert "is not the parent's, Box(shape 4," in why


def test_a_fork_that_ends_the_schedule_goes_on_with_the_value_it_had(make_run: MakeRun) -> None:
    parent = make_run(anneal_floor=0.0)
    train_saving(parent, 5, 10)
    fork = fork_at(parent, 7, anneal="none")
    assert train_here(fork) == 0
    rates = {row["train/learning_rate"] for row in metrics(fork).values()}
    assert rates == {metrics(parent)[7]["train/learning_rate"]}


def test_a_variant_that_learns_its_rates_can_be_forked_off(make_maml: MakeMAML) -> None:
    parent = make_maml()
    train_saving(parent, 5, 10)
    fork = fork_at(parent, 6, variant="metasgd")
    assert train_here(fork) == 0
    assert list(metrics(fork)) == [7, 8, 9, 10, 11, 12]


def test_a_fork_of_a_fork(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    first = fork_at(parent, 6, num_envs=2)
    assert train_here(first) == 0
    second = fork_at(first, 8)
    assert train_here(second) == 0
    assert metrics(second) == {number: row for number, row in metrics(first).items() if number > 8}
    same_end(first, second)
    with pytest.raises(RunError, match=f"began after iteration 6; fork its parent {parent.id}"):
        fork_at(first, 5)


def test_a_fork_killed_on_its_way_is_resumed_and_arrives(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 5)
    plain, stopped = fork_at(parent, 9), fork_at(parent, 9)
    assert train_here(plain) == 0
    requests.send(stopped, "stop")

    # What was queued before a start is refused: the request comes while it trains forward.
    def ask(record: dict[str, Any]) -> None:
        if record["kind"] == "status" and record["state"] == "starting" and record.get("why"):
            requests.send(stopped, "stop")

    assert train_here(stopped, observer=ask) == 0
    assert states(stopped)[-1] == "stopped"
    assert not metrics(stopped)
    assert train_here(stopped) == 0
    assert metrics(stopped) == metrics(plain)
    same_end(plain, stopped)


def test_what_is_not_exact_can_be_forked_at_its_checkpoints_only(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 5, 10)
    with Journal(parent.journal) as journal:
        journal.append("note", 10, text="resumed, not exact: env = X: environment 0 gave other observations")
    with pytest.raises(
        RunError, match=r"only where it has a checkpoint, because .*; the nearest are at 5 and 10"
    ):
        fork_at(parent, 7)
    assert forked_iteration(fork_at(parent)) == 10
    assert forked_iteration(fork_at(parent, 5)) == 5


def forked_iteration(folder: RunFolder) -> int:
    assert folder.config.parent is not None
    return int(folder.config.parent["iteration"])


def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    whole = fork_at(parent, 10, total_steps=1280)
    (parent.checkpoints / "00000010" / "weights.safetensors").write_bytes(b"")
    fork = fork_at(parent, 10, total_steps=1280)
    assert train_here(fork) == train_here(whole) == 0
    assert metrics(fork) == metrics(whole)
    assert "the parent's checkpoint 00000010 is damaged" in records(fork, "note")[0]["text"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_sizes": (4,)}, "hidden_sizes = 4: can't change in a fork; --hidden-sizes of train"),
        ({"seed": 2}, "seed = 2: can't change in a fork"),
        ({"num_envs": 3}, "minibatch_size = 32: must divide num_envs × rollout_steps = 3 × 16 = 48"),
        ({"clip_epsilon": 0.0}, "clip_epsilon = 0: must be"),
        ({"clip_epsilo": 0.1}, "did you mean clip_epsilon"),
    ],
)
def test_values_that_no_fork_takes(make_run: MakeRun, changes: dict[str, Any], why: str) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    with pytest.raises(InvalidValue, match=why):
        fork_at(parent, 5, **changes)
    with pytest.raises(RunError, match="has come to iteration 11"):
        fork_at(parent, 12)
    assert len(list(parent.path.parent.iterdir())) == 1


def test_what_is_asked_at_the_start_changes_nothing_of_the_parents_past(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 3)
    asked, plain = fork_at(parent, 6), fork_at(parent, 6)
    order = AskedAtStart({"learning_rate": 0.01, "clip_epsilon": 0.1}, False, "a" * 10, "me")
    assert train_here(asked, asked=order) == train_here(plain) == 0
    (change,) = records(asked, "control")
    assert (change["iteration"], change["result"]) == (7, "applied")
    assert metrics(asked)[7]["train/clip_epsilon"] == 0.1
    mine, theirs = (
        checkpoints.load(checkpoints.Checkpoint(run.checkpoints / "00000006", 6)) for run in (asked, plain)
    )
    assert all(np.array_equal(mine.weights[name], theirs.weights[name]) for name in theirs.weights)


def test_what_is_asked_at_the_start_and_refused_ends_the_fork_where_it_arrived(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 3)
    fork = fork_at(parent, 6)
    order = AskedAtStart({"minibatch_size": 7}, False, "a" * 10, "me")
    assert train_here(fork, asked=order) == 2
    assert "minibatch_size = 7" in records(fork, "status")[-1]["why"]
    assert [one["result"] for one in records(fork, "control")] == ["rejected"]
    assert not metrics(fork)
    assert train_here(fork) == 0
    assert metrics(fork) == {number: row for number, row in metrics(parent).items() if number > 6}


def damage(folder: RunFolder, what: bytes) -> None:
    """Make the lines of the journal unreadable that have ``what``."""
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    assert any(what in line for line in lines)
    folder.journal.write_bytes(b"".join(b"{" + line[2:] if what in line else line for line in lines))


def test_a_fork_that_trained_needs_no_proof_that_it_was_completed(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    fork, fresh = fork_at(parent, 7), fork_at(parent, 7)
    assert train_here(fork) == 0
    for one in (fork, fresh):
        damage(one, b"forked from")
    order, before = AskedAtStart({"total_steps": 1280}, False, "a" * 10, "me"), checkpoints.listed(fork)[-1]
    assert train_here(fork, asked=order) == 0
    assert checkpoints.listed(fork)[-1].iteration > before.iteration
    assert train_here(fresh) == 2


def test_an_environment_that_does_not_repeat_itself_is_not_trained_forward(make_run: MakeRun) -> None:
    parent = make_run(env="hostile:Random", vector="sync")
    train_saving(parent, 5, 10)
    keep_only(parent, 5)
    from_checkpoint, from_seed = fork_at(parent, 7), fork_at(parent, 3)
    assert train_here(from_checkpoint) == train_here(from_seed) == 2
    why = records(from_checkpoint, "status")[-1]["why"]
    assert why.startswith("can't be trained forward from iteration 5 as its parent was: ")
    assert "iteration 1 is not as the parent's: " in records(from_seed, "status")[-1]["why"]
    for fork in (from_checkpoint, from_seed):
        assert not any("as the parent did" in record["text"] for record in records(fork, "note"))
        assert not metrics(fork)


def forge(folder: RunFolder, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write the journal anew, each record as ``change`` returns it."""
    found = records(folder)
    folder.journal.unlink()
    with Journal(folder.journal) as journal:
        for record in map(change, found):
            fields = {name: record[name] for name in record if name not in ("seq", "time")}
            journal.append(fields.pop("kind"), fields.pop("iteration"), **fields)


def test_a_parent_from_another_machine_is_compared_row_by_row(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 3, 10)
    keep_only(parent, 3)

    def elsewhere(record: dict[str, Any]) -> dict[str, Any]:
        if record.get("state") == "started":
            return {**record, "host": "elsewhere", "versions": {**record["versions"], "torch": "1.0.0"}}
        return record

    def rounded(record: dict[str, Any]) -> dict[str, Any]:
        if record["kind"] != "metrics" or record["iteration"] != 5:
            return record
        return {**record, "values": {**record["values"], "train/grad_norm": 0.25}}

    forge(parent, elsewhere)
    same = fork_at(parent, 6)
    assert train_here(same) == 0  # it was computed here, whatever its journal says
    assert records(same, "note")[-1]["text"] == "trained forward from iteration 3 to 6 as the parent did"
    forge(parent, rounded)
    other = fork_at(parent, 6)
    assert train_here(other) == 2
    why = records(other, "status")[-1]["why"]
    assert "iteration 5 is not as the parent's: train/grad_norm was 0.25 and is " in why
    assert "; torch: 1.0.0 then, " in why
    assert "; host: elsewhere then, " in why
    assert [one.iteration for one in checkpoints.listed(other)] == [3]


def test_rows_that_are_missing_are_said(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 3, 10)
    keep_only(parent, 3)
    fork = fork_at(parent, 6)
    parent_rows(fork).unlink()
    assert train_here(fork) == 0
    assert "; 3 of these 3 had no row to compare with" in records(fork, "note")[-1]["text"]


@pytest.mark.parametrize("at", [6, 8])
def test_the_best_of_another_environment_is_not_the_forks(make_run: MakeRun, at: int) -> None:
    parent = make_run(vector="sync", eval_every=1)
    train_saving(parent, 6)
    keep_only(parent, 6)
    fork = fork_at(parent, at, env_arg={"sutton_barto_reward": True}, total_steps=64 * 12)
    assert train_here(fork) == 0
    measured = [row["eval/return_mean"] for row in metrics(fork).values()]
    summary = read_summary(fork)
    assert summary is not None
    assert summary.best == max(measured) <= 0  # the parent's rewards are positive
    assert len(summary.sparkline) <= len(measured)
    assert any("best" in one.reasons for one in checkpoints.listed(fork) if one.iteration > at)


def test_the_best_that_the_parent_held_is_not_the_forks_checkpoint(make_run: MakeRun) -> None:
    parent = make_run(eval_every=1)
    assert train_here(parent) == 0
    evaluated = {number: row["eval/return_mean"] for number, row in metrics(parent).items()}
    keep_only(parent)
    at = max(evaluated, key=lambda number: (evaluated[number], -number))
    fork = fork_at(parent, at, num_envs=8, total_steps=128 * 12)
    assert train_here(fork) == 0
    (own,) = [one for one in checkpoints.listed(fork) if one.iteration == at]
    assert checkpoints.load(own).numbers["settings"]["values"]["num_envs"] == 8


def test_a_schedule_of_the_forks_own_begins_at_the_value_given_with_it(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5)
    fork = fork_at(parent, 5, anneal_floor=0.5, learning_rate=0.01, total_steps=1280)
    assert train_here(fork) == 0
    rates = [row["train/learning_rate"] for row in metrics(fork).values()]
    assert rates == sorted(rates, reverse=True)
    assert 0.005 < rates[-1] < rates[0] < 0.01


def test_live_values_are_planned_and_checked_with_what_is_in_force(make_run: MakeRun) -> None:
    parent = make_run(minibatch_size=64, changes=[{"iteration": 3, "minibatch_size": 16}])
    train_saving(parent, 5)
    live = fork_at(parent, 7, clip_epsilon=0.1)
    assert live.config.hyperparameters == parent.config.hyperparameters | live.config.hyperparameters
    assert live.config.hyperparameters["clip_epsilon"] != 0.1
    assert live.config.changes[-1] == {"iteration": 8, "clip_epsilon": 0.1}
    fork = fork_at(parent, 7, num_envs=2)
    assert train_here(fork) == 0
    assert fork.config.hyperparameters["minibatch_size"] == 16
    assert not [record for record in records(fork, "control") if record["iteration"] > 7]


def test_a_fork_that_fails_at_its_goal_has_not_started_and_says_where(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 5)
    fork = fork_at(parent, 9)

    def broken(saver: Saver, reason: str) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Saver, "save", broken)
    assert train_here(fork, attended=False) == 2
    last = records(fork, "status")[-1]
    assert last["state"] == "failed"
    assert "OSError: [Errno 5] Input/output error (in broken, " in last["why"]


def test_a_stop_that_others_may_have_asked_for_is_not_obeyed_on_the_way(make_run: MakeRun) -> None:
    parent = make_run()
    train_saving(parent, 5, 10)
    keep_only(parent, 5)
    fork = fork_at(parent, 9)

    def ask(record: dict[str, Any]) -> None:
        if record["kind"] == "status" and record["state"] == "starting" and record.get("why"):
            requests.send(fork, "stop")
            fork.path.chmod(0o777)

    assert train_here(fork, observer=ask) == 0
    assert states(fork)[-1] == "finished"
    (answer,) = [record for record in records(fork, "control") if record["action"] == "stop"]
    assert answer["result"] == "rejected"
    assert "may be written by everyone" in answer["why"]


def test_a_fork_is_the_same_with_and_without_a_checkpoint_saved_after_a_change_to_come(
    make_run: MakeRun,
) -> None:
    parent = make_run()

    def ask(record: dict[str, Any]) -> None:
        if record["kind"] == "metrics" and record["iteration"] == 5:
            requests.send(parent, "set", {"clip_epsilon": 0.05})
            requests.send(parent, "save")

    train_here(parent, observer=ask)
    at = records(parent, "control")[0]["iteration"] - 1
    assert at in [checkpoint.iteration for checkpoint in checkpoints.listed(parent)]
    from_checkpoint = fork_at(parent, at)
    shutil.rmtree(parent.checkpoints)
    parent.checkpoints.mkdir(0o700)
    trained_forward = fork_at(parent, at)
    for fork in (from_checkpoint, trained_forward):
        assert train_here(fork) == 0
        assert {row["train/clip_epsilon"] for row in metrics(fork).values()} == {0.2}
    assert metrics(from_checkpoint) == metrics(trained_forward)
    same_end(from_checkpoint, trained_forward)
