"""``--seeds``: a run each in one group, statistics over it, signals that reach all."""

from __future__ import annotations

import json
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programs import SMALL, configured, processes_of, program, states, wait_until

from metarl_tui.commands.seeds import parse_seeds, train_group
from metarl_tui.commands.starting import Where
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.groups import find_group
from metarl_tui.statistics import interquartile_mean, over_runs
from trainers.declarations import InvalidValue


@pytest.mark.parametrize(
    ("text", "found"), [("1-5", [1, 2, 3, 4, 5]), ("1,3,7", [1, 3, 7]), ("0, 2-3", [0, 2, 3]), ("4", [4])]
)
def test_seeds_are_ranges_and_numbers(text: str, found: list[int]) -> None:
    assert parse_seeds(text) == found


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "3-1", "1,1", "-2", "1-2000", "1.5", "9999999999999999999", "9" * 5000, "١"]
)
def test_what_are_no_seeds(text: str) -> None:
    with pytest.raises(InvalidValue, match="seeds = "):
        parse_seeds(text)


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter() -> None:
    assert interquartile_mean([100.0, 1.0, 3.0, 2.0]) == 2.5
    assert interquartile_mean([0.0, 1.0, 2.0, 3.0, 100.0]) == 2.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0
    assert interquartile_mean(list(range(8))) == 3.5
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean([])


def test_statistics_count_the_runs_that_have_a_number() -> None:
    found = over_runs([{"a": 1, "b": 2.0, "c": "text"}, {"a": 3.0}, {"a": 8.0, "b": math.nan}])
    assert found["a"] == {"median": 3.0, "iqm": 4.0, "runs": 3}
    assert found["b"]["runs"] == 2
    assert math.isnan(found["b"]["median"])
    assert "c" not in found


def test_two_seeds_are_trained_and_told_of_and_are_a_group(runs_dir: Path, invoke: Any) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--name", "pair", "--no-ui", "--total-steps", "640", "--eval-every", "5", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "1-2", *words)
    out, errors = done.communicate(timeout=120)
    assert (done.returncode, errors) == (0, "")
    members = find_group(runs_dir, "pair")
    assert [(run.config.setup["seed"], run.title) for run in members] == [
        (1, "pair seed 1"),
        (2, "pair seed 2"),
    ]
    assert all(states(run)[-1] == "finished" for run in members)
    for run in members:
        assert f"{run.short_id}  started\n" in out
        assert f"{run.short_id}  finished: trained for" in out
    page = json.loads(invoke("show", "pair", "--json").stdout)
    rewards = [json.loads(invoke("show", run.id, "--json").stdout)["metrics"] for run in members]
    mean = sum(row["rollout/ep_rew_mean"] for row in rewards) / 2
    assert page["metrics"]["rollout/ep_rew_mean"] == {"median": mean, "iqm": mean, "runs": 2}
    assert "interquartile mean" in invoke("show", "pair").stdout
    assert invoke("list", "pair").stdout.splitlines()[-1].startswith("best eval/return_mean: median ")
    evaluated = json.loads(invoke("evaluate", "pair", "--episodes", "2", "--json").stdout)
    means = [run["return_mean"] for run in evaluated["runs"]]
    assert evaluated["over_runs"]["return_mean"]["median"] == sum(means) / 2
    again = invoke("train", "ppo", "--seeds", "3", "--name", "pair", "--no-ui")
    assert again.exit_code == 2
    assert "there is a group of this name" in again.stderr
    resumed = invoke("train", "ppo", "--seeds", "1,2", "--resume", "auto", *words)
    assert resumed.exit_code == 0
    assert resumed.stdout.count("finished already") == 2


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_ctrl_c_saves_and_ends_all_of_them_and_what_waited_leaves_nothing(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--name", "trio", "--no-ui", "--total-steps", "100000000", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "1-3", *words, one_core=True)
    wait_until(lambda: any("running" in states(run) for run in list_runs(runs_dir)))
    assert len(list_runs(runs_dir)) == 3
    done.send_signal(signal.SIGINT)
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 130
    (run,) = list_runs(runs_dir)
    assert states(run)[-1] == "stopped"
    assert list(run.checkpoints.iterdir())
    assert "stopped: ended by SIGTERM" in out


def test_behind_the_screen_the_group_trains_on(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--detach", "--json", "--total-steps", "640", *SMALL)
    done = program(runs_dir, "train", "ppo", "--seeds", "5-7", *words)
    out, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    page = json.loads(out)
    members = find_group(runs_dir, page["group"])
    assert [run.id for run in members] == [run["id"] for run in page["runs"]]
    wait_until(lambda: all(states(run)[-1:] == ["finished"] for run in members))


def test_a_signal_while_it_starts_leaves_none_of_the_group_training(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("--detach", "--total-steps", "100000000", *SMALL)
    started = program(runs_dir, "train", "ppo", "--seeds", "1-2", *words)
    wait_until(lambda: any(run.launched.exists() for run in list_runs(runs_dir)))
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 143
    assert processes_of(runs_dir) == []
    assert all(states(run)[-1] == "stopped" for run in list_runs(runs_dir))


def test_no_folder_stays_where_one_can_not_be_made(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = RunFolder.create

    def make(runs_dir: Path, config: RunConfig) -> RunFolder:
        if len(list_runs(runs_dir)) == 2:
            raise RunError("No space left on device")
        return create(runs_dir, config)

    monkeypatch.setattr(RunFolder, "create", make)
    with pytest.raises(RunError, match="No space left"):
        train_group(configured("g"), [1, 2, 3], Where(runs_dir, {}, no_ui=True), resume=False)
    assert list_runs(runs_dir) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_group_is_not_called_as_a_run_is(make_run: Any, runs_dir: Path, resume: bool) -> None:
    run = make_run(name="exp")
    with pytest.raises(InvalidValue, match="name = exp: a run has this name"):
        train_group(configured("exp"), [1, 2], Where(runs_dir, {}, no_ui=True), resume=resume)
    assert list_runs(runs_dir) == [run]


def test_a_run_without_a_checkpoint_is_left_out_of_its_groups_evaluation(
    runs_dir: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("")
    runs = [
        RunFolder.create(runs_dir, replace(config, setup={**config.setup, "seed": seed}, group="g"))
        for seed in (1, 2, 3)
    ]
    bad = {runs[1].id}

    def evaluated(folder: RunFolder, *_: Any) -> dict[str, Any]:
        if folder.id in bad:
            raise RunError("no checkpoint yet")
        return {"run": folder.id, "return_mean": 10.0 * folder.config.setup["seed"]}

    monkeypatch.setattr("metarl_tui.worker.evaluate.evaluate_checkpoint", evaluated)
    result = invoke("evaluate", "g", "--json")
    assert (result.exit_code, result.stderr) == (0, f"{runs[1].short_id} is left out: no checkpoint yet\n")
    page = json.loads(result.stdout)
    assert page["left_out"] == [{"run": runs[1].id, "why": "no checkpoint yet"}]
    assert page["over_runs"] == {"return_mean": {"median": 20.0, "iqm": 20.0, "runs": 2}}
    bad |= {run.id for run in runs}
    result = invoke("evaluate", "g")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("error: no run of g can be evaluated\n")


def test_seeds_that_can_not_start_say_why_once_and_leave_nothing(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    for how in ("--no-ui", "--detach"):
        done = program(runs_dir, "train", "ppo", "--env", "CartPol-v1", "--seeds", "1-4", how)
        _, errors = done.communicate(timeout=60)
        assert done.returncode == 2
        assert errors.count("\n") == 1
        assert "CartPole-v1" in errors
        assert list_runs(runs_dir) == []


def test_one_seed_or_several(invoke: Any) -> None:
    result = invoke("train", "ppo", "--seed", "1", "--seeds", "1-2", "--no-ui")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --seed is one seed and --seeds are several: choose one\n",
    )
