"""When checkpoints are made, which stay, and the summary that the home screen reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from metarl_tui.runs import checkpoints, summary
from metarl_tui.runs.checkpoints import Contents
from metarl_tui.runs.folder import RunFolder
from metarl_tui.worker.control import Record
from trainers.hyperparameters import TrainerEntry
from trainers.metrics import metric
from trainers.trainer import Trainer

COST_SHARE = 0.005
"""Automatic checkpoints may cost this share of the time."""
LEAST_SECONDS = 1.0
SPARKLINE_POINTS = 60


class Sparkline:
    """The whole course of a metric in at most ``SPARKLINE_POINTS`` means of equally many iterations."""

    def __init__(self, points: list[float] | None = None, width: int = 1) -> None:
        self.points = points or []
        self.width = width
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        if value - value != 0:  # NaN or infinite
            return
        self._sum += value
        self._count += 1
        if self._count < self.width:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) > SPARKLINE_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [(first + second) / 2 for first, second in pairs]
            self.width *= 2


class Saver:
    """Saves checkpoints and the summary of one run."""

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        entry: TrainerEntry,
        record: Record,
        extra: Callable[[], dict[str, Any]],
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.entry = entry
        self.record = record
        self.best: float | None = None
        self.latest: float | None = None
        self.sparkline = Sparkline()
        self.status = ("starting", "")
        self.newest: str | None = None
        self._extra = extra
        self._due = time.monotonic() + LEAST_SECONDS
        self._best: tuple[int, Contents] | None = None
        self._unchanged: tuple[int, Contents] | None = None

    def state(self) -> dict[str, Any]:
        """What a later worker needs to go on judging and drawing, as JSON values."""
        line = self.sparkline
        return {
            "best": self.best,
            "latest": self.latest,
            "sparkline": line.points,
            "sparkline_width": line.width,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.latest = state.get("best"), state.get("latest")
        self.sparkline = Sparkline(list(state.get("sparkline", [])), int(state.get("sparkline_width", 1)))

    def leave_held(self) -> None:
        """Let go what was held to be saved: it is of another set-up than the trainer's."""
        self._best = self._unchanged = None

    def hold_unchanged(self) -> None:
        """Hold what a checkpoint saves until the next iteration; to be called before a change.

        A checkpoint has the state after an iteration. What is to be in force from the next one on is in the
        journal: a resume makes it again from there, and a fork that leaves here does without it.
        """
        self._unchanged = self.trainer.iteration, self._newest_contents()

    def begin_anew(self) -> None:
        """Forget what was best and how it came: from here on something else is measured."""
        self.best = self.latest = self._best = None
        self.sparkline = Sparkline()

    def measured(self, values: dict[str, float]) -> str | None:
        """Take in an iteration's metrics; the reason to save a checkpoint now, if there is one.

        The best so far is held until the next one is due, as a run may better itself many times a second.
        """
        headline = next((values[key] for key in self.entry.charts if key in values), None)
        if headline is not None:
            self.sparkline.add(headline)
        self._unchanged = None
        objective = values.get(self.entry.objective)
        if objective is not None:
            self.latest = objective
            if self._is_best(objective):
                self.best = objective
                self._best = self.trainer.iteration, self._contents()
        return "automatic" if time.monotonic() >= self._due else None

    def save(self, reason: str) -> str:
        """Save a checkpoint of the newest iteration, and of the best since the last; returns its name."""
        began = time.monotonic()
        if self._best is not None:
            self._write(*self._best, "best")
            self._best = None
        self.newest = self._write(self.trainer.iteration, self._newest_contents(), reason)
        checkpoints.thin(self.folder)
        self.write_summary()
        ended = time.monotonic()
        self._due = ended + max(LEAST_SECONDS, (ended - began) / COST_SHARE)
        return self.newest

    def _newest_contents(self) -> Contents:
        """What a checkpoint of the newest iteration holds, whatever has been changed since."""
        if self._unchanged is not None and self._unchanged[0] == self.trainer.iteration:
            return self._unchanged[1]
        return self._contents()

    def _contents(self) -> Contents:
        state = self.trainer.state()
        numbers = {**state.numbers, "worker": {**self._extra(), **self.state()}}
        return Contents(weights=state.weights, tensors=state.tensors, numbers=numbers)

    def _write(self, iteration: int, contents: Contents, reason: str) -> str:
        saved = checkpoints.save(self.folder, iteration, contents, reason)
        self.record("checkpoint", iteration, name=saved.path.name, reason=reason, bytes=saved.size)
        return saved.path.name

    def write_summary(self) -> None:
        progress = self.trainer.progress
        state, why = self.status
        summary.write(
            self.folder,
            summary.Summary(
                state=state,
                why=why,
                iteration=self.trainer.iteration,
                total=progress.total,
                done=progress.done,
                unit=progress.unit,
                best=self.best,
                objective=self.entry.objective,
                latest=self.latest,
                sparkline=self.sparkline.points,
                updated=time.time(),
            ),
        )

    def _is_best(self, value: float) -> bool:
        if value != value:
            return False
        if self.best is None:
            return True
        return value < self.best if metric(self.entry.objective).better == "lower" else value > self.best
