"""The runs of a folder as the home screen lists them. Pure reading: one row of facts a run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from metarl_tui.runs import summary as summaries
from metarl_tui.runs.files import shown
from metarl_tui.runs.folder import CONFIG_FILE, RunError, RunFolder
from metarl_tui.runs.liveness import Observer
from metarl_tui.runs.parents import parent_in_short
from metarl_tui.runs.states import ENDED

_BLOCKS = "▁▂▃▄▅▆▇"  # never a full one, so that rows do not touch


@dataclass(frozen=True)
class Entry:
    """What the list says of a run. ``problem`` is set where its configuration can't be read."""

    title: str
    trainer: str = ""
    subject: str = ""
    state: str = ""
    why: str = ""
    iteration: int = 0
    done: int = 0
    total: int = 0
    unit: str = ""
    best: float | None = None
    latest: float | None = None
    objective: str = ""
    points: tuple[float, ...] = ()
    created: float = 0.0
    seed: object = None
    parent: str = ""
    problem: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing about it will change unless its files are written again."""
        return bool(self.problem) or self.state in ENDED


@dataclass
class Catalogue:
    """Reads entries and remembers of each run when it was written, and how it was last seen to live."""

    observers: dict[RunFolder, Observer] = field(default_factory=dict)
    """Those of runs that are not over."""
    written: dict[RunFolder, tuple[int, int]] = field(default_factory=dict)

    def changed(self, runs: Iterable[RunFolder]) -> list[RunFolder]:
        """Those of ``runs`` that were configured or started anew since they were read."""
        return [run for run in runs if _written(run) != self.written.get(run)]

    def forget(self, folder: RunFolder) -> None:
        """Remember nothing of a run that is gone."""
        self.observers.pop(folder, None)
        self.written.pop(folder, None)

    def read(self, folder: RunFolder) -> Entry:
        """The entry of one run. Never raises."""
        self.written[folder] = _written(folder)
        try:
            config = folder.config
        except RunError as error:
            return Entry(folder.short_id, problem=str(error).removeprefix(f"{shown(folder.path)}/"))
        summary = summaries.read(folder) or summaries.Summary(state="")
        state, why, iteration = summary.state, summary.why, summary.iteration
        if state not in ENDED or _restarted(folder):
            observer = self.observers.setdefault(folder, Observer(folder))
            standing = observer.observe()
            state, why, iteration = standing.state, standing.why, max(standing.iteration, iteration)
        if state in ENDED:
            self.observers.pop(folder, None)
        return Entry(
            title=config.name or folder.short_id,
            trainer=config.trainer,
            subject=config.subject,
            state=state,
            why=why,
            iteration=iteration,
            done=summary.done,
            total=summary.total,
            unit=summary.unit,
            best=summary.best,
            latest=summary.latest,
            objective=summary.objective,
            points=tuple(summary.sparkline),
            created=config.created,
            seed=config.setup.get("seed"),
            parent=parent_in_short(config.parent),
        )


def _written(folder: RunFolder) -> tuple[int, int]:
    """When configuration and worker were written, in nanoseconds; 0 where they can't be looked at."""
    return _modified(folder.path / CONFIG_FILE), _modified(folder.worker)


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _restarted(folder: RunFolder) -> bool:
    """Whether a worker was started after the summary was written."""
    try:
        return folder.worker.stat().st_mtime_ns > folder.summary.stat().st_mtime_ns
    except OSError:
        return False


def age(created: float, now: float | None = None) -> str:
    """``12 s``, ``3 m``, ``5 h``, ``2 d`` or ``4 y``."""
    seconds = max((time.time() if now is None else now) - created, 0.0)
    for limit, divisor, unit in (
        (60, 1, "s"),
        (3600, 60, "m"),
        (86400, 3600, "h"),
        (365 * 86400, 86400, "d"),
    ):
        if seconds < limit:
            return f"{int(seconds // divisor)} {unit}"
    return f"{int(seconds // (365 * 86400))} y"


def sparkline(points: Sequence[float], width: int) -> str:
    """``points`` as blocks, at most ``width`` of them; what is not finite is blank.

    Of more points each block is the mean of its share; what never changed lies in the middle.
    """
    if width <= 0 or not points:
        return ""
    count = min(width, len(points))
    ends = [index * len(points) // count for index in range(count + 1)]
    means = [_mean_of_finite(points[begin:end]) for begin, end in pairwise(ends)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if not (high > low and math.isfinite(high - low)):
        return "".join(_BLOCKS[len(_BLOCKS) // 2] if math.isfinite(mean) else " " for mean in means)
    scale = (len(_BLOCKS) - 1) / (high - low)
    return "".join(_BLOCKS[round((mean - low) * scale)] if math.isfinite(mean) else " " for mean in means)


def _mean_of_finite(points: Sequence[float]) -> float:
    finite = [point for point in points if math.isfinite(point)]
    return sum(point / len(finite) for point in finite) if finite else math.nan
