"""Requests, boundaries, kills and resumes in any order, against a model of a few lines."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from victims import Figure, Times

from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.journal import Journal, JournalReader
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import pending, send
from metarl_tui.worker import control
from metarl_tui.worker.control import Control
from metarl_tui.worker.exact import changes_after, read_history
from trainers.hyperparameters import PPOHyperparameters
from trainers.settings import LiveSettings

START = PPOHyperparameters(anneal="none", num_envs=4, rollout_steps=16, minibatch_size=32)
NAMES = ("gamma", "clip_epsilon", "minibatch_size", "epochs")
ALLOWED = {
    "gamma": lambda value: 0 <= value <= 1,
    "clip_epsilon": lambda value: 0 < value <= 10,
    "minibatch_size": lambda value: value in (2, 4, 8, 16, 32, 64),
    "epochs": lambda value: 1 <= value <= 1000,
}
CHANGES = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([0, 0.5, 1, 2, 3, 7, 16, 64, -1]), min_size=1, max_size=3
)
WHOLE = ("minibatch_size", "epochs")


@dataclass
class _Trainer:
    """Counts iterations and holds settings; nothing is learned."""

    live: LiveSettings[PPOHyperparameters]
    iteration: int = 0
    finished: str | None = None

    def change(self, changes: Mapping[str, Any], *, rebase: bool = False) -> Any:
        return self.live.change(changes, rebase=rebase)


@dataclass
class _Model:
    """What must come of it: values, whether it waits, and the answer to each request in turn."""

    values: dict[str, Any] = field(default_factory=lambda: {name: getattr(START, name) for name in NAMES})
    paused: bool = False
    iteration: int = 0
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    stopping: bool = False

    def answer(self, request: str, action: str, changes: Mapping[str, Any]) -> None:
        good = all(
            ALLOWED[name](value) and (name not in WHOLE or value == int(value))
            for name, value in changes.items()
        )
        good = good and (action != "pause" or not self.paused)
        good = good and (action != "resume" or self.paused or bool(changes))
        if good and action in ("pause", "resume"):
            self.paused = action == "pause"
        elif good and action == "stop":
            self.stopping = True
        if action == "set" and not changes:
            good = False
        if good:
            self.values |= changes
        self.answers.append((request, "applied" if good else "rejected", self.iteration + 1))


class Steering(RuleBasedStateMachine):
    """A run's control beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.folder = RunFolder.create(self.place, RunConfig(trainer="ppo"))
        self.model = _Model()
        self.saved = (0, LiveSettings(START.__class__(**vars(START))).state())
        self.queued: list[tuple[str, str, dict[str, Any]]] = []
        self._start()

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.place)

    def _start(self) -> None:
        self.journal = Journal(self.folder.journal)
        history = read_history(self.folder)
        iteration, state = self.saved
        live = LiveSettings(START.__class__(**vars(START)))
        live.restore(state)
        self.trainer: Any = _Trainer(live, iteration)
        self.control = Control(
            self.folder, self.trainer, LiveSettings(RunOptions()), self._record, self._save,
            changes_after(iteration, [], history),
        )  # fmt: skip
        self.control.begin_iteration()

    def _record(self, kind: str, iteration: int, /, **fields: Any) -> None:
        self.journal.append(kind, iteration, **fields)

    def _save(self, why: str) -> str:
        self.saved = (self.trainer.iteration, self.trainer.live.state())
        return f"{self.trainer.iteration:08d}"

    @rule(
        action=st.sampled_from(["set", "set", "set", "pause", "resume", "save", "stop"]),
        changes=CHANGES,
        with_changes=st.booleans(),
    )
    def ask(self, action: str, changes: dict[str, Any], with_changes: bool) -> None:
        if action != "set" and not with_changes:
            changes = {}
        request = send(self.folder, action, changes)  # type: ignore[arg-type]
        self.queued.append((request.id, action, changes))

    @rule()
    def boundary(self) -> None:
        self.control.poll()
        for request in self.queued:
            self.model.answer(*request)
        self.queued.clear()

    @rule()
    def iterate(self) -> None:
        if not self.control.paused:
            self.trainer.iteration += 1
            self.model.iteration += 1
            self.control.begin_iteration()

    @rule()
    def kill_and_resume(self) -> None:
        """Everything since the newest checkpoint is trained again; what was steered then is repeated."""
        self.journal.close()
        reached = self.trainer.iteration
        self._start()
        while self.trainer.iteration < reached:
            self.trainer.iteration += 1
            self.control.begin_iteration()
        self.control.paused = "as before" if self.model.paused else None

    @invariant()
    def the_values_are_those_of_the_model(self) -> None:
        # What was asked at the boundary where the worker was killed is repeated at the next beginning.
        values = {name: getattr(self.trainer.live.values, name) for name in NAMES}
        assert values == self.model.values
        assert bool(self.control.paused) == self.model.paused
        assert bool(self.control.stopping) <= self.model.stopping

    @invariant()
    def every_request_was_answered_once_in_order(self) -> None:
        found = JournalReader(self.folder.journal).read()
        answers = [
            (record["request"], record["result"], record["iteration"])
            for record in found
            if record["kind"] == "control" and not record.get("again")
        ]
        assert answers == self.model.answers
        assert [request.id for request in pending(self.folder)] == [request for request, *_ in self.queued]


def test_any_order_of_requests_boundaries_and_kills(
    times: Times, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    count = times(500)
    run_state_machine_as_test(
        Steering,
        settings=settings(
            max_examples=count,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    figure("orders of requests, boundaries, kills and resumes", count, "all as the model says")
