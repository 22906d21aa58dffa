"""Tasks, distributions of them, and finding a distribution by name.

A distribution is any class with ``sample_tasks(n, generator)``. Its constructor gets those of the
keywords in :class:`Options` that it names, so one without a constructor will do. A run is trained on one
with ``metarl-tui train maml --task package.module:Class``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from trainers.trainer import TrainingError

BUILT_IN: Mapping[str, str] = {
    "xor": "trainers.tasks.xor:XOR",
    "sinusoid": "trainers.tasks.sinusoid:Sinusoid",
    "omniglot": "trainers.tasks.omniglot:Omniglot",
}

# While tasks are drawn a few times their own size is held; less than the second is never asked about.
_WHILE_DRAWN, _NO_MATTER = 3, 100_000_000
_PERSONS = (Exception, SystemExit)
"""What a person's own code may raise."""


class Tasks(NamedTuple):
    """n tasks, each with support rows to adapt to and query rows to be judged on.

    Inputs are float32 [n, rows, *shape]. Targets are int64 class numbers [n, rows], counted from 0, or
    float32 [n, rows, outputs].
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def to(self, device: torch.device) -> Tasks:
        return Tasks(*(part.to(device, non_blocking=True) for part in self))


class Distribution(Protocol):
    """What tasks are drawn from."""

    def sample_tasks(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw ``n`` tasks; all randomness is ``generator``'s, a generator on the CPU."""


@dataclass(frozen=True)
class Options:
    """What a distribution's constructor may ask for, each by its name.

    ``ways`` classes, ``shots`` support and ``query_shots`` query rows of each class (XOR: of each cluster;
    regression: of the task), ``data`` a path, ``seed`` the run's, for splits. ``held_out`` asks for the
    tasks that meta-training never sees, where a distribution has such; others get a seed of their own.
    """

    ways: int
    shots: int
    query_shots: int
    data: str = ""
    seed: int = 0
    held_out: bool = False


class TaskSource:
    """A distribution whose tasks were checked.

    ``shape`` is that of one input; ``classes`` is the number of classes, or ``None`` in regression, and
    ``outputs`` what a network must give.
    """

    def __init__(self, task: str, options: Options) -> None:
        """Raises :class:`TrainingError` when the distribution can't be made or gives anything but tasks."""
        self.task, self.options = task, options
        self.distribution = _make(task, options)
        self._row: list[torch.Size] | None = None
        self._bytes = 0
        self.sample_tasks(1, torch.Generator().manual_seed(0))
        first = self.sample_tasks(2, torch.Generator().manual_seed(0))
        for name, part in zip(Tasks._fields, first, strict=True):
            if part.is_floating_point() and not part.isfinite().all():
                raise TrainingError(
                    f"task = {task}: sample_tasks(2, generator) gave {name} that is not finite: "
                    "must be numbers, neither NaN nor infinite"
                )
        self._row = [part.shape[2:] for part in first]
        self._bytes = _WHILE_DRAWN * sum(part.nbytes for part in first) // 2
        self.shape = tuple(first.support_x.shape[2:])
        self.classes = None if first.support_y.is_floating_point() else options.ways
        self.outputs = self.classes or first.support_y.shape[2]
        self.support_rows, self.query_rows = first.support_x.shape[1], first.query_x.shape[1]

    def check_count(self, n: int) -> None:
        """Raises :class:`TrainingError` when ``n`` tasks at once do not fit into memory."""
        needed = n * self._bytes
        if needed > _NO_MATTER and needed > (free := int(psutil.virtual_memory().available)):
            raise TrainingError(
                f"task = {self.task}: {n} tasks at once take about {needed / 1e9:.3g} GB, and "
                f"{free / 1e9:.3g} GB are free; use fewer tasks, shots or query_shots"
            )

    def sample_tasks(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw ``n`` tasks. Raises :class:`TrainingError` when they are not as they should be."""
        self.check_count(n)
        try:
            tasks = self.distribution.sample_tasks(n, generator)
        except TrainingError:
            raise
        except _PERSONS as error:
            where = f"sample_tasks({n}, generator)"
            raise TrainingError(
                f"task = {self.task}: {where} failed: {type(error).__name__}: {error}"
            ) from error
        if why := fault_of(tasks, n, self.options.ways):
            raise TrainingError(f"task = {self.task}: sample_tasks({n}, generator) gave {why}")
        row = [part.shape[2:] for part in tasks]
        if self._row is not None and row != self._row:
            gave, first = ([list(shape) for shape in shapes] for shapes in (row, self._row))
            raise TrainingError(
                f"task = {self.task}: sample_tasks({n}, generator) gave rows {gave}: "
                f"must be {first}, as the first were"
            )
        return Tasks(*tasks)


def fault_of(tasks: object, n: int, ways: int) -> str | None:
    """What is wrong with ``tasks`` as ``n`` tasks of at most ``ways`` classes, or ``None``."""
    if not isinstance(tasks, tuple) or len(tasks) != 4 or not all(isinstance(part, Tensor) for part in tasks):
        return f"{type(tasks).__name__}: must be Tasks(support_x, support_y, query_x, query_y) of tensors"
    named = dict(zip(Tasks._fields, tasks, strict=True))
    for name, part in named.items():
        if part.dim() < 2 or part.shape[0] != n or part.shape[1] < 1:
            return f"{name} of shape {list(part.shape)}: must begin with [{n}, rows]"
    for part_name in ("support", "query"):
        x, y = named[f"{part_name}_x"], named[f"{part_name}_y"]
        if x.dtype != torch.float32 or x.dim() < 3:
            kind = str(x.dtype).removeprefix("torch.")
            return f"{part_name}_x of shape {list(x.shape)}, {kind}: must be float32 [{n}, rows, *shape]"
        if y.shape[1] != x.shape[1]:
            return f"{part_name}_y with {y.shape[1]} rows: must be {x.shape[1]}, as {part_name}_x has"
        if why := _fault_of_targets(y, n, ways):
            return f"{part_name}_y {why}"
    return _fault_between(named)


def _fault_of_targets(y: Tensor, n: int, ways: int) -> str | None:
    kind = str(y.dtype).removeprefix("torch.")
    if y.dtype == torch.float32 and y.dim() == 3:
        return None
    if y.dtype != torch.int64 or y.dim() != 2:
        return f"of shape {list(y.shape)}, {kind}: must be int64 [{n}, rows] or float32 [{n}, rows, outputs]"
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= ways:
        return f"with classes {low} to {high}: must be from 0 to {ways - 1}, as ways = {ways}"
    return None


def _fault_between(named: Mapping[str, Tensor]) -> str | None:
    for end in ("x", "y"):
        support, query = named[f"support_{end}"], named[f"query_{end}"]
        if support.shape[2:] != query.shape[2:] or support.dtype != query.dtype:
            return (
                f"support_{end} of rows {list(support.shape[2:])} and query_{end} of rows "
                f"{list(query.shape[2:])}: must be alike, in shape and dtype"
            )
    return None


def find_distribution(task: str) -> Any:
    """The class that ``task`` names: xor, sinusoid, omniglot or ``package.module:Class``.

    Raises :class:`TrainingError` with the nearest names.
    """
    module_name, colon, name = BUILT_IN.get(task, task).rpartition(":")
    if not colon:
        near = difflib.get_close_matches(task, BUILT_IN, 1)
        hint = (
            f"did you mean {near[0]}?" if near else f"must be {', '.join(BUILT_IN)} or package.module:Class"
        )
        raise TrainingError(f"task = {task}: no such task distribution; {hint}")
    if not module_name or not name or module_name.endswith(".py") or "/" in module_name:
        raise TrainingError(
            f"task = {task}: write package.module:Class, without .py and with dots for slashes"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"task = {task}: no module named {error.name}; "
            "it is looked for in the working folder and among installed packages"
        ) from error
    except _PERSONS as error:
        raise TrainingError(
            f"task = {task}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not callable(getattr(found, "sample_tasks", None)):
        what = (
            f"{module_name} has no {name}" if found is None else f"{name} has no sample_tasks(n, generator)"
        )
        raise TrainingError(f"task = {task}: {what}; name a class that has it")
    return found


def _make(task: str, options: Options) -> Distribution:
    found = find_distribution(task)
    given = asdict(options)
    try:
        asked = inspect.signature(found).parameters.values()
        if not any(one.kind is one.VAR_KEYWORD for one in asked):
            given = {one.name: given[one.name] for one in asked if one.name in given}
        if options.data and "data" not in given:
            raise TrainingError(f"data = {options.data}: task = {task} reads no data; leave it out")
        distribution: Distribution = found(**given)
    except TrainingError:
        raise
    except _PERSONS as error:
        raise TrainingError(f"task = {task}: making it failed: {type(error).__name__}: {error}") from error
    return distribution
