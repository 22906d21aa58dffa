"""How much memory an adaptation that is differentiated takes, before it is started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from trainers.adaptation import InnerLoop, task_losses
from trainers.hyperparameters import MAMLHyperparameters
from trainers.learners import Network
from trainers.tasks import Tasks, TaskSource
from trainers.trainer import TrainingError

_PROBED_TASKS = 2
_COPIES = 4
"""Parameters, their gradients and Adam's two moments."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a meta-iteration keeps until its backward pass, and those there are."""

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


def check_network(network: Network, h: MAMLHyperparameters, device: torch.device) -> None:
    """Raises :class:`TrainingError` when the network is too large even to count what its adaptation takes."""
    with torch.device("meta"):
        size = sum(tensor.nbytes for tensor in network.initial(torch.Generator()).values())
    # Of each probed task there may be weights and gradients, of two steps.
    needed, free = (_COPIES + 4 * _PROBED_TASKS) * size, available_memory(device)
    if needed > free:
        setting = f"filters = {h.filters}"
        if h.network == "mlp":
            setting = f"hidden_sizes = {','.join(map(str, h.hidden_sizes))}"
        raise TrainingError(
            f"{setting}: the network and its adaptation to {_PROBED_TASKS} tasks take about {_size(needed)}, "
            f"and {_size(free)} are free; use a smaller one"
        )


def check_memory(
    loop: InnerLoop,
    parameters: dict[str, Tensor],
    tasks: TaskSource,
    h: MAMLHyperparameters,
    first_order: bool,
) -> Memory:
    """The estimate for ``h``. Raises :class:`TrainingError` when it does not fit, with what would.

    What is kept is counted on a few tasks, for one and for two steps; from there it grows with the steps
    (not at all in first order) and the tasks.
    """
    memory = _estimate(loop, parameters, tasks, h, first_order)
    if not memory.fits:
        instead = "a smaller meta_batch_size, fewer shots or query_shots, or a smaller network"
        if not first_order and (first := _estimate(loop, parameters, tasks, h, True)).fits:
            instead = (
                f"--variant fomaml or first_order_until = {h.iterations} (first order takes about "
                f"{_size(first.needed)}), or fewer inner_steps"
            )
        memory.refuse(f"inner_steps = {h.inner_steps}", instead)
    return memory


def _estimate(
    loop: InnerLoop,
    parameters: dict[str, Tensor],
    tasks: TaskSource,
    h: MAMLHyperparameters,
    first_order: bool,
) -> Memory:
    device = next(iter(parameters.values())).device
    sample = tasks.sample_tasks(_PROBED_TASKS, torch.Generator().manual_seed(0)).to(device)
    one = _kept(loop, parameters, sample, 1, second_order=not first_order)
    each = 0 if first_order else _kept(loop, parameters, sample, 2, second_order=True) - one
    shared = _COPIES * sum(tensor.nbytes for tensor in parameters.values())
    needed = (one + each * (h.inner_steps - 1)) * h.meta_batch_size // _PROBED_TASKS + shared
    return Memory(needed, available_memory(device), h.meta_batch_size, h.inner_steps, first_order)


def _kept(
    loop: InnerLoop, parameters: dict[str, Tensor], tasks: Tasks, steps: int, *, second_order: bool
) -> int:
    """Bytes of what autograd keeps of ``steps`` steps and the query loss, but for what all tasks share."""
    # As many samples as the real steps have, so that layers choose to hold their changes as they will then.
    weights = loop.begin(parameters, tasks)
    loop = replace(loop, steps=steps)

    def loss() -> Tensor:
        fast = weights
        for step in range(steps):
            fast, _ = loop.descend(fast, tasks, step, second_order=second_order)
        return task_losses(loop.query_outputs(fast, tasks), tasks.query_y).sum()

    return kept_bytes(loss, (*parameters.values(), *tasks))


def kept_bytes(loss: Callable[[], Tensor], shared: Iterable[Tensor]) -> int:
    """Bytes of what autograd keeps for the backward pass of what ``loss`` computes, but for ``shared``."""
    apart = {tensor.untyped_storage().data_ptr() for tensor in shared}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Any:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        computed = loss()
    kept = sum(tensor.untyped_storage().nbytes() for at, tensor in held.items() if at not in apart)
    del computed
    return kept


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
