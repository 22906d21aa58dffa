"""How much memory an adaptation that is differentiated takes, before it is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from trainers.adaptation import InnerLoop, task_losses
from trainers.hyperparameters import MAMLHyperparameters
from trainers.tasks import Tasks, TaskSource
from trainers.trainer import TrainingError

_PROBED_TASKS = 2


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
        plural = "s" if self.steps > 1 else ""
        return (
            f"memory: about {_size(self.needed)} a meta-iteration "
            f"({self.tasks} tasks × {self.steps} step{plural}, {order} order)"
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
    device = next(iter(parameters.values())).device
    sample = tasks.sample_tasks(_PROBED_TASKS, torch.Generator().manual_seed(0)).to(device)
    one = _kept(loop, parameters, sample, 1, second_order=not first_order)
    each = 0 if first_order else _kept(loop, parameters, sample, 2, second_order=True) - one
    shared = 4 * sum(tensor.nbytes for tensor in parameters.values())
    needed = (one + each * (h.inner_steps - 1)) * h.meta_batch_size // _PROBED_TASKS + shared
    memory = Memory(needed, _available(device), h.meta_batch_size, h.inner_steps, first_order)
    if memory.needed > memory.available:
        instead = "fewer meta_batch_size or a smaller network"
        if not first_order:
            instead = (
                f"--variant fomaml or first_order_until = {h.iterations} (first order), or fewer inner_steps"
            )
        raise TrainingError(
            f"inner_steps = {h.inner_steps}: {memory.in_words()}, and {_size(memory.available)} are free; "
            f"use {instead}"
        )
    return memory


def _kept(
    loop: InnerLoop, parameters: dict[str, Tensor], tasks: Tasks, steps: int, *, second_order: bool
) -> int:
    """Bytes of what autograd keeps of ``steps`` steps and the query loss, but for what all tasks share."""
    shared = {tensor.untyped_storage().data_ptr() for tensor in (*parameters.values(), *tasks)}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Any:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    # As many samples as the real steps have, so that layers choose to hold their changes as they will then.
    weights = loop.begin(parameters, tasks)
    loop = replace(loop, steps=steps)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for step in range(steps):
            weights, _ = loop.descend(weights, tasks, step, second_order=second_order)
        loss = task_losses(loop.query_outputs(weights, tasks), tasks.query_y).sum()
    kept = sum(tensor.untyped_storage().nbytes() for at, tensor in held.items() if at not in shared)
    del loss
    return kept


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{max(count / 1e3, 1):.3g} kB"
