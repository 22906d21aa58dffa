"""Run folders with journals, and workers that answer requests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_worker import FakeWorker

from metarl_tui.commands.program import group
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import write_worker
from metarl_tui.runs.summary import Summary, write
from trainers.declarations import as_json
from trainers.hyperparameters import PPOHyperparameters, PPOSetup

Invoke = Callable[..., Result]
MakeRun = Callable[..., RunFolder]


@pytest.fixture(autouse=True, scope="session")
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The key by which whoever begins a run is known goes to a folder of the tests'."""
    pytest.MonkeyPatch().setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A program that has started something heeds no signal any more; these tests go on in its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


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


@pytest.fixture
def make_run(runs_dir: Path) -> MakeRun:
    """A run that has ended (or whatever ``state`` says), with three iterations and one change."""

    def make(
        state: str = "stopped", *, name: str = "", why: str = "", env: str = "CartPole-v1",
        group: str = "", seed: int = 1,
    ) -> RunFolder:  # fmt: skip
        config = RunConfig(
            trainer="ppo",
            setup=as_json(PPOSetup(env=env, seed=seed)),
            hyperparameters=as_json(PPOHyperparameters()),
            options={"pace": None, "paused": False, "on_nan": "pause"},
            name=name,
            group=group,
            subject=env,
        )
        folder = RunFolder.create(runs_dir, config)
        write_worker(folder)
        with Journal(folder.journal) as journal:
            journal.append("status", 0, state="started")
            for iteration in range(1, 4):
                values = {"rollout/ep_rew_mean": 100.0 * iteration, "train/entropy": float("nan")}
                if iteration == 3:
                    changes = {"clip_epsilon": [0.2, 0.1]}
                    journal.append(
                        "control",
                        3,
                        request="a" * 10,
                        action="set",
                        by="me@here",
                        result="applied",
                        changes=changes,
                    )
                journal.append("metrics", iteration, values=values)
            journal.append("status", 3, state=state, why=why)
        total, done = 5_000_000, 5_000_000 if state == "finished" else 12_288
        write(folder, Summary(state, why, 3, total, done, "steps", 300.0, "eval/return_mean", 300.0))
        return folder

    return make


@pytest.fixture
def worker() -> Iterator[Callable[..., FakeWorker]]:
    """Starts fake workers; they end with the test."""
    started: list[FakeWorker] = []

    def start(folder: RunFolder, **how: Any) -> FakeWorker:
        started.append(FakeWorker(folder, **how).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.__exit__()
