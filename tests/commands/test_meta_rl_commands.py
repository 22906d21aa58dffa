"""evaluate with runs of maml-ppo, which were trained for a few iterations in this process."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.commands.evaluations import EVALUATIONS, _interval, counted
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.worker.interruption import Interruption
from metarl_tui.worker.loop import train
from trainers.envs.families.navigation import Navigation

SMALL = {
    "iterations": 3,
    "meta_batch_size": 3,
    "trajectories_per_task": 3,
    "hidden_sizes": [8],
    "epochs": 1,
    "inner_lr": 0.3,
    "eval_tasks": 3,
    "picture_every": 2,
}


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "runs"


@pytest.fixture(scope="module")
def navigation(shared_runs: Path) -> RunFolder:
    config = RunConfig(
        trainer="maml-ppo",
        setup={"env": "navigation"},
        hyperparameters=SMALL,
        options={"on_nan": "stop"},
        subject="navigation",
        trusted=True,
    )
    folder = RunFolder.create(shared_runs, config)
    assert train(folder, Interruption()) == 0
    return folder


@pytest.fixture
def call(invoke: Any, shared_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs ``metarl-tui`` where the trained run is."""
    monkeypatch.setenv("METARL_RUNS_DIR", str(shared_runs))
    run: Callable[..., Any] = invoke
    return run


def test_evaluate_prints_each_method_by_step_the_differences_and_a_chart(
    call: Any, navigation: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    words = ("evaluate", navigation.id, "--tasks", "4", "--steps", "2")
    result = call(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    first, *tables = result.stdout.strip().split("\n\n")
    assert f"{navigation.short_id} at iteration 3, navigation: 4 held-out tasks, 3 trajectories" in first
    *methods, ahead, chart = tables
    names = ("maml-ppo", "plain PPO on all tasks, fine-tuned", "PPO from scratch")
    for table, name in zip(methods, names, strict=True):
        title, headings, *rows = table.splitlines()
        assert title == name
        assert re.split("  +", headings) == ["steps", "return", "median", "diverged", "by"]
        assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    title, headings, *rows = ahead.splitlines()
    assert title.startswith("maml-ppo ahead of the others")
    assert "before adapting" in headings
    assert [row.count("±") for row in rows] == [3, 3, 3]
    assert rows[0].split()[1:4] == ["+0.00", "±", "0.00"]
    legend, *drawing = chart.splitlines()
    assert "a maml-ppo, b plain PPO" in legend
    assert {"a", "b", "c"} <= set("".join(drawing))
    assert max(map(len, drawing)) <= 90

    page = json.loads(call(*words, "--json").stdout)
    assert page["run"] == navigation.id
    row = page["methods"][0]["by_step"][2]
    assert _interval(row["return"], row["return_ci95"]) in methods[0].splitlines()[-1]


def test_baselines_can_be_left_out_and_narrow_terminals_get_no_chart(
    call: Any, navigation: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    result = call("evaluate", navigation.id, "--tasks", "3", "--steps", "1", "--baselines", "none")
    assert result.exit_code == 0
    assert "before adapting" in result.stdout
    for absent in ("PPO from scratch", "return by step"):
        assert absent not in result.stdout


def test_one_is_not_told_as_many(call: Any, navigation: RunFolder) -> None:
    result = call("evaluate", navigation.id, "--tasks", "1", "--steps", "1", "--baselines", "none")
    assert result.exit_code == 0
    assert "navigation: 1 held-out task, 3 trajectories of each" in result.stdout
    assert " ± nan" in result.stdout
    assert [counted(count, "trajectory", "trajectories") for count in (0, 1, 2)] == [
        "0 trajectories",
        "1 trajectory",
        "2 trajectories",
    ]


def test_joint_training_that_broke_is_told_above_its_rows(call: Any, navigation: RunFolder) -> None:
    words = ("evaluate", navigation.id, "--tasks", "2", "--steps", "1", "--baselines", "none", "--json")
    page = json.loads(call(*words).stdout)
    lines = EVALUATIONS["maml-ppo"].lines(page)
    page["methods"][0]["fault"] = "2 of 9 updates were skipped"
    broken = EVALUATIONS["maml-ppo"].lines(page)
    assert "maml-ppo; 2 of 9 updates were skipped" in broken
    assert len(broken) == len(lines)


def test_an_environment_that_has_changed_since_is_told_by_evaluate_and_resume(
    call: Any, navigation: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Navigation.__init__

    def changed(family: Navigation, *words: Any, **named: Any) -> None:
        begin(family, *words, **named)
        family.observation = replace(family.observation, shape=(3,))

    monkeypatch.setattr(Navigation, "__init__", changed)
    told = (
        "env = navigation: its observation space Box(shape 3, dtype float32, low -inf, high inf) is not the "
        "run's, Box(shape 2, dtype float32, low -inf, high inf); the environment has changed since the run "
        "began, and its policy fits only what it was trained in"
    )
    result = call("evaluate", navigation.id, "--tasks", "2", "--steps", "1")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {told}\n")
    shutil.copytree(navigation.path, tmp_path / navigation.id)
    folder = RunFolder(tmp_path / navigation.id)
    assert train(folder, Interruption()) == 2
    last = json.loads(folder.journal.read_text().splitlines()[-1])
    assert last["refused"] == told


def test_options_of_others_are_refused(call: Any, navigation: RunFolder) -> None:
    for words, told in (
        (("--episodes", "5"), "--episodes: is for runs of ppo, and run"),
        (("--shots", "5"), "--shots: is for runs of maml, and run"),
        (("--baselines", "some"), "baselines = some: must be one of all, none"),
        (("--steps", "0"), "steps = 0: must be a whole number from 1"),
    ):
        result = call("evaluate", navigation.id, *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: {told}")


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (-40.123, 1.234, "-40.1 ± 1.2"),
        (199.5, 0.6, "199.50 ± 0.60"),
        (1234.6, 56.0, "1235 ± 56"),
        (1234.6, 150.0, "1235 ± 150"),
        (123456.0, 1e4, "123456 ± 10000"),
        (199.96, 0.08, "199.96 ± 0.08"),
        (0.00512, 0.0031, "0.005 ± 0.003"),
        (5.0, 0.0, "5.00 ± 0.00"),
        (5.0, float("nan"), "5 ± nan"),
        (float("nan"), float("nan"), "nan ± nan"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_interval_lets_it(mean: float, half: float, text: str) -> None:
    assert _interval(mean, half) == text
