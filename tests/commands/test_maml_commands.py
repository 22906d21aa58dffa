"""evaluate and adapt with runs of maml, which were trained for a few iterations in this process."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.worker.interruption import Interruption
from metarl_tui.worker.loop import AskedAtStart, train

SMALL = {
    "iterations": 20,
    "meta_batch_size": 8,
    "hidden_sizes": [16],
    "inner_lr": 0.03,
    "outer_lr": 0.01,
    "eval_tasks": 8,
    "picture_every": None,
}
HEADINGS = ["steps", "accuracy", "median", "worst 5 %", "loss", "median", "diverged"]
XOR_ROWS = "-1,-1,0\n1,1,0\n1,-1,1\n-1,1,1\n"


def trained(runs_dir: Path, task: str, hyperparameters: dict[str, Any] | None = None, **setup: Any) -> str:
    """The id of a run that was trained on ``task``."""
    config = RunConfig(
        trainer="maml",
        setup={"task": task, **setup},
        hyperparameters={**SMALL, **(hyperparameters or {})},
        options={"on_nan": "stop"},
        subject=task,
        trusted=True,
    )
    folder = RunFolder.create(runs_dir, config)
    assert train(folder, Interruption()) == 0
    return folder.id


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "runs"


@pytest.fixture(scope="module")
def xor(shared_runs: Path) -> str:
    return trained(shared_runs, "xor")


@pytest.fixture
def call(invoke: Any, shared_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs ``metarl-tui`` where the trained runs are."""
    monkeypatch.setenv("METARL_RUNS_DIR", str(shared_runs))
    run: Callable[..., Any] = invoke
    return run


def refusal(result: Any) -> str:
    """The one line with which a command was refused."""
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line.removeprefix("error: "))


def test_evaluate_prints_a_row_for_every_step_beside_the_baselines(call: Any, xor: str) -> None:
    words = ("evaluate", xor, "--tasks", "12", "--steps", "2", "--shots", "3")
    result = call(*words)
    first, *rest = result.stdout.splitlines()
    assert "at iteration 20, xor: 12 held-out tasks, ways 2, shots 3, query_shots 10" in first
    own, joint, scratch, converged = "\n".join(rest).strip().split("\n\n")
    for table, name in (
        (own, "maml, rate 0.03"),
        (joint, "joint training, fine-tuned"),
        (scratch, "from scratch"),
    ):
        title, headings, *rows = table.splitlines()
        assert title.startswith(name)
        assert re.split("  +", headings) == HEADINGS
        assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert converged.startswith("from scratch, to convergence, rate 0.01\n")
    assert len(converged.splitlines()) == 3
    assert result.stderr == ""

    page = json.loads(call(*words, "--json").stdout)
    assert (page["run"], page["iteration"], page["shots"], page["transductive"]) == (xor, 20, 3, False)
    last = page["methods"][0]["by_step"][-1]
    assert f"{last['accuracy']:.2%} ± {last['accuracy_ci95']:.2%}" in own.splitlines()[-1]


def test_evaluate_says_where_learning_from_scratch_did_not_converge(
    call: Any, xor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers import meta_evaluation

    monkeypatch.setattr(meta_evaluation, "_MOST_STEPS", 3)
    text = call("evaluate", xor, "--tasks", "2", "--steps", "1").stdout
    *_, title, _, row = text.splitlines()
    assert title == "from scratch, to convergence, rate 0.01, not converged: cap of steps reached"
    assert row.split()[0] == "3"


def test_an_interval_of_one_task_is_not_a_number(call: Any, xor: str) -> None:
    page = json.loads(call("evaluate", xor, "--tasks", "1", "--steps", "1", "--json").stdout)
    assert page["methods"][0]["by_step"][0]["loss_ci95"] == "nan"


def test_evaluate_refuses_what_is_of_another_trainer(
    call: Any, xor: str, make_run: Any, runs_dir: Path
) -> None:
    short = xor.rpartition("-")[2]
    told = refusal(call("evaluate", xor, "--episodes", "5"))
    assert told == f"--episodes: is for runs of ppo, and run {short} is one of maml"
    ppo = make_run()
    for flag, value in (("--tasks", "5"), ("--shots", "1"), ("--steps", "2"), ("--data", "x")):
        told = refusal(call("evaluate", "--runs-dir", str(runs_dir), ppo.id, flag, value))
        assert re.fullmatch(rf"{flag}: is for runs of maml.*, and run {ppo.short_id} is one of ppo", told)
    assert refusal(call("evaluate", xor, "--tasks", "0")).startswith(
        "tasks = 0: must be a whole number from 1"
    )


def test_evaluate_says_that_batch_statistics_are_transductive(
    call: Any, shared_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bars.py").write_text(
        "import torch\n"
        "from trainers.tasks import Tasks\n"
        "class Bars:\n"
        "    def sample_tasks(self, n, generator):\n"
        "        x = torch.rand(n, 4, 1, 8, 8, generator=generator)\n"
        "        y = torch.tensor([0, 1, 0, 1]).expand(n, 4)\n"
        "        return Tasks(x, y, x, y)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    values = {"network": "conv", "filters": 2, "iterations": 2}
    run = trained(shared_runs, "bars:Bars", values)
    text = call("evaluate", run, "--tasks", "2", "--steps", "1").stdout
    assert "transductive: batch norm takes its statistics from the rows that are predicted" in text
    assert text.count(", transductive\n") == 4
    data = tmp_path / "rows.csv"
    data.write_text("\n".join(",".join(["0.5"] * 64 + [label]) for label in "01"))
    assert "transductive: batch norm" in call("adapt", run, "--data", str(data)).stdout


def test_adapt_predicts_the_rows_without_a_label(call: Any, xor: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(f"\ufeffx1, x2, label\r\n{XOR_ROWS}\n0.9,1.1,\n")
    text = call("adapt", xor, "--data", str(data), "--steps", "4", "--inner-lr", "0.3").stdout
    heading, losses, predictions = text.strip().split("\n\n")
    assert heading.endswith("at iteration 20, xor: adapted to 4 rows in 4 steps, rate 0.3")
    assert [line.split()[0] for line in losses.splitlines()] == ["steps", "0", "1", "2", "3", "4"]
    assert float(losses.split()[-1]) < float(losses.split()[3])
    headings, row = predictions.splitlines()
    assert headings.split() == ["line", "predicted", "probability"]
    assert row.split()[0] == "7"


def test_adapt_predicts_another_file_and_agrees_with_the_library(
    call: Any, xor: str, shared_runs: Path, tmp_path: Path
) -> None:
    from trainers import load_learner

    data, more = tmp_path / "rows.csv", tmp_path / "more.csv"
    data.write_text(XOR_ROWS)
    more.write_text("0.9,1.1\n-0.9,1,1\n")
    page = json.loads(call("adapt", xor, "--data", str(data), "--predict", str(more), "--json").stdout)
    x, y = [[-1, -1], [1, 1], [1, -1], [-1, 1]], [0, 0, 1, 1]
    model = load_learner(shared_runs / xor).adapt(x, y)
    assert page["losses"] == list(model.losses)
    assert page["labelled"] == 4
    assert [one["predicted"] for one in page["predictions"]] == model([[0.9, 1.1], [-0.9, 1]]).tolist()
    assert [(one["line"], one["label"]) for one in page["predictions"]] == [(1, None), (2, 1)]


def test_adapt_predicts_the_labelled_rows_where_there_are_no_others(
    call: Any, shared_runs: Path, tmp_path: Path
) -> None:
    values = {"iterations": 3, "inner_lr": 0.01, "inner_steps": 1, "eval_inner_lr": 0.005}
    run = trained(shared_runs, "sinusoid", values)
    data = tmp_path / "rows.csv"
    data.write_text("x,y\n-1,0.5\n2,-0.25\n")
    text = call("adapt", run, "--data", str(data)).stdout
    assert text.splitlines()[0].endswith("adapted to 2 rows in 10 steps, rate 0.01 for 1 step, then 0.005")
    headings, *rows = text.strip().split("\n\n")[2].splitlines()
    assert headings.split() == ["line", "label", "predicted"]
    assert [row.split()[:2] for row in rows] == [["2", "0.5"], ["3", "-0.25"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2\n", ", line 1: 2 columns: must be 3, 2 inputs and then 1 label, which may be empty"),
        ("a,b,c\n1,2,0\n1,x,0\n", ", line 3, column 2: x: must be a number"),
        ("1,x,0\n", ", line 1, column 2: x: must be a number"),
        ("1,,0\n", ", line 1, column 2: empty: must be a number"),
        ("1,inf,0\n", ", line 1, column 2: inf: must be a number"),
        ("1,1_0,0\n", ", line 1, column 2: 1_0: must be a number"),
        ("1,-1e39,0\n", ", line 1, column 2: -1e39: must be within ±3.4e+38"),
        ("1,2,2\n", ", line 1: label 2: must be a whole number from 0 to 1, or empty"),
        ("1,2,0.5\n", ", line 1: label 0.5: must be a whole number from 0 to 1, or empty"),
        ("1,2,\n", ": has no labelled row; adapting needs at least one"),
        ("a,b,c\n", ": has no rows of numbers"),
        ('1,2,"0\n', ": not a CSV file (unexpected end of data)"),
    ],
)
def test_adapt_refuses_a_file_by_line(call: Any, xor: str, tmp_path: Path, text: str, told: str) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(text)
    assert refusal(call("adapt", xor, "--data", str(data))) == f"{data}{told}"


def test_adapt_refuses_other_bad_input(
    call: Any, xor: str, make_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(XOR_ROWS)
    missing = tmp_path / "none.csv"
    assert refusal(call("adapt", xor, "--data", str(missing))) == f"{missing}: No such file or directory"
    assert refusal(call("adapt", xor)).startswith("data is missing")
    told = refusal(call("adapt", xor, "--data", str(data), "--inner-lr", "0"))
    assert told == "inner_lr = 0: must be a number above 0 and at most 100"
    data.write_text("1e38,1e38,0\n-1e38,1e38,1\n")
    assert refusal(call("adapt", xor, "--data", str(data))).startswith("the adaptation diverged: loss ")
    ppo = make_run()
    told = refusal(call("adapt", "--runs-dir", str(runs_dir), ppo.id, "--data", str(data)))
    assert told == f"run {ppo.short_id} is one of ppo: adapt needs a run of maml"


def test_data_beside_where_the_run_was_begun_is_found_from_elsewhere(
    call: Any, shared_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "begun")
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("where.txt").write_text("there")
    (tmp_path / "from_data.py").write_text(
        "from pathlib import Path\n"
        "from trainers.tasks.sinusoid import Sinusoid\n"
        "class FromData(Sinusoid):\n"
        "    def __init__(self, shots, query_shots, data):\n"
        "        super().__init__(shots, query_shots)\n"
        "        Path(data).read_text()\n"
    )
    run = trained(shared_runs, "from_data:FromData", {"iterations": 2, "inner_lr": 0.01}, data="where.txt")
    os.chdir(tmp_path / "elsewhere")
    assert call("evaluate", run, "--tasks", "4", "--steps", "1").exit_code == 0
    told = refusal(call("evaluate", run, "--data", "nowhere.txt"))
    assert told.startswith("task = from_data:FromData: making it failed: FileNotFoundError")


def test_training_in_a_pipe_says_what_it_needs_and_counts_in_iterations(invoke: Any) -> None:
    words = ("--iterations", "3", "--meta-batch-size", "4", "--hidden-sizes", "8", "--eval-tasks", "4")
    text = invoke("train", "maml", "--no-ui", *words, "--name", "piped").stdout
    _, memory, running, first, *_ = text.splitlines()
    assert re.fullmatch(
        r"iteration 0: memory: about .* a meta-iteration \(4 tasks × 5 steps, second order\)", memory
    )
    assert running == "running"
    assert first.startswith("iteration 1  33%  ")
    *_, last, end = text.splitlines()
    assert end.startswith("finished: trained for 3 iterations")
    assert text.count("iteration 3  ") == 1
    assert last.startswith("iteration 3  100%  ")
    assert "  loss after adapting " in last
    assert last.endswith(" it/s")
    assert "trained for 3 iterations, iteration 3, maml on xor" in invoke("show", "piped").stdout


def test_the_memory_is_journaled_once_before_the_first_iteration(tmp_path: Path) -> None:
    folder = find_run(tmp_path, trained(tmp_path, "xor", {"iterations": 2}))
    assert train(folder, Interruption(), asked=AskedAtStart({"iterations": 3}, False, "more", "me")) == 0
    records = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    (at,) = (
        n for n, one in enumerate(records) if one["kind"] == "note" and one["text"].startswith("memory:")
    )
    rows = [n for n, one in enumerate(records) if one["kind"] == "metrics"]
    assert records[at]["iteration"] == 0
    assert at < rows[0]
    assert len(rows) == 3


OWN = """
import torch
class Wrong:
    def sample_tasks(self, n, generator):
        x = torch.rand(n, 3, 2, generator=generator)
        return x, torch.zeros(n, 2, dtype=torch.int64), x, torch.zeros(n, 3, dtype=torch.int64)
class NotANumber:
    def sample_tasks(self, n, generator):
        x = torch.full((n, 3, 2), float("nan"))
        return x, x, x, x
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--shots", "19", "--query-shots", "2"],
            "shots = 19: must be at most 18, as a class has 20 drawings",
        ),
        (["--ways", "7"], "ways = 7: must be at most 6, the held-out classes of "),
        (
            ["--data", "wrong.npz"],
            "data = .*wrong.npz: has no array background, characters, images; Omniglot",
        ),
        (["--data", "truncated.npz"], "data = .*truncated.npz: not a whole .npz file"),
        (["--data", "empty"], "data = .*empty: there are no .png images in it; Omniglot lies at https://"),
        (["--task", "xor"], "data = .*tiny.npz: task = xor reads no data; leave it out"),
        (
            ["--task", "own:Wrong", "--data", ""],
            "task = own:Wrong: .* gave support_y with 2 rows: must be 3, as",
        ),
        (
            ["--task", "own:NotANumber", "--data", ""],
            "task = own:NotANumber: .* gave support_x that is not fin",
        ),
        (
            ["--task", "raises:X", "--data", ""],
            "task = raises:X: importing raises failed: RuntimeError: one two",
        ),
        (["--task", "exits:X", "--data", ""], "task = exits:X: importing exits failed: SystemExit: 3"),
    ],
)
def test_what_cannot_be_trained_is_named(
    invoke: Any, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    images = np.random.default_rng(0).integers(256, size=(20, 20, 28, 28), dtype=np.uint8)
    arrays = {"images": images, "characters": np.arange(20), "background": np.arange(20) > 9}
    np.savez(tmp_path / "tiny.npz", **arrays)
    np.savez(tmp_path / "wrong.npz", pictures=images)
    (tmp_path / "truncated.npz").write_bytes((tmp_path / "tiny.npz").read_bytes()[:10_000])
    (tmp_path / "empty").mkdir()
    for name, text in (("own", OWN), ("raises", "raise RuntimeError('one\\ntwo')"), ("exits", "exit(3)")):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    common = ("--task", "omniglot", "--data", "tiny.npz", "--no-ui", "--iterations", "2")
    assert re.match(told, refusal(invoke("train", "maml", *common, *words)))
    assert not list(runs_dir.glob("*/run.json"))
