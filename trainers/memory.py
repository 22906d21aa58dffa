"""How much memory an adaptation that is differentiated takes, before it is started."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.hyperparameters import MAMLHyperparameters, MAMLPPOHyperparameters
from trainers.learners import Network
from trainers.linear_baseline import fitting_bytes
from trainers.meta_policies import MetaPolicy
from trainers.tasks import Tasks, TaskSource
from trainers.trainer import TrainingError

_PROBED_TASKS, _PROBED_STEPS = (1, 2), 3
_COPIES = 3
"""Parameters and Adam's two moments."""
_ALLOCATED = 1.5
"""What a process grows by, for a byte of tensors: memory that was let go is used again only in part."""

_PROBED_ROWS = 500

Probe = Callable[[Tasks, int, bool], object]
"""Computes the meta-gradient on tasks, in that many steps, in first order or not."""
TrajectoryProbe = Callable[[int, int, int], object]
"""Makes the trajectories of some tasks, that long, before and after that many inner steps, and uses them."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a meta-iteration holds at its most, and those there are."""

    needed: int
    available: int
    tasks: int
    steps: int
    first_order: bool

    def in_words(self) -> str:
        """``about 12 MB a meta-iteration: 25 tasks × 5 steps, second order``."""
        order = "first" if self.first_order else "second"
        plural = "" if self.steps == 1 else "s"
        return (
            f"memory: about {_size(self.needed)} a meta-iteration "
            f"({self.tasks} tasks × {self.steps} step{plural}, {order} order)"
        )

    @property
    def fits(self) -> bool:
        return self.needed <= self.available

    def refuse(self, setting: str, instead: str) -> NoReturn:
        """Raise :class:`TrainingError` about ``setting``, with what to use ``instead``."""
        free = _size(self.available)
        raise TrainingError(f"{setting}: {self.in_words()}, and {free} are free; use {instead}")


def check_network(
    network: Network | MetaPolicy, h: MAMLHyperparameters | MAMLPPOHyperparameters, device: torch.device
) -> None:
    """Raises :class:`TrainingError` when the network is too large even to count what its adaptation takes."""
    with torch.device("meta"):
        size = sum(tensor.nbytes for tensor in network.initial(torch.Generator()).values())
    # Of each probed task there may be weights and gradients, of every step, beside a meta-gradient.
    probed = _PROBED_TASKS[-1]
    needed, free = (_COPIES + 1 + 2 * _PROBED_STEPS * probed) * size, available_memory(device)
    if needed > free:
        setting = f"hidden_sizes = {','.join(map(str, h.hidden_sizes))}"
        if isinstance(h, MAMLHyperparameters) and h.network != "mlp":
            setting = f"filters = {h.filters}"
        raise TrainingError(
            f"{setting}: the network and its adaptation to {probed} tasks take about {_size(needed)}, "
            f"and {_size(free)} are free; use a smaller one"
        )


def check_memory(
    probe: Probe, parameters: dict[str, Tensor], tasks: TaskSource, h: MAMLHyperparameters, first_order: bool
) -> Memory:
    """The estimate for ``h``. Raises :class:`TrainingError` when it does not fit, with what would."""
    memory = _estimate(probe, parameters, tasks, h, first_order)
    if not memory.fits:
        instead = "a smaller meta_batch_size, fewer shots or query_shots, or a smaller network"
        if not first_order and (first := _estimate(probe, parameters, tasks, h, True)).fits:
            instead = (
                f"--variant fomaml or first_order_until = {h.iterations} (first order takes about "
                f"{_size(first.needed)}), or fewer inner_steps"
            )
        memory.refuse(f"inner_steps = {h.inner_steps}", instead)
    return memory


def check_trajectories(
    learn: TrajectoryProbe,
    measure: TrajectoryProbe,
    parameters: dict[str, Tensor],
    h: MAMLPPOHyperparameters,
    horizon: int,
    size: int,
    first_order: bool,
) -> Memory:
    """The estimate for a meta-iteration of ``h``, on observations of ``size`` numbers.

    ``learn`` takes the meta-gradient and ``measure`` adapts to held-out tasks. Raises
    :class:`TrainingError` when either does not fit, with what would.
    """
    device = next(iter(parameters.values())).device
    copies = _COPIES * sum(tensor.nbytes for tensor in parameters.values())
    fit, free = fitting_bytes(h.trajectories_per_task * horizon, size), available_memory(device)
    # So much for one task, before some are tried: it grows with the square of the size.
    if fit > free:
        raise TrainingError(
            f"observations of {size} numbers: the baseline's fit to {h.trajectories_per_task} trajectories "
            f"takes about {_size(fit)}, and {_size(free)} are free; use fewer of either"
        )

    def checked(probe: TrajectoryProbe, batch: str, inner: str, first_order: bool) -> Memory:
        tasks, steps = getattr(h, batch), getattr(h, inner)
        shared, of_task = _on_trajectories(probe, h.trajectories_per_task, horizon, steps)
        needed = int(_ALLOCATED * (copies + shared + tasks * (of_task + fit)))
        memory = Memory(needed, available_memory(device), tasks, steps, first_order)
        if not memory.fits:
            smaller = f"a smaller {batch}, fewer trajectories_per_task or {inner}, or a smaller network"
            memory.refuse(f"{batch} = {tasks}", smaller)
        return memory

    if h.eval_every is not None:
        checked(measure, "eval_tasks", "eval_inner_steps", True)
    return checked(learn, "meta_batch_size", "inner_steps", first_order)


def _on_trajectories(probe: TrajectoryProbe, trajectories: int, horizon: int, steps: int) -> tuple[int, int]:
    """Bytes at the peak, for all tasks together and for each, from a few tasks of short trajectories.

    They grow in proportion to tasks, and of each to the length of its trajectories and to the inner steps.
    """

    def peak(tasks: int, length: int) -> int:
        few, more = (
            peak_bytes(lambda some=some: probe(tasks, length, some))  # type: ignore[misc]
            for some in (min(steps, _PROBED_STEPS - 1), min(steps, _PROBED_STEPS))
        )
        return more + (more - few) * max(steps - _PROBED_STEPS, 0)

    length = min(max(_PROBED_ROWS // trajectories, 1), horizon)
    one, two, longer = peak(1, length), peak(2, length), peak(2, 2 * length)
    of_task, of_moment = max(two - one, 0), max(longer - two, 0) // (2 * length)
    return max(one - of_task, 0), of_task + of_moment * (horizon - length)


def _estimate(
    probe: Probe, parameters: dict[str, Tensor], tasks: TaskSource, h: MAMLHyperparameters, first_order: bool
) -> Memory:
    """From the peaks on one and two tasks, in one to three steps.

    They grow in proportion to the tasks, and with the square of the steps at most: a change in factors is
    read again in every later step.
    """
    device = next(iter(parameters.values())).device
    peaks = []
    for count in _PROBED_TASKS:
        sample = tasks.sample_tasks(count, torch.Generator().manual_seed(0)).to(device)
        own = sum(part.nbytes for part in sample)
        found = [
            own + peak_bytes(lambda sample=sample, steps=steps: probe(sample, steps, first_order))  # type: ignore[misc]
            for steps in range(1, min(h.inner_steps, _PROBED_STEPS) + 1)
        ]
        peaks.append(_extrapolated(found, h.inner_steps))
    of_task = max(peaks[1] - peaks[0], 0)
    shared = max(peaks[0] - of_task, 0)
    kept = _COPIES * sum(tensor.nbytes for tensor in parameters.values())
    needed = int(_ALLOCATED * (h.meta_batch_size * of_task + shared)) + kept
    return Memory(needed, available_memory(device), h.meta_batch_size, h.inner_steps, first_order)


def _extrapolated(values: list[int], at: int) -> int:
    """Newton's polynomial through ``values`` at 1, 2, …, read at ``at``."""
    total, factor, differences = 0, 1, list(values)
    for order in range(len(values)):
        total += differences[0] * factor
        factor = factor * (at - 1 - order) // (order + 1)
        differences = [later - earlier for earlier, later in pairwise(differences)]
    return total


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of what PyTorch makes while the mode is on, until it is let go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in known | self._known:
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.held)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.held += size
        weakref.finalize(storage, self._let_go, key, size).atexit = False

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def peak_bytes(compute: Callable[[], object]) -> int:
    """The most bytes of tensors that ``compute`` makes and holds at once, forward and backward."""
    counted = _Held()
    with counted:
        compute()
    return counted.peak


def available_memory(device: torch.device) -> int:
    """Bytes that are free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def _size(count: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{max(count / 1e3, 1):.3g} kB"
