"""Which states are kept: the best ones too, however fast a run betters itself."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from small_runs import MakeRun

from metarl_tui.runs import checkpoints, summary
from metarl_tui.runs.checkpoints import Contents
from metarl_tui.worker.saving import Saver
from trainers.hyperparameters import TRAINERS
from trainers.trainer import Progress, State, Trainer


class Counting:
    """A trainer whose weights are the number of its iterations."""

    iteration = 0
    progress = Progress(0, 10, "iterations")

    def step(self) -> None:
        self.iteration += 1

    def state(self) -> State:
        return State(weights={"count": np.array([float(self.iteration)])})


def test_the_best_state_is_held_until_a_checkpoint_is_due(make_run: MakeRun) -> None:
    folder = make_run()
    trainer = Counting()
    records: list[dict[str, Any]] = []

    def record(kind: str, iteration: int, /, **fields: Any) -> None:
        records.append({"kind": kind, "iteration": iteration, **fields})

    saver = Saver(folder, cast(Trainer, trainer), TRAINERS["ppo"], record, dict)
    for value in (1.0, 3.0, 7.0, 5.0):
        trainer.step()
        assert saver.measured({TRAINERS["ppo"].objective: value}) is None
    assert checkpoints.listed(folder) == []
    saver.save("automatic")
    saved = {checkpoint.iteration: checkpoint for checkpoint in checkpoints.listed(folder)}
    assert {iteration: one.reasons for iteration, one in saved.items()} == {3: ("best",), 4: ("automatic",)}
    assert checkpoints.load(saved[3]).weights["count"] == 3.0
    assert [(one["iteration"], one["reason"]) for one in records] == [(3, "best"), (4, "automatic")]
    saver.save("asked")
    assert [one["reason"] for one in records[2:]] == ["asked"]
    assert saver.best == 7.0


def test_best_and_newest_are_of_the_objective_and_the_curve_of_the_first_chart_measured(
    make_run: MakeRun,
) -> None:
    folder, trainer = make_run(), Counting()
    saver = Saver(folder, cast(Trainer, trainer), TRAINERS["maml"], lambda *_, **__: None, dict)
    for accuracy, loss in ((0.5, 0.9), (0.7, 0.4), (0.8, 0.6), (0.9, None)):
        trainer.step()
        held_out = {} if loss is None else {"meta_test/loss_post": loss}
        saver.measured({"meta/accuracy_post": accuracy, "meta/loss_post": 7.0, **held_out})
    saver.write_summary()
    found = summary.read(folder)
    assert found is not None
    assert (found.objective, found.best, found.latest) == ("meta_test/loss_post", 0.4, 0.6)
    assert found.sparkline == [0.5, 0.7, 0.8, 0.9]
    regression = Saver(folder, cast(Trainer, trainer), TRAINERS["maml"], lambda *_, **__: None, dict)
    regression.measured({"meta/loss_post": 7.0})
    assert regression.sparkline.points == [7.0]


def test_what_was_held_before_a_change_is_let_go_with_the_next_iteration(make_run: MakeRun) -> None:
    trainer = Counting()
    saver = Saver(make_run(), cast(Trainer, trainer), TRAINERS["ppo"], lambda *_, **__: None, dict)
    saver.hold_unchanged()
    assert saver._unchanged is not None
    trainer.step()
    saver.measured({})
    assert saver._unchanged is None


def test_where_a_fork_left_its_parent_is_never_thinned(make_run: MakeRun) -> None:
    folder = make_run()
    for iteration in range(1, 20):
        checkpoints.save(folder, iteration, Contents(), "forked" if iteration == 5 else "automatic")
    checkpoints.thin(folder, at_most=4)
    left = {one.iteration for one in checkpoints.listed(folder)}
    assert {1, 5, 18, 19} < left
    assert len(left) == 8
