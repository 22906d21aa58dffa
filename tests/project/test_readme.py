"""The README says what is so: its tables, its run, its example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import last_records
from trainers import load_policy
from trainers.hyperparameters import markdown_tables

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
SHIPPED = ROOT / "saved_runs"


@pytest.fixture
def demo() -> RunFolder:
    return find_run(SHIPPED, "demo")


def test_hyperparameters_are_those_declared() -> None:
    assert markdown_tables().strip() in README


def test_the_shipped_run_is_small_whole_and_steered_twice(demo: RunFolder) -> None:
    size = sum(file.stat().st_size for file in demo.path.rglob("*") if file.is_file())
    assert size < 1_000_000
    records = last_records(demo.journal, 1 << 20)
    assert records[0]["seq"] == 1
    assert records[-1]["state"] in ("stopped", "finished")
    steered = [record for record in records if record["kind"] == "control" and record["changes"]]
    assert len(steered) >= 2
    assert all(record["request"] and record["result"] == "applied" for record in steered)


def test_what_was_trained_can_be_used_as_the_readme_says(demo: RunFolder) -> None:
    assert f'load_policy("saved_runs/{demo.id}")' in README
    policy = load_policy(demo.path)
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=3)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = environment.step(policy(observation))
        total, over = total + float(reward), terminated or truncated
    assert total >= 475


def test_the_screenshot_is_drawn_from_the_shipped_run(demo: RunFolder, tmp_path: Path) -> None:
    drawn = tmp_path / "screenshot.svg"
    program = Path(sys.executable).parent / "metarl-tui"
    command = [program, "screenshot", str(demo.path), str(drawn)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": ""})
    assert done.returncode == 0, done.stderr
    text = drawn.read_text()
    assert "CartPole-v1" in text
    assert "clip&#160;fraction" in text
    assert (SHIPPED / "screenshot.svg").exists()
