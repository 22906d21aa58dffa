"""What adaptation gains on held-out tasks, beside what one would do without meta-learning.

Two baselines learn from the same data with the same network. Joint training: one network for all tasks at
once, by the outer rate and the schedule that the run began with, then fine-tuned to each held-out task; it
saw the very tasks of meta-training, support and query rows. From scratch: new parameters for each held-out
task, given as many steps as the others, and given all the time it takes. Gradient steps take their size from
a grid, by what it gives on meta-training tasks; to convergence Adam takes steps of 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trainers.adaptation import Adaptation, InnerLoop, adapt, task_accuracies, task_losses
from trainers.fast_weights import FastWeights
from trainers.few_shot import Learner
from trainers.intervals import mean_and_interval
from trainers.learners import Network
from trainers.randomness import torch_generator
from trainers.settings import LiveSettings, annealed_rate
from trainers.tasks import Options, Tasks, TaskSource

RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Step sizes among which the baselines choose."""
_CHOOSING_TASKS = 100
_MOST_STEPS, _LOOK_EVERY = 10_000, 100
_IMPROVEMENT, _PATIENCE, _LEARNED = 0.01, 10, 1e-4
"""Converged: ten looks at the support loss without one that is 1 % lower, or a loss of next to nothing."""
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
    run's meta-training did, and has the run's shots. ``methods`` are rows with ``name``, rates as
    :meth:`~trainers.adaptation.InnerLoop.rates_in_force` has them and ``by_step``: ``step``, and of loss and
    accuracy mean, half-width of its 95 % interval, median, and for accuracy the mean of the worst 5 % of
    tasks; ``diverged`` counts tasks. The last method has ``converged``, whether it was before the cap.
    ``progress`` hears what is being done. Raises :class:`~trainers.trainer.TrainingError` for a distribution
    that can't be had.
    """
    setup, h = learner.setup, learner.hyperparameters
    device = next(iter(learner.parameters.values())).device
    begun = Options(h.ways, h.shots, h.query_shots, setup.data if data is None else data, setup.seed)
    options = replace(begun, shots=shots or h.shots)
    training = TaskSource(setup.task, options)
    held_out = TaskSource(setup.task, replace(options, held_out=True))
    generator = torch_generator(setup.seed if seed is None else seed, "meta-test")
    fixed = _Fixed(
        learner,
        training.sample_tasks(_CHOOSING_TASKS, torch_generator(setup.seed, "choosing")).to(device),
        held_out.sample_tasks(tasks, generator).to(device),
        steps,
    )
    progress(f"adapting to {tasks} held-out task{'' if tasks == 1 else 's'}")
    loop = learner.loop(steps)
    went = adapt(loop, learner.parameters, fixed.held_out)
    methods = [{"name": setup.variant, **loop.rates_in_force(), "by_step": by_step(went)}]
    if baselines:
        count = learner.iteration if baseline_iterations is None else baseline_iterations
        joint = train_jointly(learner, TaskSource(setup.task, begun), count, progress)
        progress("fine-tuning to the held-out tasks")
        alike = InnerLoop(learner.network, steps, RATES[0])
        methods.append(_fine_tuned("joint training, fine-tuned", lambda: alike, joint, fixed))
        progress("learning from scratch")
        methods.append(_fine_tuned("from scratch", lambda: _fresh_loop(learner, steps), joint, fixed))
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
    setup, settings = learner.setup, LiveSettings(replace(learner.begun), annealed_rate(learner.begun))
    count = learner.hyperparameters.meta_batch_size
    device = next(iter(learner.parameters.values())).device
    initial = learner.network.initial(torch_generator(setup.seed, "baseline"))
    parameters = {name: tensor.to(device).requires_grad_() for name, tensor in initial.items()}
    optimizer = torch.optim.Adam(list(parameters.values()), fused=True)
    generator = torch_generator(setup.seed, "tasks")
    for done in range(iterations):
        if done % _SAID_EVERY == 0:
            progress(f"joint training, {done} of {iterations} iterations")
        settings.advance(done)
        optimizer.param_groups[0]["lr"] = settings.values.outer_lr
        batch = tasks.sample_tasks(count, generator).to(device)
        x, y = torch.cat((batch.support_x, batch.query_x), 1), torch.cat((batch.support_y, batch.query_y), 1)
        weights = FastWeights(parameters, count, adapted=())
        loss = task_losses(learner.network(weights, x), y).mean()
        found = torch.autograd.grad(loss, list(parameters.values()))
        for parameter, gradient in zip(parameters.values(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return parameters


@dataclass
class _FromScratch(InnerLoop):
    """Begins with new parameters for each task, whatever they are given."""

    generator: torch.Generator = field(default_factory=torch.Generator)

    def begin(self, parameters: dict[str, Tensor], tasks: Tasks) -> FastWeights:
        device, count = tasks.support_x.device, tasks.support_x.shape[0]
        return FastWeights.of_tasks(_fresh(self.network, self.generator, count, device))


def _fresh_loop(learner: Learner, steps: int) -> InnerLoop:
    """Learning from scratch, each time from the same parameters."""
    generator = torch_generator(learner.setup.seed, "from scratch")
    return _FromScratch(learner.network, steps, RATES[0], generator=generator)


def _fresh(
    network: Network, generator: torch.Generator, count: int, device: torch.device
) -> dict[str, Tensor]:
    """New parameters for each of ``count`` tasks, [count, *shape]."""
    drawn = [network.initial(generator) for _ in range(count)]
    return {name: torch.stack([one[name] for one in drawn]).to(device).requires_grad_() for name in drawn[0]}


def _fine_tuned(
    name: str, loop: Callable[[], InnerLoop], parameters: dict[str, Tensor], fixed: _Fixed
) -> dict[str, Any]:
    """Adapted by gradient steps of ``loop()``, of the rate that ends best on meta-training tasks."""

    def ends(rate: float) -> float:
        loss = float(adapt(replace(loop(), rates=rate), parameters, fixed.choosing).losses[-1].mean())
        return loss if math.isfinite(loss) else math.inf

    chosen = replace(loop(), rates=min(RATES, key=ends))
    went = adapt(chosen, parameters, fixed.held_out)
    return {"name": name, **chosen.rates_in_force(), "by_step": by_step(went)}


def _converged(fixed: _Fixed, progress: Callable[[str], None]) -> dict[str, Any]:
    """A network for each held-out task, trained on its support rows until that stops to help."""
    network, generator = fixed.learner.network, torch_generator(fixed.learner.setup.seed, "from scratch")
    size = sum(tensor.numel() for tensor in fixed.learner.parameters.values())
    at_once = max(_SCRATCH_FLOATS // size, 1)
    chunks = [Tasks(*chunk) for chunk in zip(*(torch.split(p, at_once) for p in fixed.held_out), strict=True)]
    parts, steps, converged = [], 0, True
    for number, chunk in enumerate(chunks, 1):
        progress(f"learning from scratch to convergence, part {number} of {len(chunks)}")
        own = _fresh(network, generator, chunk.support_x.shape[0], chunk.support_x.device)
        before = _measured(fixed.learner, own, chunk)
        taken, done = _until_converged(network, own, chunk)
        parts.append((before, _measured(fixed.learner, own, chunk)))
        steps, converged = max(steps, taken), converged and done
    row = by_step(_joined(parts))[-1] | {"step": steps}
    return {
        "name": "from scratch, to convergence",
        "inner_lr": _SCRATCH_RATE,
        "converged": converged,
        "by_step": [row],
    }


def _until_converged(network: Network, own: dict[str, Tensor], tasks: Tasks) -> tuple[int, bool]:
    """Adam on every task's own parameters, in place; its steps, and whether it converged within the cap."""
    weights = FastWeights.of_tasks(own)
    optimizer = torch.optim.Adam(list(own.values()), _SCRATCH_RATE, fused=True)
    best, waited = math.inf, 0
    for steps in range(1, _MOST_STEPS + 1):
        losses = task_losses(network(weights, tasks.support_x), tasks.support_y)
        found = torch.autograd.grad(losses.sum(), list(own.values()))
        for tensor, gradient in zip(own.values(), found, strict=True):
            tensor.grad = gradient
        optimizer.step()
        if steps % _LOOK_EVERY == 0:
            now = float(losses.detach().mean())
            waited = 0 if now < best * (1 - _IMPROVEMENT) else waited + 1
            best = min(best, now)
            if best < _LEARNED or waited == _PATIENCE:
                return steps, True
    return _MOST_STEPS, False


@torch.no_grad()
def _measured(learner: Learner, own: dict[str, Tensor], tasks: Tasks) -> Adaptation:
    """How the queries go with parameters of every task's own, as an adaptation of one row."""
    outputs = learner.network(FastWeights.of_tasks(own), tasks.query_x)
    right = None if learner.classes is None else task_accuracies(outputs, tasks.query_y)[None]
    return Adaptation(task_losses(outputs, tasks.query_y)[None], right)


def _joined(parts: list[tuple[Adaptation, Adaptation]]) -> Adaptation:
    """One adaptation of two rows, from before and after of parts of the tasks."""
    ends = [[one[end] for one in parts] for end in range(2)]
    losses = [torch.cat([part.losses for part in end], 1) for end in ends]
    accuracies = [[part.accuracies for part in end if part.accuracies is not None] for end in ends]
    return Adaptation(
        torch.cat(losses), torch.cat([torch.cat(end, 1) for end in accuracies]) if accuracies[0] else None
    )
