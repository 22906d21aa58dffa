"""The README's meta-reinforcement learning, run as it stands there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_readme_few_shot import PROGRAM, README, ROOT, blocks


def test_a_family_of_ones_own_trains_and_is_evaluated(tmp_path: Path) -> None:
    (code,) = blocks("### Meta-reinforcement learning", "python")
    (tmp_path / "my_environments.py").write_text(code)
    assert "`metarl-tui train maml-ppo --env my_environments:Corridor`" in README

    def run(*words: str) -> str:
        command = [PROGRAM, *words, "--runs-dir", str(tmp_path / "runs")]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout

    small = (
        "--meta-batch-size",
        "6",
        "--trajectories-per-task",
        "6",
        "--hidden-sizes",
        "8",
        "--vector",
        "sync",
    )
    run(
        *("train", "maml-ppo", "--env", "my_environments:Corridor", "--no-ui", "--name", "own"),
        *("--iterations", "2", *small),
    )
    page = json.loads(run("evaluate", "own", "--tasks", "4", "--steps", "1", "--baselines", "none", "--json"))
    returns = [row["return"] for row in page["methods"][0]["by_step"]]
    assert len(returns) == 2
    assert np.abs(returns).max() <= 5


def test_what_was_meta_learned_adapts_to_a_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (
        block for block in blocks("## Using what was trained", "python") if "load_meta_policy" in block
    )
    monkeypatch.chdir(ROOT)
    names = {"observation": np.zeros(2, np.float32)}
    exec(code, names)
    before, after = names["policy"].returns[0], names["policy"].returns[-1]
    assert after > before + 10
    assert np.asarray(names["action"]).shape == (2,)
