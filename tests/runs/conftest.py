"""A run folder for every test that asks for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl_tui.runs.folder import RunConfig, RunFolder


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(runs_dir: Path) -> RunFolder:
    return RunFolder.create(runs_dir, RunConfig(trainer="ppo", subject="CartPole-v1"))
