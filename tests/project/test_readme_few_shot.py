"""The README's few-shot examples, run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.tasks import Options, TaskSource

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROGRAM = Path(sys.executable).parent / "metarl-tui"


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of code in the section under ``heading``."""
    section = re.split(r"^##+ ", README.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def test_a_distribution_of_ones_own_trains(tmp_path: Path) -> None:
    (code,) = blocks("### Few-shot tasks", "python")
    assert len(code.splitlines()) <= 20
    (tmp_path / "my_tasks.py").write_text(code)
    assert "`metarl-tui train maml --task my_tasks:Thresholds`" in README

    def run(*words: str) -> str:
        command = [PROGRAM, *words, "--runs-dir", str(tmp_path / "runs")]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout

    run("train", "maml", "--task", "my_tasks:Thresholds", "--no-ui", "--name", "own", "--iterations", "600")
    page = json.loads(run("evaluate", "own", "--tasks", "200", "--json"))
    own = page["methods"][0]["by_step"]
    assert 0.4 < own[0]["accuracy"] < 0.6 < 0.75 < own[-1]["accuracy"]


def test_what_was_learned_adapts(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (block for block in blocks("## Using what was trained", "python") if "load_learner" in block)
    monkeypatch.chdir(ROOT)
    source = TaskSource("xor", Options(ways=2, shots=5, query_shots=25))
    tasks = source.sample_tasks(1, torch.Generator().manual_seed(1))
    x, y, x_new, y_new = (part[0].numpy() for part in tasks)
    names = {"x": x, "y": y, "x_new": x_new}
    exec(code, names)
    assert np.mean(names["classes"] == y_new) >= 0.9


def test_the_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    (session,) = (block for block in blocks("## Using what was trained", "console") if "adapt" in block)
    _, cat, adapt = re.split(r"^\$ ", session, flags=re.MULTILINE)
    command, _, rows = cat.partition("\n")
    assert command == "cat rows.csv"
    (tmp_path / "rows.csv").write_text(rows)
    command, _, shown = adapt.partition("\n")
    words = command.split()[1:]
    done = subprocess.run(
        [PROGRAM, *words, "--runs-dir", str(ROOT / "saved_runs")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shown
