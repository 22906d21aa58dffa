"""Model-agnostic meta-learning (Finn et al. 2017, arXiv:1703.03400) and its variants.

    repeat until iterations:
        sample n tasks, each with support rows (x, y) and query rows (x*, y*)
        θ′ = θ for every task
        repeat inner_steps times, for all tasks at once:
            θ′ ← θ′ − α ∇θ′ loss(θ′; x, y)
        meta-gradient g = ∇θ mean over tasks of loss(θ′; x*, y*), through the steps above
        scale g down to max_grad_norm; one step of Adam on θ with rate β

    fomaml   takes ∇θ′ loss for a constant, so that g is the mean query gradient at θ′
    anil     adapts only the last layer (Raghu et al. 2020, arXiv:1909.09157)
    reptile  g = mean of (θ − θ′) ⁄ α, without query rows (Nichol et al. 2018, arXiv:1803.02999)
    metasgd  α is a parameter of its own for each weight, learned like θ (Li et al. 2017, arXiv:1707.09835)

Two options of MAML++ (Antoniou et al. 2019, arXiv:1810.09502): until iteration ``first_order_until`` any
variant takes inner gradients for constants, and until ``multi_step_until`` the query losses after all
steps count, with weights that move to the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from trainers.adaptation import (
    Adaptation,
    InnerLoop,
    adapt,
    make_loop,
    task_accuracies,
    task_losses,
)
from trainers.arrays import adam_arrays, leaf, restore_adam, to_array
from trainers.declarations import InvalidValue, Value, declarations
from trainers.devices import find_device, use_threads
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup
from trainers.learners import make_network
from trainers.memory import Memory, check_memory, check_network
from trainers.pictures import Illustrator
from trainers.randomness import restore_torch, seed_for, torch_generator, torch_state
from trainers.settings import LiveSettings, annealed_rate, check_changes
from trainers.tasks import Options, Tasks, TaskSource
from trainers.trainer import Iteration, Progress, State, TrainingError

RATE = "inner_lr."
"""What the names of learned inner rates begin with."""
_SAMPLED = ("shots", "query_shots")
_FIRST_ORDER = ("fomaml", "reptile")
_MEMORY = (
    "meta_batch_size", "eval_tasks", "inner_steps", "first_order_until", "multi_step_until", "iterations",
    *_SAMPLED,
)  # fmt: skip


@dataclass
class MetaGradient:
    """The meta-gradient by parameter (inner rates prefixed ``inner_lr.``), and how the tasks went."""

    gradients: dict[str, Tensor]
    adaptation: Adaptation


def meta_gradient(
    loop: InnerLoop,
    parameters: dict[str, Tensor],
    tasks: Tasks,
    *,
    variant: str = "maml",
    first_order: bool = False,
    step_weights: tuple[float, ...] | None = None,
) -> MetaGradient:
    """The gradient of the mean query loss with respect to what is learned.

    ``step_weights`` weigh the query losses after 1 … ``loop.steps`` steps (default: the last alone).
    """
    reptile = variant == "reptile"
    second_order = not (first_order or variant in _FIRST_ORDER)
    weights = start = loop.begin(parameters, tasks)
    step_weights = step_weights or (*[0.0] * (loop.steps - 1), 1.0)
    losses, accuracies, objective = [], [], torch.zeros(())
    for step, weight in enumerate((0.0, *step_weights)):
        if step:
            weights, _ = loop.descend(weights, tasks, step - 1, second_order=second_order)
        with torch.set_grad_enabled(weight > 0 and not reptile):
            outputs = loop.query_outputs(weights, tasks)
            queries = task_losses(outputs, tasks.query_y)
        if weight and not reptile:
            objective = objective.to(queries) + weight * queries.mean()
        losses.append(queries.detach())
        if not tasks.query_y.is_floating_point():
            accuracies.append(task_accuracies(outputs.detach(), tasks.query_y))
    measured = Adaptation(torch.stack(losses), torch.stack(accuracies) if accuracies else None)

    if reptile:
        assert isinstance(loop.rates, float)
        with torch.no_grad():
            moved = {name: start.parameter(name) - weights.parameter(name) for name in parameters}
            return MetaGradient({name: m.mean(0) / loop.rates for name, m in moved.items()}, measured)
    learned = dict(parameters)
    if isinstance(loop.rates, Mapping):
        learned |= {RATE + name: rate for name, rate in loop.rates.items()}
    found = torch.autograd.grad(objective, list(learned.values()))
    return MetaGradient(dict(zip(learned, found, strict=True)), measured)


class MAML:
    """MAML as an iterator; see :class:`trainers.trainer.Trainer` for the interface."""

    def __init__(self, setup: MAMLSetup, hyperparameters: MAMLHyperparameters) -> None:
        self.setup = setup
        self.device = find_device(setup.device)
        use_threads(setup.threads)
        # A copy: schedules and changes write into it.
        self.begun, h = hyperparameters, replace(hyperparameters)
        self.settings = LiveSettings(h, annealed_rate(h))
        self._use(*self._sources(h))
        if self.training_tasks.classes is None and h.ways != declarations(type(h))["ways"].default:
            raise TrainingError(
                f"ways = {h.ways}: task = {setup.task} is regression, which has no classes; leave it out"
            )
        self.network = make_network(h, self.training_tasks.shape, self.training_tasks.outputs)
        check_network(self.network, h, self.device)
        initial = self.network.initial(torch_generator(setup.seed, "initialisation"))
        self.parameters = {name: leaf(tensor.to(self.device)) for name, tensor in initial.items()}
        self.rates: dict[str, Tensor] = {}
        if setup.variant == "metasgd":
            self.rates = {name: leaf(torch.full_like(p, h.inner_lr)) for name, p in self.parameters.items()}
        self.optimizer = torch.optim.Adam(list(self._learned.values()), h.outer_lr, fused=True)
        self.generator = torch_generator(setup.seed, "tasks")
        self._iteration = 0
        self.memory = self._checked_memory(self.training_tasks, h)

    # -- one iteration ------------------------------------------------------------------------------------

    def step(self) -> Iteration:
        """One batch of tasks and the update on it. Raises :class:`TrainingError` for tasks that are not."""
        began = perf_counter()
        self.settings.advance(self._iteration)
        h = self.settings.values
        tasks = self.training_tasks.sample_tasks(h.meta_batch_size, self.generator).to(self.device)
        sampled = perf_counter()
        self._iteration += 1

        found = meta_gradient(
            self.inner_loop(),
            self.parameters,
            tasks,
            variant=self.setup.variant,
            first_order=self._first_order(self._iteration),
            step_weights=_step_weights(h, self._iteration),
        )
        norm = torch.nn.utils.get_total_norm(found.gradients.values())
        measured = measurements(found.adaptation, norm)
        metrics = {f"meta/{name}": value for name, value in measured.items()}
        fault = _fault(metrics)
        if fault is None:
            self._update(found.gradients, metrics["meta/outer_grad_norm"])
        metrics |= {"meta/inner_lr": self._mean_rate(), "meta/outer_lr": h.outer_lr}
        learned = perf_counter()

        if h.eval_every and (self._iteration % h.eval_every == 0 or self.finished):
            metrics |= self._held_out()
        pictures: tuple[dict[str, Any], ...] = ()
        if h.picture_every and (self._iteration == 1 or self._iteration % h.picture_every == 0):
            pictures = self.illustrator(self.inner_loop(evaluating=True), self.parameters)
        seconds = perf_counter() - began
        metrics |= {
            "time/iterations_per_second": 1 / seconds,
            "time/iteration_seconds": seconds,
            "time/sample_seconds": sampled - began,
            "time/learn_seconds": learned - sampled,
        }
        return Iteration(self._iteration, metrics, fault, pictures=pictures)

    def inner_loop(self, *, evaluating: bool = False) -> InnerLoop:
        """The adaptation as the settings in force have it, in training or on held-out tasks."""
        h = self.settings.values
        return make_loop(self.network, h, self.setup.variant, self.rates, evaluating=evaluating)

    def _first_order(self, iteration: int) -> bool:
        return self.setup.variant in _FIRST_ORDER or iteration <= self.settings.values.first_order_until

    def _checked_memory(self, tasks: TaskSource, h: MAMLHyperparameters) -> Memory:
        """The estimate for the costliest iteration to come. Raises :class:`TrainingError`."""
        tasks.check_count(max(h.meta_batch_size, h.eval_tasks))
        # As many samples as the real steps have, so that layers choose to hold their changes as they will.
        rank = h.inner_steps * tasks.support_rows
        several_count = h.multi_step_until is not None and h.multi_step_until > self._iteration

        def probe(sample: Tasks, steps: int, first_order: bool) -> None:
            meta_gradient(
                replace(self.inner_loop(), steps=steps, rank=rank),
                self.parameters,
                sample,
                variant=self.setup.variant,
                first_order=first_order,
                step_weights=(1.0,) * steps if several_count else None,
            )

        first_order = self.setup.variant in _FIRST_ORDER or h.first_order_until >= h.iterations
        return check_memory(probe, self.parameters, tasks, h, first_order)

    @torch.no_grad()
    def _update(self, gradients: Mapping[str, Tensor], norm: float) -> None:
        h = self.settings.values
        if h.max_grad_norm is not None and norm > h.max_grad_norm:
            torch._foreach_mul_(list(gradients.values()), h.max_grad_norm / (norm + 1e-6))
        for name, parameter in self._learned.items():
            parameter.grad = gradients[name]
        for group in self.optimizer.param_groups:
            group["lr"] = h.outer_lr
        self.optimizer.step()

    def _held_out(self) -> dict[str, float]:
        """How the tasks of every measurement, which are the same, go with the parameters in force."""
        generator = torch_generator(self.setup.seed, "evaluation")
        tasks = self.held_out_tasks.sample_tasks(self.settings.values.eval_tasks, generator).to(self.device)
        found = measurements(adapt(self.inner_loop(evaluating=True), self.parameters, tasks))
        return {f"meta_test/{name}": value for name, value in found.items()}

    def _mean_rate(self) -> float:
        if not self.rates:
            return self.settings.values.inner_lr
        return torch.cat([rate.detach().flatten() for rate in self.rates.values()]).mean().item()

    # -- the interface of a trainer -----------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self._iteration

    @property
    def progress(self) -> Progress:
        """Iterations done, of ``iterations``."""
        return Progress(self._iteration, self.settings.values.iterations, "iterations")

    @property
    def finished(self) -> str | None:
        """Why there is nothing left to do, or ``None``."""
        total = self.settings.values.iterations
        return f"trained for {self._iteration} iterations" if self._iteration >= total else None

    def change(self, changes: Mapping[str, Value], *, rebase: bool = False) -> dict[str, tuple[Value, Value]]:
        """Set hyperparameters from the next iteration on; Adam keeps its moments.

        ``inner_lr`` overwrites rates that Meta-SGD learned, whose mean is then the old value, and clears
        their moments.
        """
        self.settings.advance(self._iteration)  # so that old values are those due at the next iteration
        h = replace(self.settings.values, **check_changes(self.settings.values, changes))
        try:
            sources = self._sources(h) if changes.keys() & set(_SAMPLED) else None
            if sources:
                self._check_alike(*sources[:2])
            if changes.keys() & set(_MEMORY):
                self.memory = self._checked_memory(sources[0] if sources else self.training_tasks, h)
        except TrainingError as refusal:
            name = next(name for name in changes if name in _MEMORY)
            raise _refused(name, changes[name], refusal) from refusal
        learned = self._mean_rate()
        done = self.settings.change(changes, rebase=rebase)
        if sources:
            self._use(*sources)
        if "inner_lr" in changes:
            done["inner_lr"] = (learned, h.inner_lr)
            for rate in self.rates.values():
                rate.data.fill_(h.inner_lr)
                self.optimizer.state.pop(rate, None)
        return done

    def remarks(self) -> tuple[str, ...]:
        """The memory that an iteration is estimated to take, and what has to be known of the figures."""
        said = [self.memory.in_words()]
        if self.network.transductive:
            said.append("batch norm takes its statistics from the query rows: all figures are transductive")
        return tuple(said)

    def decisions(self) -> dict[str, Any]:
        """The threads in use."""
        return {"threads": self.setup.threads}

    def state(self) -> State:
        """All that it takes to go on bit for bit."""
        weights = {name: to_array(tensor) for name, tensor in self._learned.items()}
        numbers = {
            "iteration": self._iteration,
            "settings": self.settings.state(),
            "inputs": {
                "shape": list(self.training_tasks.shape),
                "classes": self.training_tasks.classes,
                "outputs": self.training_tasks.outputs,
            },
            "generators": {"tasks": torch_state(self.generator)},
        }
        return State(weights, adam_arrays(self.optimizer, self._learned), numbers)

    def restore(self, state: State) -> str | None:
        """Go on from ``state``; always exactly, as long as the distribution draws from its generator.

        Raises :class:`TrainingError` where memory has become too little.
        """
        built = self.settings.values
        self.settings.restore(state.numbers["settings"])
        h = self.settings.values
        self._use(*self._sources(h))
        self._iteration = state.numbers["iteration"]
        if any(getattr(h, name) != getattr(built, name) for name in _MEMORY):
            self.memory = self._checked_memory(self.training_tasks, h)
        restore_torch(self.generator, state.numbers["generators"]["tasks"])
        for name, parameter in self._learned.items():
            if name.startswith(RATE) and name not in state.weights:
                continue  # a fork that learns its rates begins with inner_lr
            parameter.data.copy_(torch.tensor(state.weights[name]))
        restore_adam(self.optimizer, self._learned, state.tensors)
        return None

    def close(self) -> None:
        """There is nothing to release."""

    @property
    def _learned(self) -> dict[str, Tensor]:
        """All that Adam moves, by the names of :class:`MetaGradient`."""
        return self.parameters | {RATE + name: rate for name, rate in self.rates.items()}

    def _sources(self, h: MAMLHyperparameters) -> tuple[TaskSource, TaskSource, Illustrator]:
        options = Options(h.ways, h.shots, h.query_shots, self.setup.data, self.setup.seed)
        held_out = replace(options, held_out=True)
        return (
            TaskSource(self.setup.task, options),
            TaskSource(self.setup.task, held_out),
            Illustrator(self.setup.task, held_out, seed_for(self.setup.seed, "pictures"), self.device),
        )

    def _check_alike(self, *sources: TaskSource) -> None:
        """Raises :class:`TrainingError` where the network was made for other inputs or outputs."""
        made_for = (list(self.training_tasks.shape), self.training_tasks.outputs)
        for source in sources:
            if (found := (list(source.shape), source.outputs)) != made_for:
                raise TrainingError(
                    f"task = {self.setup.task} then has inputs {found[0]} and {found[1]} outputs: must stay "
                    f"{made_for[0]} and {made_for[1]}, for which the network was made; start a new run"
                )

    def _use(self, training: TaskSource, held_out: TaskSource, illustrator: Illustrator) -> None:
        self.training_tasks, self.held_out_tasks, self.illustrator = training, held_out, illustrator


def measurements(went: Adaptation, outer_grad_norm: Tensor | None = None) -> dict[str, float]:
    """What is reported of tasks, from the step before the first to the last: means, and what they hide.

    Everything is read from the device at once.
    """
    losses, last = went.losses, went.losses[-1]
    names = [f"loss_step_{step}" for step in range(len(losses))]
    parts = [losses.mean(1), last.nanmedian()[None], went.diverged()[-1].sum()[None]]
    names += ["loss_post_median", "diverged_tasks"]
    if went.accuracies is not None:
        parts.append(went.accuracies[[0, -1]].mean(1))
        names += ["accuracy_pre", "accuracy_post"]
    if outer_grad_norm is not None:
        parts.append(outer_grad_norm[None])
        names.append("outer_grad_norm")
    found = dict(zip(names, torch.cat([part.to(last.dtype) for part in parts]).tolist(), strict=True))
    pre, post = found["loss_step_0"], found[f"loss_step_{len(losses) - 1}"]
    return {"loss_pre": pre, "loss_post": post, "adaptation_gain": pre - post, **found}


def _fault(metrics: Mapping[str, float]) -> str | None:
    """Why there is no update, in words; a NaN in any task reaches the gradient's norm."""
    norm = metrics["meta/outer_grad_norm"]
    if math.isfinite(norm):
        return None
    lost = int(metrics["meta/diverged_tasks"])
    todo = ""
    if not math.isfinite(metrics["meta/loss_pre"]):
        todo = "; the loss is not finite before adapting: look at the tasks' numbers"
    elif lost:
        todo = "; use a smaller inner_lr or outer_lr, or fewer inner_steps"
    return f"meta-gradient norm = {norm:g}, {lost} tasks diverged; the update was skipped{todo}"


def _step_weights(h: MAMLHyperparameters, iteration: int) -> tuple[float, ...] | None:
    """MAML++: equal weights at first, which move to the last step until ``multi_step_until``."""
    if h.multi_step_until is None or iteration > h.multi_step_until:
        return None
    share = (1 - (iteration - 1) / h.multi_step_until) / h.inner_steps
    return (*[share] * (h.inner_steps - 1), 1 - share * (h.inner_steps - 1))


def _refused(name: str, value: Value, refusal: TrainingError) -> InvalidValue:
    return InvalidValue(name, value, str(refusal).removeprefix(f"{name} = {value}: "))
