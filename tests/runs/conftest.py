"""A run folder for every test that asks for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metarl_tui.runs import journal
from metarl_tui.runs.folder import RunConfig, RunFolder


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(runs_dir: Path) -> RunFolder:
    return RunFolder.create(runs_dir, RunConfig(trainer="ppo", subject="CartPole-v1"))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What journals write from here on, one entry a write."""
    written: list[bytes] = []
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        written.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(journal.os, "write", noted)
    return written
