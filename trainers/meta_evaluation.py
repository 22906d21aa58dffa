"""What adaptation gains on held-out tasks, beside what one would do without meta-learning.

Two baselines learn from the same data with the same network. Joint training: one network for all tasks at
once, fine-tuned to each held-out task; it saw the very tasks of meta-training, support and query rows.
From scratch: a new network for each held-out task, given as many steps as the others, and given all the
time it takes. Gradient steps take their size from a grid, by what it gives on
meta-training tasks; to convergence Adam takes steps of 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainers.adaptation import Adaptation, InnerLoop, adapt, task_accuracies, task_losses
from trainers.fast_weights import FastWeights
from trainers.few_shot import Learner
from trainers.randomness import torch_generator
from trainers.tasks import Options, Tasks, TaskSource

RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Step sizes among which the baselines choose."""
_CHOOSING_TASKS = 100
_Z95 = 1.96
_CONVERGED_STEPS, _LOOK_EVERY, _IMPROVEMENT = 2000, 100, 0.01
_SCRATCH_RATE, _SCRATCH_FLOATS = 0.01, 10_000_000
_SAID_EVERY = 100


@dataclass(frozen=True)
class _Fixed:
    """What all methods are measured with."""

    learner: Learner
    choosing: Tasks
    held_out: Tasks
    steps: int


def evaluate_learner(
    learner: Learner,
    *,
    tasks: int = 600,
    shots: int | None = None,
    steps: int = 10,
    seed: int | None = None,
    baselines: bool = True,
    baseline_iterations: int | None = None,
    data: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The adaptation to ``tasks`` held-out tasks by number of steps, as JSON values.

    ``shots`` differ from the run's where given, ``seed`` draws other held-out tasks, ``data`` says where
    the data lies on this machine. Joint training lasts ``baseline_iterations``, by default as long as the
    run's meta-training did. ``methods`` are rows with ``name``, ``inner_lr`` and ``by_step``: ``step``, and
    of loss and accuracy mean, half-width of its 95 % interval, median, and for accuracy the mean of the
    worst 5 % of tasks; ``diverged`` counts tasks. ``progress`` hears what is being done. Raises
    :class:`~trainers.trainer.TrainingError` for a distribution that can't be had.
    """
    setup, h = learner.setup, learner.hyperparameters
    device = next(iter(learner.parameters.values())).device
    options = Options(
        h.ways, shots or h.shots, h.query_shots, setup.data if data is None else data, setup.seed
    )
    training = TaskSource(setup.task, options)
    held_out = TaskSource(setup.task, replace(options, held_out=True))
    generator = torch_generator(setup.seed if seed is None else seed, "meta-test")
    fixed = _Fixed(
        learner,
        training.sample_tasks(_CHOOSING_TASKS, torch_generator(setup.seed, "choosing")).to(device),
        held_out.sample_tasks(tasks, generator).to(device),
        steps,
    )
    progress(f"adapting to {tasks} held-out tasks")
    went = adapt(learner.loop(steps), learner.parameters, fixed.held_out)
    rate = None if learner.rates else h.inner_lr
    methods = [{"name": setup.variant, "inner_lr": rate, "by_step": by_step(went)}]
    if baselines:
        count = learner.iteration if baseline_iterations is None else baseline_iterations
        joint = train_jointly(learner, training, count, progress)
        progress("fine-tuning to the held-out tasks")
        methods.append(_fine_tuned("joint training, fine-tuned", joint, fixed))
        progress("learning from scratch")
        methods.append(_fine_tuned("from scratch", _fresh(learner), fixed))
        methods.append(_converged(fixed, progress))
    return {
        "task": setup.task,
        "iteration": learner.iteration,
        "tasks": tasks,
        "ways": training.classes,
        "shots": options.shots,
        "query_shots": options.query_shots,
        "steps": steps,
        "seed": setup.seed if seed is None else seed,
        "transductive": learner.network.transductive,
        "methods": methods,
    }


def by_step(went: Adaptation) -> list[dict[str, float]]:
    """Statistics over tasks after 0, 1, … steps, as :func:`evaluate_learner` gives them."""
    rows = []
    for step, (losses, lost) in enumerate(zip(went.losses, went.diverged(), strict=True)):
        mean, half = mean_and_interval(losses)
        row = {
            "step": step,
            "loss": mean,
            "loss_ci95": half,
            "loss_median": float(losses.nanmedian()),
            "diverged": int(lost.sum()),
        }
        if went.accuracies is not None:
            found = went.accuracies[step]
            mean, half = mean_and_interval(found)
            worst = found.sort().values[: max(len(found) // 20, 1)]
            row |= {
                "accuracy": mean,
                "accuracy_ci95": half,
                "accuracy_median": float(found.median()),
                "accuracy_worst": float(worst.mean()),
            }
        rows.append(row)
    return rows


def train_jointly(
    learner: Learner, tasks: TaskSource, iterations: int, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Tensor]:
    """One network for all tasks: Adam on the mean loss over every row of the run's own batches of tasks.

    ``progress`` hears now and then how far it is.
    """
    h, setup = learner.hyperparameters, learner.setup
    parameters = _fresh(learner)
    device = next(iter(parameters.values())).device
    optimizer = torch.optim.Adam(list(parameters.values()), h.outer_lr, fused=True)
    generator = torch_generator(setup.seed, "tasks")
    for done in range(iterations):
        if done % _SAID_EVERY == 0:
            progress(f"joint training, {done} of {iterations} iterations")
        batch = tasks.sample_tasks(h.meta_batch_size, generator).to(device)
        x, y = torch.cat((batch.support_x, batch.query_x), 1), torch.cat((batch.support_y, batch.query_y), 1)
        weights = FastWeights(parameters, h.meta_batch_size, adapted=())
        loss = task_losses(learner.network(weights, x), y).mean()
        found = torch.autograd.grad(loss, list(parameters.values()))
        for parameter, gradient in zip(parameters.values(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return parameters


def _fresh(learner: Learner) -> dict[str, Tensor]:
    """New parameters, of another seed than the run's."""
    device = next(iter(learner.parameters.values())).device
    initial = learner.network.initial(torch_generator(learner.setup.seed, "baseline"))
    return {name: tensor.to(device).requires_grad_() for name, tensor in initial.items()}


def _fine_tuned(name: str, parameters: dict[str, Tensor], fixed: _Fixed) -> dict[str, Any]:
    """``parameters`` adapted by gradient steps of the rate that ends best on meta-training tasks."""
    loop = InnerLoop(fixed.learner.network, fixed.steps, RATES[0])

    def ends(rate: float) -> float:
        loss = float(adapt(replace(loop, rates=rate), parameters, fixed.choosing).losses[-1].mean())
        return loss if math.isfinite(loss) else math.inf

    rate = min(RATES, key=ends)
    went = adapt(replace(loop, rates=rate), parameters, fixed.held_out)
    return {"name": name, "inner_lr": rate, "by_step": by_step(went)}


def _converged(fixed: _Fixed, progress: Callable[[str], None]) -> dict[str, Any]:
    """A network for each held-out task, trained on its support rows until that stops to help."""
    initial = _fresh(fixed.learner)
    size = sum(tensor.numel() for tensor in initial.values())
    at_once = max(_SCRATCH_FLOATS // size, 1)
    chunks = [Tasks(*chunk) for chunk in zip(*(torch.split(p, at_once) for p in fixed.held_out), strict=True)]
    found = []
    for number, chunk in enumerate(chunks, 1):
        progress(f"learning from scratch to convergence, part {number} of {len(chunks)}")
        found.append(_until_converged(fixed.learner, initial, chunk))
    accuracies = [went.accuracies for went, _ in found if went.accuracies is not None]
    went = Adaptation(
        torch.cat([went.losses for went, _ in found], 1), torch.cat(accuracies, 1) if accuracies else None
    )
    row = by_step(went)[-1] | {"step": max(steps for _, steps in found)}
    return {"name": "from scratch, converged", "inner_lr": _SCRATCH_RATE, "by_step": [row]}


def _until_converged(learner: Learner, initial: dict[str, Tensor], tasks: Tasks) -> tuple[Adaptation, int]:
    """Adam on every task's own network; how it went from the first step to the last, and their number."""
    count = tasks.support_x.shape[0]
    own = {name: p.detach().expand(count, *p.shape).clone().requires_grad_() for name, p in initial.items()}
    weights = FastWeights.of_tasks(own)
    first = _measured(learner, weights, tasks)
    optimizer = torch.optim.Adam(list(own.values()), _SCRATCH_RATE, fused=True)
    before, steps = math.inf, 0
    for steps in range(1, _CONVERGED_STEPS + 1):
        losses = task_losses(learner.network(weights, tasks.support_x), tasks.support_y)
        found = torch.autograd.grad(losses.sum(), list(own.values()))
        for tensor, gradient in zip(own.values(), found, strict=True):
            tensor.grad = gradient
        optimizer.step()
        if steps % _LOOK_EVERY == 0:
            now = float(losses.detach().mean())
            if now > before * (1 - _IMPROVEMENT) or now < 1e-4:
                break
            before = now
    last = _measured(learner, weights, tasks)
    accuracies = None
    if first.accuracies is not None and last.accuracies is not None:
        accuracies = torch.cat((first.accuracies, last.accuracies))
    return Adaptation(torch.cat((first.losses, last.losses)), accuracies), steps


@torch.no_grad()
def _measured(learner: Learner, weights: FastWeights, tasks: Tasks) -> Adaptation:
    """How the queries go with ``weights``, as an adaptation of one row."""
    outputs = learner.network(weights, tasks.query_x)
    right = None if learner.classes is None else task_accuracies(outputs, tasks.query_y)[None]
    return Adaptation(task_losses(outputs, tasks.query_y)[None], right)


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over tasks."""
    deviation = float(values.std()) if len(values) > 1 else math.nan
    return float(values.mean()), _Z95 * deviation / math.sqrt(len(values))
