"""Adapting a network to tasks: losses, the inner loop, and how well each step did on the queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainers.fast_weights import FastWeights, Rates
from trainers.hyperparameters import MAMLHyperparameters
from trainers.learners import Network
from trainers.tasks import Tasks

DIVERGED = 10.0
"""How many times the median a task's loss must be to have diverged; see :meth:`Adaptation.diverged`."""
_TASKS_AT_ONCE, _ROWS_AT_ONCE = 50, 100_000


@dataclass
class InnerLoop:
    """How a network adapts. ``late_rates`` are those of the steps after the first ``early_steps``."""

    network: Network
    steps: int
    rates: Rates
    adapted: tuple[str, ...] | None = None
    """Names of the parameters that adapt; ``None``: all."""
    early_steps: int = 0
    late_rates: Rates | None = None
    factors: bool = True
    """Whether linear layers may keep their changes in factors (not with rates that differ within a layer)."""
    rank: int | None = None
    """The number of samples times steps for which they choose; ``None``: that of the tasks and ``steps``."""

    def begin(self, parameters: dict[str, Tensor], tasks: Tasks) -> FastWeights:
        """The weights before the first step."""
        rank = self.steps * tasks.support_x.shape[1] if self.rank is None else self.rank
        return FastWeights(
            parameters,
            tasks.support_x.shape[0],
            adapted=self.adapted,
            rank=rank if self.factors else None,
        )

    def descend(
        self, weights: FastWeights, tasks: Tasks, step: int, *, second_order: bool
    ) -> tuple[FastWeights, Tensor]:
        """Step number ``step``, from 0, on the support rows; the weights after it, losses [n] before it."""
        late = self.late_rates is not None and step >= self.early_steps
        rates = self.late_rates if late and self.late_rates is not None else self.rates
        return weights.descend(
            lambda fast: task_losses(self.network(fast, tasks.support_x), tasks.support_y),
            rates,
            second_order=second_order,
        )

    def rates_in_force(self) -> dict[str, float | int | None]:
        """``inner_lr`` (``None``: learned); if others follow it, ``late_inner_lr`` after ``early_steps``."""
        found: dict[str, float | int | None] = {
            "inner_lr": self.rates if isinstance(self.rates, float) else None
        }
        if isinstance(self.late_rates, float) and self.steps > self.early_steps:
            found |= {"late_inner_lr": self.late_rates, "early_steps": self.early_steps}
        return found

    def query_outputs(self, weights: FastWeights, tasks: Tasks) -> Tensor:
        """Outputs [n, rows, outputs] for the query rows."""
        return self.network(weights, tasks.query_x)


def make_loop(
    network: Network, h: MAMLHyperparameters, variant: str, rates: Mapping[str, Tensor], *, evaluating: bool
) -> InnerLoop:
    """The adaptation of ``variant``, in training or on held-out tasks; ``rates`` are learned ones, if any."""
    return InnerLoop(
        network,
        h.eval_inner_steps if evaluating else h.inner_steps,
        rates or h.inner_lr,
        adapted=network.head if variant == "anil" else None,
        early_steps=h.inner_steps,
        late_rates=h.eval_inner_lr if evaluating else None,
        factors=not rates,
    )


@dataclass
class Adaptation:
    """How n tasks went, by number of steps from 0: query losses [steps + 1, n], and accuracies likewise."""

    losses: Tensor
    accuracies: Tensor | None

    def diverged(self) -> Tensor:
        """Which tasks have diverged after each number of steps, bool [steps + 1, n].

        Those whose loss is not finite, or more than :data:`DIVERGED` times the median over the tasks and
        above what it was before the first step: where most tasks are solved the median is about 0, and one
        that was merely solved less well has not diverged.
        """
        median = self.losses.nanmedian(1, keepdim=True).values
        return ~self.losses.isfinite() | (self.losses > torch.maximum(DIVERGED * median, self.losses[:1]))


def task_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of each task, [n]: cross-entropy for int64 ``targets`` [n, rows], else squared error."""
    if targets.is_floating_point():
        return (outputs - targets).square().mean((1, 2))
    losses = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)


def task_accuracies(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of rows of each task whose largest output is the target's, [n]."""
    return (outputs.argmax(-1) == targets).to(outputs.dtype).mean(1)


def adapt(loop: InnerLoop, parameters: dict[str, Tensor], tasks: Tasks) -> Adaptation:
    """Adapt to ``tasks`` and measure on their queries after every step; keeps no derivatives."""
    rows = tasks.support_x.shape[1] + tasks.query_x.shape[1]
    at_once = min(max(_ROWS_AT_ONCE // rows, 1), _TASKS_AT_ONCE)
    chunks = zip(*(torch.split(part, at_once) for part in tasks), strict=True)
    parts = [_adapt(loop, parameters, Tasks(*chunk)) for chunk in chunks]
    losses = torch.cat([losses for losses, _ in parts], 1)
    accuracies = [found for _, found in parts if found is not None]
    return Adaptation(losses, torch.cat(accuracies, 1) if accuracies else None)


def _adapt(loop: InnerLoop, parameters: dict[str, Tensor], tasks: Tasks) -> tuple[Tensor, Tensor | None]:
    weights = loop.begin(parameters, tasks)
    losses, accuracies = [], []
    for step in range(loop.steps + 1):
        if step:
            weights, _ = loop.descend(weights, tasks, step - 1, second_order=False)
        with torch.no_grad():
            outputs = loop.query_outputs(weights, tasks)
            losses.append(task_losses(outputs, tasks.query_y))
            if not tasks.query_y.is_floating_point():
                accuracies.append(task_accuracies(outputs, tasks.query_y))
    return torch.stack(losses), torch.stack(accuracies) if accuracies else None
