"""What all of these tests have in common."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key by which whoever begins a run is known goes to a folder of the tests'."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
