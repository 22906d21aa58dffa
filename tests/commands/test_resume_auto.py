"""``--resume auto``: begin a run or go on with it, once, whoever else looks."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from programs import SMALL, configured, program, states, wait_until

from metarl_tui.commands import auto, seeds
from metarl_tui.commands.seeds import train_group
from metarl_tui.commands.starting import Where
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunBusy, RunConfig, RunFolder
from metarl_tui.runs.journal import last_records
from metarl_tui.runs.liveness import Standing


def test_what_others_train_is_said_and_the_rest_is_gone_on_with(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[list[int]] = []

    def train(group: Any, most: int, where: Where) -> int:
        trained.append([run.config.setup["seed"] for run in group.members])
        return 0

    monkeypatch.setattr(seeds, "_in_foreground", train)
    where = Where(runs_dir, {}, no_ui=True)
    assert train_group(configured("g"), [1, 2, 3], where, resume=True) == 0
    stand = {1: Standing("running", "", 1, True), 2: Standing("stopped", "", 1, False),
             3: Standing("finished", "", 1, False)}  # fmt: skip
    monkeypatch.setattr(seeds, "standing_of", lambda run: stand[run.config.setup["seed"]])
    assert train_group(configured("g"), [1, 2, 3], where, resume=True) == 2
    assert trained == [[1, 2, 3], [2]]
    said = capsys.readouterr()
    assert said.err.startswith("seed 1  ")
    assert said.err.endswith("  running already\n")
    assert said.out.endswith("  finished already\n")


def test_of_two_that_find_nothing_one_begins_the_run(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured("race")
    looked, holds, made = threading.Event(), threading.Event(), []
    find = auto.newest_like

    def look(runs_dir: Path, config: RunConfig) -> RunFolder | None:
        found = find(runs_dir, config)
        looked.set()
        return found

    def begin_meanwhile() -> None:
        with auto.beginning(runs_dir):
            holds.set()
            if looked.wait(10):
                made.append(RunFolder.create(runs_dir, config))

    monkeypatch.setattr(auto, "newest_like", look)
    other = threading.Thread(target=begin_meanwhile)
    other.start()
    assert holds.wait(10)
    with pytest.raises(RunBusy, match="of this configuration is starting already"):
        auto.go_on_or_begin(config, Where(runs_dir, {}, no_ui=True))
    other.join()
    assert list_runs(runs_dir) == made
    assert len(made) == 1


def test_resume_auto_begins_then_goes_on_then_is_content(runs_dir: Path) -> None:
    runs_dir.mkdir(parents=True)
    words = ("train", "ppo", "--name", "job", "--no-ui", "--resume", "auto", "--total-steps", "1280", *SMALL)
    job = program(runs_dir, *words, "--pace", "8")
    wait_until(lambda: any("running" in states(run) for run in list_runs(runs_dir)))
    time.sleep(1.0)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == 143
    other = program(runs_dir, *words)  # another pace is another configuration
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert len(list_runs(runs_dir)) == 2
    first = list_runs(runs_dir)[-1]
    again = program(runs_dir, *words, "--pace", "8")
    out, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert len(list_runs(runs_dir)) == 2
    assert states(first)[-1] == "finished"
    assert any(record["kind"] == "resumed" for record in last_records(first.journal, 1 << 20))
    content = program(runs_dir, *words, "--pace", "8")
    out, errors = content.communicate(timeout=60)
    assert (content.returncode, out) == (0, "")
    assert f"run {first.short_id} is finished (trained for" in errors


def test_resume_auto_does_not_disturb_what_trains(make_run: Any, invoke: Any, worker: Any) -> None:
    run = make_run()
    worker(run)
    result = invoke("train", "ppo", "--preset", "none", "--no-ui", "--resume", "auto")
    assert result.exit_code == 2
    assert f"run {run.short_id} of this configuration is running already" in result.stderr
