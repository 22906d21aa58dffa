"""Requests, plans, boundaries, kills and resumes in any order, against a model of a few lines."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from victims import Figure, Times

from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.journal import Journal, JournalReader, Record
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import TOO_EARLY, pending, send
from metarl_tui.worker import control
from metarl_tui.worker.control import Control
from metarl_tui.worker.exact import changes_after, read_history
from trainers.hyperparameters import PPOHyperparameters
from trainers.settings import LinearSchedule, LiveSettings

START = PPOHyperparameters(num_envs=4, rollout_steps=16, minibatch_size=32)
SCHEDULE = LinearSchedule(0.5, 0.125, 16)
VALUES: dict[str, tuple[float, ...]] = {
    "gamma": (0, 0.5, 1), "clip_epsilon": (0.5, 1, 7), "learning_rate": (0.125, 0.375, 1),
    "minibatch_size": (2, 16, 64), "epochs": (1, 3, 16),
}  # fmt: skip
WRONG = {"gamma": 2, "clip_epsilon": -1, "learning_rate": 0, "minibatch_size": 7, "epochs": 0.5}
PAIRS = [(name, value) for name, values in VALUES.items() for value in values]
CHANGES = st.lists(st.sampled_from([*PAIRS, *WRONG.items()]), min_size=1, max_size=3).map(dict)
PLANS = st.lists(st.tuples(st.integers(1, 8), CHANGES), max_size=3)


def _initial() -> LiveSettings[PPOHyperparameters]:
    return LiveSettings(replace(START), {"learning_rate": SCHEDULE})


@dataclass
class _Trainer:
    """Counts iterations and holds settings; nothing is learned."""

    live: LiveSettings[PPOHyperparameters]
    iteration: int = 0
    finished: str | None = None

    def change(self, changes: Mapping[str, Any], *, rebase: bool = False) -> Any:
        return self.live.change(changes, rebase=rebase)

    def step(self) -> None:
        self.live.advance(self.iteration)
        self.iteration += 1


@dataclass(frozen=True)
class _Change:
    """What is in force from the start of an iteration on."""

    iteration: int
    changes: dict[str, Any]
    rebase: bool = False

    @property
    def allowed(self) -> bool:
        return all(value in VALUES[name] for name, value in self.changes.items())


@dataclass
class _Model:
    """What must come of it: the changes that count, whether it waits, and the answer to each request."""

    plan: list[_Change] = field(default_factory=list)
    by_hand: list[_Change] = field(default_factory=list)
    paused: bool = False
    stopping: bool = False
    iteration: int = 0
    answers: list[tuple[str, str, int]] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)

    def settings(self) -> LiveSettings[PPOHyperparameters]:
        """Those of a run that is never interrupted, and knows from its start all that will be changed."""
        trainer = _Trainer(_initial())
        while True:
            for change in self.plan + self.by_hand:
                if change.iteration == trainer.iteration + 1 and change.allowed:
                    trainer.change(change.changes, rebase=change.rebase)
            if trainer.iteration == self.iteration:
                return trainer.live
            trainer.step()

    def answer(self, request: str, action: str, change: _Change, *, at_start: bool = False) -> None:
        good = self._makes_sense(request, action, change, at_start) and change.allowed
        self.answers.append((request, "applied" if good else "rejected", self.iteration + 1))
        if not good:
            return
        self._apply(replace(change, iteration=self.iteration + 1))
        if action in ("pause", "resume"):
            self.paused = action == "pause"
        self.stopping |= action == "stop"

    def _makes_sense(self, request: str, action: str, change: _Change, at_start: bool) -> bool:
        if request in (asked for asked, *_ in self.answers):
            self.reached["repeated ids"] += 1
            return False
        match action:
            case "pause":
                return not self.paused
            case "resume":
                return self.paused or bool(change.changes)
        self.reached["changes at a start"] += at_start
        return action != "set" or bool(change.changes)

    def _apply(self, new: _Change) -> None:
        """What people had asked for later iterations, before a kill, gives way to what is asked now."""
        kept = []
        for change in self.by_hand:
            if change.iteration > new.iteration:
                left = {name: value for name, value in change.changes.items() if name not in new.changes}
                self.reached["superseded"] += left != change.changes
                change = replace(change, changes=left)
            kept.append(change)
        self.reached["rebased"] += new.rebase and "learning_rate" in new.changes
        self.by_hand = [*kept, new]

    def reject(self, request: str) -> None:
        """What is found at a start is too early for it, or has been answered."""
        if request not in (asked for asked, *_ in self.answers):
            self.answers.append((request, "rejected", self.iteration + 1))


class Steering(RuleBasedStateMachine):
    """A run's control beside the model."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.folder = RunFolder.create(self.place, RunConfig(trainer="ppo"))
        self.model = _Model(reached=self.reached)
        self.saved = [(0, _initial().state())]
        self.queued: list[tuple[str, str, _Change]] = []
        self.sent: list[str] = []

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.place)

    @initialize(plan=PLANS)
    def begin(self, plan: list[tuple[int, dict[str, Any]]]) -> None:
        self.plan = [{"iteration": iteration, **changes} for iteration, changes in plan]
        self.model.plan = [_Change(*planned) for planned in plan]
        self._start(None)

    def _start(self, asked: _Change | None) -> None:
        """What a worker does: go on from the newest checkpoint, perhaps with changes that came with that."""
        stale = pending(self.folder, most=None)
        self.journal = Journal(self.folder.journal)
        history = read_history(self.folder)
        iteration, state = self.saved[-1]
        live = _initial()
        live.restore(state)
        self.trainer: Any = _Trainer(live, iteration)
        self.control = Control(
            self.folder, self.trainer, LiveSettings(RunOptions()), self._record, self._save,
            changes_after(iteration, self.plan, history), answered=history.answered,
        )  # fmt: skip
        self.model.iteration = iteration
        self.model.paused = self.model.stopping = False
        why = None
        if asked is not None:
            self.sent.append(f"start-{len(self.sent)}")
            self.model.answer(self.sent[-1], "set", asked, at_start=True)
            why = self.control.apply_at_start(asked.changes, asked.rebase, self.sent[-1], "a person")
        if why is None and history.records:
            self._record("resumed", iteration, **{"from": iteration})
        self.control.reject(stale, TOO_EARLY)
        for request, *_ in self.queued:
            self.model.reject(request)
        self.queued.clear()
        if why is not None:
            self.journal.close()
            self._start(None)
        self.control.begin_iteration()

    def _record(self, kind: str, iteration: int, /, **fields: Any) -> None:
        self.journal.append(kind, iteration, **fields)

    def _save(self, why: str) -> str:
        """A checkpoint that is there already stays as it is."""
        iteration = self.trainer.iteration
        if iteration > self.saved[-1][0]:
            self.saved.append((iteration, self.trainer.live.state()))
        return f"{iteration:08d}"

    @rule(
        action=st.sampled_from(["set", "set", "set", "set", "pause", "resume", "save", "stop"]),
        changes=CHANGES,
        with_changes=st.booleans(),
        rebase=st.booleans(),
        iterations=st.none() | st.integers(0, 3),
    )
    def ask(
        self, action: str, changes: dict[str, Any], with_changes: bool, rebase: bool, iterations: int | None
    ) -> None:
        if action != "set" and not with_changes:
            changes = {}
        request = send(self.folder, action, changes, rebase=rebase)  # type: ignore[arg-type]
        self.sent.append(request.id)
        self.queued.append((request.id, action, _Change(0, changes, rebase)))
        if iterations is not None:
            self.boundary()
            self.iterate(iterations, saves=False)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 99), changes=CHANGES)
    def ask_with_an_id_that_another_has(self, which: int, changes: dict[str, Any]) -> None:
        request = self.sent[-1 - which % len(self.sent)]
        fields = {"id": request, "time": time.time(), "action": "set", "changes": changes}
        (self.folder.requests / f"{time.time_ns():020}-by-hand.json").write_bytes(orjson.dumps(fields))
        self.queued.append((request, "set", _Change(0, changes)))

    @rule()
    def boundary(self) -> None:
        self.control.poll()
        for request in self.queued:
            self.model.answer(*request)
        self.queued.clear()
        assert bool(self.control.stopping) == self.model.stopping
        if self.control.stopping:
            self._save("final")
            self.journal.close()
            self._start(None)

    @rule(count=st.integers(1, 3), saves=st.booleans())
    def iterate(self, count: int, saves: bool) -> None:
        for _ in range(0 if self.control.paused else count):
            self.trainer.step()
            self.model.iteration += 1
            if saves:
                self._save("automatic")
            self.control.begin_iteration()

    @rule(damaged=st.sampled_from([0, 0, 1, 2]), asked=st.none() | CHANGES, rebase=st.booleans())
    def kill_and_resume(self, damaged: int, asked: dict[str, Any] | None, rebase: bool) -> None:
        """From the newest checkpoint that is whole; what was steered since then is done again."""
        self.journal.close()
        del self.saved[max(len(self.saved) - damaged, 1) :]
        self._start(None if asked is None else _Change(0, asked, rebase))

    @invariant()
    def the_settings_are_those_of_the_model(self) -> None:
        # What was asked at the boundary where the worker was killed is repeated at the next beginning.
        assert self.trainer.live.state() == self.model.settings().state()
        assert bool(self.control.paused) == self.model.paused

    @invariant()
    def every_request_was_answered_once_in_order(self) -> None:
        answers = self._answers()
        assert [(one["request"], one["result"], one["iteration"]) for one in answers] == self.model.answers
        seen: set[str] = set()
        for one in answers:
            assert one["request"] not in seen or "answered" in one["why"]
            seen.add(one["request"])
        assert [request.id for request in pending(self.folder)] == [request for request, *_ in self.queued]

    def _answers(self) -> list[Record]:
        controls = (one for one in JournalReader(self.folder.journal).read() if one["kind"] == "control")
        return [one for one in controls if one["request"] and not one.get("again")]


def test_any_order_of_requests_boundaries_and_kills(
    times: Times, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)
    Steering.reached.clear()
    count = times(1000)
    run_state_machine_as_test(
        Steering,
        settings=settings(
            max_examples=count,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    reached = ", ".join(f"{Steering.reached[name]} {name}" for name in REACHED)
    figure("orders of requests, boundaries, kills and resumes", count, f"all as the model says; {reached}")
    assert all(Steering.reached[name] for name in REACHED)


REACHED = ("changes at a start", "rebased", "repeated ids", "superseded")
"""What the orders must have come to, or they prove less than they say."""
