"""list, show, plot, log, wait, delete: what they print, in a pipe."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from metarl_tui.runs.checkpoints import Contents, save
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.process import write_launched
from metarl_tui.runs.requests import send


def test_list_has_a_row_for_each_run(invoke: Any, make_run: Any) -> None:
    folder = make_run(name="first try")
    bad: RunFolder = make_run()
    (bad.path / "run.json").write_text("{")
    result = invoke("list")
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["run", "state", "trainer", "on", "iteration", "best", "age", "name"]
    assert len(rows) == 2
    row = next(row for row in rows if folder.short_id in row)
    for part in ("stopped", "ppo", "CartPole-v1", "3", "300", "first try"):
        assert part in row
    assert "damaged" in next(row for row in rows if bad.short_id in row)
    assert "\x1b" not in result.output


def test_list_as_json(invoke: Any, make_run: Any) -> None:
    folder = make_run("failed", why="reward = nan", name="x")
    (row,) = json.loads(invoke("list", "--json").stdout)
    assert (row["id"], row["state"], row["why"]) == (folder.id, "failed", "reward = nan")
    assert (row["trainer"], row["subject"], row["best"], row["name"]) == ("ppo", "CartPole-v1", 300.0, "x")


def test_empty_list_prints_nothing_but_an_empty_array(invoke: Any) -> None:
    assert invoke("list").stdout == ""
    assert json.loads(invoke("list", "--json").stdout) == []


def test_show_tells_settings_metrics_and_changes(invoke: Any, make_run: Any) -> None:
    folder = make_run(name="mine")
    text = invoke("show", "mine").stdout
    assert text.startswith(f"{folder.id}  mine\nstopped, iteration 3, ppo on CartPole-v1")
    assert "clip_epsilon ε          0.1  (at first 0.2)" in text
    assert "iteration 3: clip_epsilon 0.2 → 0.1" in text
    assert "rollout/ep_rew_mean  300" in text
    page = json.loads(invoke("show", folder.id, "--json").stdout)
    assert page["metrics"] == {"rollout/ep_rew_mean": 300.0, "train/entropy": "nan"}
    assert page["changes"] == [{"iteration": 3, "changes": {"clip_epsilon": [0.2, 0.1]}}]
    assert page["hyperparameters"]["clip_epsilon"] == 0.1
    assert page["initial_hyperparameters"]["clip_epsilon"] == 0.2


def test_show_of_hostile_strings_prints_no_control_character(invoke: Any, make_run: Any) -> None:
    folder: RunFolder = make_run()
    config = json.loads((folder.path / "run.json").read_bytes())
    config["setup"]["env\x1b[31m"] = "\x1b]52;c;x\x07\x9b31m"
    (folder.path / "run.json").write_text(json.dumps(config))
    with Journal(folder.journal) as journal:
        journal.append("metrics", 4, values={"a\x1b[2J/\x07b": 1.0})
    for words in (("show", folder.id), ("plot", folder.id, "b"), ("list",)):
        output = invoke(*words).output
        assert not any(ord(letter) < 32 and letter != "\n" for letter in output), words
        assert "\x9b" not in output


def test_plot_in_a_pipe_is_plain_text(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    for name in ("rollout/ep_rew_mean", "ep_rew_mean", "return"):
        text = invoke("plot", folder.id, name).stdout
        assert "return 300  (rollout/ep_rew_mean)" in text
        assert "\x1b" not in text
        assert "⠤" in text or "⠉" in text


def test_plot_of_an_unknown_metric_names_the_nearest(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    result = invoke("plot", folder.id, "ep_rew_men")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: ep_rew_men: run {folder.short_id} has no such metric; did you mean"
    )
    assert "ep_rew_mean" in result.stderr


def test_a_picture_of_another_kind_is_not_drawn(invoke: Any, make_run: Any, tmp_path: Path) -> None:
    result = invoke("screenshot", make_run("finished").id, str(tmp_path / "run.png"))
    assert result.exit_code == 2
    assert "run.png: must end in .svg" in result.stderr
    assert not (tmp_path / "run.png").exists()


def test_log_is_cleaned(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    folder.log.write_bytes(b"first\n\x1b[31mred\xff\nunfinished")
    assert invoke("log", folder.id).stdout == "first\nred\ufffd\nunfinished\n"


def test_log_follows_until_the_run_has_ended(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    folder.log.write_text("first\n")
    worker(folder)

    def end() -> None:
        with folder.log.open("a") as log:
            log.write("last\n")
        send(folder, "stop")

    timer = threading.Timer(0.4, end)
    timer.start()
    result = invoke("log", folder.id, "--follow")
    timer.join()
    assert result.stdout.splitlines()[:2] == ["first", "last"]


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 0), ("failed", 1)])
def test_wait_tells_how_a_run_ended(invoke: Any, make_run: Any, state: str, code: int) -> None:
    folder = make_run(state, why="because")
    result = invoke("wait", folder.id)
    assert (result.exit_code, result.stdout) == (code, f"{state} at iteration 3: because\n")


def test_wait_blocks_until_the_end(invoke: Any, make_run: Any, worker: Any) -> None:
    folder = make_run()
    worker(folder)
    timer = threading.Timer(0.4, lambda: send(folder, "stop"))
    timer.start()
    result = invoke("wait", folder.id)
    timer.join()
    assert result.exit_code == 0
    assert (
        result.stdout.endswith("stopped at iteration 212: asked by me@here\n") or "stopped" in result.stdout
    )


@pytest.mark.parametrize("words", [("wait",), ("log", "--follow")])
def test_a_run_that_nobody_is_seen_to_train_is_not_waited_for(
    invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("metarl_tui.runs.liveness.WATCH_SECONDS", 0.3)
    folder = make_run("running")
    folder.worker.unlink()
    folder.log.write_text("a line\n")
    result = invoke(words[0], folder.id, *words[1:])
    expected = (0, "a line\n")
    if words[0] == "wait":
        expected = (1, "unknown at iteration 3: nothing says who trains it\n")
    assert (result.exit_code, result.stdout) == expected


def test_show_and_wait_see_a_run_that_is_being_started_again(invoke: Any, make_run: Any) -> None:
    folder = make_run("finished")
    write_launched(folder, os.getppid())
    assert "\nstarting, iteration 3" in invoke("show", folder.id).stdout
    assert json.loads(invoke("list", "--json").stdout)[0]["state"] == "starting"
    with Journal(folder.journal) as journal:
        journal.append("status", 3, state="finished", why="nothing left to do")
    assert "\nfinished: nothing left to do" in invoke("show", folder.id).stdout


def test_show_keeps_options_of_the_run_apart(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    with Journal(folder.journal) as journal:
        journal.append("control", 4, action="set", result="applied", changes={"pace": [None, 5.0]})
    page = json.loads(invoke("show", folder.id, "--json").stdout)
    assert page["options"] == {"pace": 5.0, "paused": False, "on_nan": "pause"}
    assert not page["options"].keys() & page["hyperparameters"].keys()


def test_list_tells_the_iteration_of_a_run_that_went_back(invoke: Any, make_run: Any) -> None:
    folder = make_run()
    with Journal(folder.journal) as journal:
        journal.append("resumed", 1, **{"from": 1})
    assert json.loads(invoke("list", "--json").stdout)[0]["iteration"] == 1


def test_delete_of_the_working_folder(
    invoke: Any, make_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_run(), make_run()
    monkeypatch.chdir(first.path)
    result = invoke("delete", ".", "--yes")
    assert (result.exit_code, result.stdout) == (0, f"deleted {first.id}\n")
    monkeypatch.chdir(second.requests)
    assert invoke("delete", "..", "--yes").stdout == f"deleted {second.id}\n"
    assert not list(runs_dir.iterdir())


def test_delete_asks(invoke: Any, make_run: Any) -> None:
    folder: RunFolder = make_run()
    refused = invoke("delete", folder.id)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert folder.path.exists()
    assert invoke("delete", folder.id, "--yes").stdout == f"deleted {folder.id}\n"
    assert not folder.path.exists()


def test_delete_refuses_a_run_that_is_trained(invoke: Any, make_run: Any, worker: Any) -> None:
    folder: RunFolder = make_run()
    worker(folder)
    result = invoke("delete", folder.id, "--yes")
    assert result.exit_code == 2
    assert "is being trained" in result.stderr
    assert (folder.path / "run.json").exists()


def test_runs_dir_may_stand_before_or_after_the_command(
    invoke: Any, make_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: RunFolder = make_run()
    monkeypatch.setenv("METARL_RUNS_DIR", str(runs_dir / "elsewhere"))
    assert folder.short_id not in invoke("list").stdout
    assert folder.short_id in invoke("list", "--runs-dir", str(runs_dir)).stdout
    assert folder.short_id in invoke("--runs-dir", str(runs_dir), "list").stdout


def test_evaluate_prints_and_refuses(invoke: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    asked = []

    def evaluate_checkpoint(
        folder: RunFolder, options: dict[str, Any], at: int | None, progress: Any
    ) -> dict[str, Any]:
        asked.append((folder.id, options, at))
        return {"iteration": 3, **options, "return_mean": 487.5, "return_std": float("nan")}

    module = types.ModuleType("metarl_tui.worker.evaluate")
    module.evaluate_checkpoint = evaluate_checkpoint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "metarl_tui.worker.evaluate", module)
    folder = make_run()
    for iteration in (3, 70):
        save(folder, iteration, Contents(), "automatic")
    assert "return_mean  488" in invoke("evaluate", folder.id).stdout
    page = json.loads(invoke("evaluate", folder.id, "--episodes", "20", "--at", "3", "--json").stdout)
    assert (page["return_mean"], page["return_std"]) == (487.5, "nan")
    assert asked == [(folder.id, {"episodes": 100}, None), (folder.id, {"episodes": 20}, 3)]
    refused = invoke("evaluate", folder.id, "--episodes", "0")
    assert refused.stderr.startswith("error: episodes = 0: must be a whole number from 1")
    negative = invoke("evaluate", folder.id, "--at", "-1")
    assert negative.stderr == "error: at = -1: must be a whole number at least 0\n"
    early = invoke("evaluate", folder.id, "--at", "2")
    assert early.exit_code == 2
    assert early.stderr == (
        f"error: at = 2: run {folder.short_id} has no checkpoint at or before it; the first is at 3\n"
    )
    between = invoke("evaluate", folder.id, "--at", "77", "--json")
    assert between.stderr == "no checkpoint at 77: using 70\n"
    assert json.loads(between.stdout)["iteration"] == 3
