"""Fixtures of the worker's tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import ENVIRONMENTS, SMALL, MakeRun

import metarl_tui
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.worker import control, writer


@pytest.fixture(autouse=True)
def _everything_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # where the key of the marks goes
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(writer, "HOLD_SECONDS", 0.0)
    monkeypatch.syspath_prepend(str(ENVIRONMENTS))


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run's folder; keywords are hyperparameters, but for those named."""

    def make(
        *,
        env: str = "CartPole-v1",
        seed: int = 1,
        vector: str = "auto",
        changes: list[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        name: str = "",
        **hyperparameters: Any,
    ) -> RunFolder:
        config = RunConfig(
            trainer="ppo",
            setup={"env": env, "seed": seed, "vector": vector},
            hyperparameters={**SMALL, **hyperparameters},
            options=options or {},
            changes=changes or [],
            name=name,
            subject=env,
            parent=None,
            created=time.time(),
            working_folder=str(ENVIRONMENTS),
            version=metarl_tui.__version__,
            trusted=True,
        )
        return RunFolder.create(tmp_path / "runs", config)

    return make
