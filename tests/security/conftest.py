"""Runs that came from somebody who means harm, and a look at whether they did any."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner, Result

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("worker", "app"))]

from received import Invoke  # noqa: E402

from metarl_tui.commands.program import group  # noqa: E402

LONGEST_SECONDS = 120
"""After this a test fails: what is read must not be waited for."""


@pytest.fixture(autouse=True)
def _nothing_hangs() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the reader's that no run has to do with, with files that would be missed."""
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o700)
    for name in ("settings.json", "notes.txt", "00000001.json"):
        (folder / name).write_text("{}\n")
    (folder / "checkpoints" / "00000009").mkdir(parents=True)
    (folder / "checkpoints" / "00000009" / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there as soon as anything of a run has been executed."""
    path = tmp_path / "executed"
    monkeypatch.setenv("WITNESS", str(path))
    return path


@pytest.fixture
def invoke(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs ``metarl-tui`` with the given words in this process; stdout and stderr are apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METARL_RUNS_DIR", str(runs_dir))

    def run(*words: str, text: str | None = None) -> Result:
        result = CliRunner().invoke(group, list(words), input=text, prog_name="metarl-tui")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
