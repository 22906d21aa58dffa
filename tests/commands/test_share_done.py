"""How much of a run a plain terminal says is done: of its own budget, steps or iterations."""

import io
from pathlib import Path

import pytest

from metarl_tui.headless import _Report
from metarl_tui.runs.folder import RunConfig, RunFolder


def share(
    runs: Path, trainer: str, given: dict[str, int], iteration: int, steps: int, **changed: int
) -> float:
    report = _Report(RunFolder.create(runs, RunConfig(trainer, {}, given)), io.StringIO())
    report.observe({"kind": "metrics", "iteration": iteration, "values": {"time/steps": steps}})
    if changed:
        changes = {name: [given[name], value] for name, value in changed.items()}
        record = {"kind": "control", "iteration": iteration, "result": "applied", "changes": changes}
        report.observe(record | {"request": "a", "by": "someone", "why": ""})
    return report.share


@pytest.mark.parametrize("trainer", ["maml", "maml-ppo"])
def test_where_iterations_are_the_budget_steps_do_not_count(tmp_path: Path, trainer: str) -> None:
    assert share(tmp_path, trainer, {"iterations": 100}, 25, 4_000_000) == 0.25
    assert share(tmp_path, trainer, {"iterations": 100}, 25, 4_000_000, iterations=50) == 0.5


def test_where_steps_are_the_budget_they_count(tmp_path: Path) -> None:
    assert share(tmp_path, "ppo", {"total_steps": 1000}, 1, 640) == 0.64
    assert share(tmp_path, "ppo", {"total_steps": 1000}, 1, 640, total_steps=640) == 1
