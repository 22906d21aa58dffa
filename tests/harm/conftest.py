"""Harm done on purpose, as often as ``--harm-scale`` says, and the table of what came of it.

    pytest tests/harm --harm-scale 1

runs every count whole. Without the option a tenth is run, so that the whole suite stays fast.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / name) for name in ("worker", "app")]  # their small runs and fake ones

from victims import Figure, MakeRun, make_harmed_run  # noqa: E402
from warm_parent import WarmParent  # noqa: E402

DEFAULT_SCALE = 0.1

_FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture(autouse=True, scope="session")
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The key by which whoever begins a run is known goes to a folder of the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--harm-scale", type=float, default=DEFAULT_SCALE, help="share of each count; 1 runs them whole"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(_FIGURES, [])
    if not rows:
        return
    terminalreporter.section("harm done and what came of it")
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for what, count, result in rows:
        terminalreporter.write_line(f"{what:{widths[0]}}  {count:>{widths[1]}}  {result}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Adds a row to the table at the end: what was done, how often, what came of it."""

    def add(what: str, count: object, result: str) -> None:
        request.config.stash.setdefault(_FIGURES, []).append((what, str(count), result))

    return add


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> float:
    """Share of each count that is run."""
    return float(request.config.getoption("--harm-scale", default=DEFAULT_SCALE))


@pytest.fixture
def times(scale: float) -> Callable[[int], int]:
    """How often to do what is to be done ``whole`` times."""
    return lambda whole: max(math.ceil(whole * scale), 1)


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmParent]:
    parent = WarmParent(tmp_path_factory.mktemp("warm"))
    yield parent
    parent.close()


@pytest.fixture
def warm(warm_parent: WarmParent) -> Iterator[WarmParent]:
    """Starts workers without the two seconds of importing torch; ends those that a test leaves."""
    yield warm_parent
    warm_parent.end_all()


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes the folder of a small run; see :func:`victims.make_harmed_run`."""
    return lambda trainer="ppo", **what: make_harmed_run(tmp_path / "runs", trainer, **what)
