"""Training a run once more, from its seed and the changes in its journal, to see whether it is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metarl_tui.runs import checkpoints
from metarl_tui.runs.checkpoints import Checkpoint, DamagedCheckpoint
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.options import RunOptions
from metarl_tui.worker.build import build_trainer, machine
from metarl_tui.worker.exact import (
    NOT_EXACT,
    Difference,
    History,
    changes_after,
    first_difference,
    other_now,
    read_history,
    repeating,
    rows_that_count,
    why_inexact,
)
from metarl_tui.worker.forked import copied_checkpoint, fitted, forked_at, former
from trainers.declarations import make_settings
from trainers.settings import LiveSettings
from trainers.trainer import Iteration, State, Trainer


@dataclass
class Comparison:
    """What a rerun showed: ``compared`` of the iterations ``first`` to ``last`` have a row in the journal."""

    run: str
    first: int
    last: int
    start: str
    """From where it was trained: the seed, or a fork's checkpoint."""
    changes: int = 0
    compared: int = 0
    metrics: set[str] = field(default_factory=set)
    difference: Difference | None = None
    reasons: list[str] = field(default_factory=list)
    """What is known to be other than it was, where the rerun differs."""


def rerun(folder: RunFolder, progress: Callable[[int, int], None]) -> Comparison:
    """Train the run again, up to its newest iteration, and compare every metric but times.

    Nothing is written into the run. ``progress`` hears iteration and goal. It ends at the first difference.
    Raises :class:`RunError` where there is nothing to compare or nothing to start from, and what building
    the trainer raises.
    """
    folder.check_trusted()
    history, begun = read_history(folder), forked_at(folder.config)
    if history.last <= begun:
        raise RunError(f"run {folder.short_id} has no iteration yet that could be trained again")
    again = _Again(folder, history)
    result = Comparison(folder.id, begun + 1, history.last, again.start)
    try:
        for row in rows_that_count(folder, history.resumes):
            if row["iteration"] > history.last:  # written meanwhile
                break
            done = again.train_to(row["iteration"], lambda iteration: progress(iteration, history.last))
            result.compared += 1
            result.difference = first_difference(row, done, result.metrics)
            if result.difference is not None:
                known = why_inexact(folder.config, history)
                result.reasons = [*again.reasons, *known, *other_now(history.started, machine())]
                break
    finally:
        again.trainer.close()
    result.changes = again.changes
    return result


class _Again:
    """A trainer on the way that the run took; a fork's has its parent's configuration at first."""

    def __init__(self, folder: RunFolder, history: History) -> None:
        config = folder.config
        self._config, self._decisions, self._goal = config, history.decisions, forked_at(config)
        self.reasons: list[str] = []
        self.start = f"seed {config.setup.get('seed', '?')}"
        state, iteration = None, 0
        if config.parent and (iteration := copied_checkpoint(config)):
            state = _read_state(folder, iteration)
            self.start = f"the parent's checkpoint {iteration}"
        self._is_former = iteration < self._goal
        self.trainer: Trainer = (
            build_trainer(former(config)) if self._is_former else build_trainer(config, history.decisions)
        )
        if state is not None:
            self._restore(state if self._is_former else fitted(config, state))
        self._due = changes_after(iteration, config.changes, history)
        self._options: Any = LiveSettings(make_settings(RunOptions, config.options))
        self._planned = len(self._due)
        self._control = repeating(folder, self.trainer, self._options, self._due)

    @property
    def changes(self) -> int:
        """How many changes were made on the way."""
        return self._planned - len(self._due)

    def train_to(self, iteration: int, each: Callable[[int], None]) -> Iteration:
        """Train until ``iteration`` is done, and return what it gave."""
        while True:
            if self._is_former and self.trainer.iteration == self._goal:
                self._leave_the_parent()
            self._control.begin_iteration()
            done = self.trainer.step()
            each(done.number)
            if done.number >= iteration:
                return done

    def _leave_the_parent(self) -> None:
        state = self.trainer.state()
        self.trainer.close()
        self.trainer = self._control.trainer = build_trainer(self._config, self._decisions)
        self._restore(fitted(self._config, state))
        self._is_former = False

    def _restore(self, state: State) -> None:
        inexact = self.trainer.restore(state)
        # What a fork can't take over from its parent it could not then either.
        if inexact and not (self._config.parent and "begin new episodes" in inexact):
            self.reasons.append(f"now {inexact.removeprefix(NOT_EXACT)}")


def _read_state(folder: RunFolder, iteration: int) -> State:
    checkpoint = Checkpoint(folder.checkpoints / f"{iteration:08d}", iteration)
    try:
        contents = checkpoints.load(checkpoint)
    except DamagedCheckpoint as error:
        raise RunError(f"run {folder.short_id} can't be trained again from its parent's {error}") from error
    return State(weights=contents.weights, tensors=contents.tensors, numbers=contents.numbers)
