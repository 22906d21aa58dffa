"""What adaptation gains on held-out tasks of reinforcement learning, beside doing without meta-learning.

Two baselines have the same network and get the same trajectories of every task. Joint training: plain PPO on
all tasks at once, for as many environment steps as the run took, fine-tuned to each held-out task. From
scratch: a new policy, which begins alike for every held-out task. Both take their steps by plain policy
gradients or by PPO's epochs with Adam: for every number of steps that kind and rate which, on tasks of
training, return most by the lower end of the mean's 95 % interval.
All methods see the same tasks and first states, so that their differences are paired over tasks. There is
one run, one joint training and one beginning from scratch: intervals are over tasks, and say nothing of how
another seed of training would have done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainers.envs.families.family import Family, FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.few_trajectories import MetaLearned
from trainers.intervals import mean_and_interval
from trainers.linear_baseline import fitting_bytes
from trainers.maml_ppo import MAMLPPO
from trainers.policy_adaptation import adapt, diverged, held_out_rates
from trainers.randomness import seed_for, torch_generator
from trainers.settings import annealed_rate
from trainers.surrogate import clipped_surrogate
from trainers.trainer import TrainingError
from trainers.trajectories import Trajectories, collect

JOINT, SCRATCH = "plain PPO on all tasks, fine-tuned", "PPO from scratch"
_GRADIENT_RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_FEWEST_TO_CHOOSE = 10
_BYTES_AT_ONCE = 250_000_000
_COPIES = 4
"""Of the numbers that a task adapts: parameters, gradients and Adam's two moments."""
_PPO_RATES, _PPO_EPOCHS = (0.001, 0.003, 0.01, 0.03), (5, 20)


class Update(NamedTuple):
    """How a policy takes a step on a task's trajectories: ``epochs`` of PPO with Adam, or one of plain
    policy gradient where there are none."""

    rate: float
    epochs: int = 0

    def __str__(self) -> str:
        kind = f"PPO, {self.epochs} epochs of Adam" if self.epochs else "policy gradient"
        return f"{kind}, rate {self.rate:g}"


UPDATES = (
    *(Update(rate) for rate in _GRADIENT_RATES),
    *(Update(rate, epochs) for epochs in _PPO_EPOCHS for rate in _PPO_RATES),
)
"""Those among which the baselines choose."""


@dataclass(frozen=True)
class _Fixed:
    """What all methods are measured with."""

    learned: MetaLearned
    family: Family
    choosing: FamilyTasks
    held_out: FamilyTasks
    steps: int
    seed: int
    progress: Callable[[str], None]


@dataclass(frozen=True)
class _Method:
    """``returns`` [steps + 1, n] and ``diverged``, likewise, after updates that are named for each step.

    ``fault`` says what went wrong before, in training.
    """

    name: str
    returns: Tensor
    diverged: Tensor
    updates: list[str]
    fault: str | None = None


def evaluate_meta_policy(
    learned: MetaLearned,
    *,
    tasks: int = 40,
    steps: int = 3,
    seed: int | None = None,
    baselines: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Returns on ``tasks`` held-out tasks by number of steps of adaptation, as JSON values.

    ``seed`` draws other held-out tasks. ``methods`` are rows with ``name`` and ``by_step``: ``step``, the
    ``update`` before it, of the return mean, half-width of its 95 % interval over tasks and median, and how
    many tasks ``diverged``, see :func:`~trainers.policy_adaptation.diverged`; joint training whose updates
    were skipped has a ``fault``. ``differences`` are what the first method, the run's, is ahead of each other
    one and of itself before adapting, after each step: mean over tasks and half-width of its 95 % interval.
    ``progress`` hears what is being done. Many tasks are played in parts, each with random numbers of its
    own, whose size follows from the run's settings, never from the machine. The baselines take two to four
    times as long as the run did. Raises :class:`~trainers.trainer.TrainingError` where there are no
    environments to play in, or joint training met what they can't go on from.
    """
    setup, h = learned.setup, learned.hyperparameters
    seed = setup.seed if seed is None else seed
    family = learned.family()
    try:
        fixed = _Fixed(
            learned,
            family,
            family.sample_tasks(max(tasks, _FEWEST_TO_CHOOSE), torch_generator(setup.seed, "choosing")),
            family.sample_tasks(tasks, torch_generator(seed, "meta-test")),
            steps,
            seed,
            progress,
        )
        methods = [_run_itself(fixed)]
        if baselines:
            joint, fault = train_jointly(learned, progress)
            methods.append(replace(_fine_tuned(JOINT, joint, fixed), fault=fault))
            scratch = learned.policy.initial(torch_generator(setup.seed, "baseline"))
            methods.append(_fine_tuned(SCRATCH, _leaves(scratch, learned.device), fixed))
    finally:
        family.close()
    own, *others = methods
    before = replace(own, name="before adapting", returns=own.returns[:1].expand_as(own.returns))
    return {
        "task": setup.env,
        "iteration": learned.iteration,
        "environment_steps": learned.steps,
        "tasks": tasks,
        "trajectories_per_task": h.trajectories_per_task,
        "steps": steps,
        "seed": seed,
        "methods": [
            {"name": method.name, "by_step": _by_step(method)}
            | ({"fault": method.fault} if method.fault else {})
            for method in methods
        ],
        "differences": [_difference(own, method) for method in (before, *others)],
    }


def train_jointly(
    learned: MetaLearned, progress: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, Tensor], str | None]:
    """Plain PPO on all tasks alike for as many environment steps as the run took.

    It is MAML-PPO without inner steps, begun as the run was but for the seed; the outer rate goes down by
    the share of the environment steps taken, since its iterations are more, and as short as its episodes.
    Its parameters, and why updates were skipped, if some were. ``progress`` hears how far it is and how long
    it will take. Raises :class:`~trainers.trainer.TrainingError` when an iteration can't be sampled.
    """
    begun, device = learned.begun, str(learned.device)
    setup = replace(learned.setup, seed=seed_for(learned.setup.seed, "baseline"), device=device)
    joint = MAMLPPO(setup, replace(begun, inner_steps=0, anneal="none", eval_every=None, picture_every=None))
    faults: list[str] = []
    began, done = perf_counter(), 0
    try:
        while done < learned.steps:
            for name, schedule in annealed_rate(begun).items():
                setattr(joint.settings.values, name, schedule.at(learned.iteration * done // learned.steps))
            iteration = joint.step()
            if iteration.fault:
                faults.append(f"iteration {iteration.number}: {iteration.fault}")
            done = int(iteration.metrics["time/steps"])
            left = max((perf_counter() - began) * (learned.steps / done - 1), 0.0)
            progress(f"plain PPO on all tasks, {min(done / learned.steps, 1):.0%}, about {left:.0f} s left")
    except TrainingError as error:
        raise TrainingError(f"{JOINT}: {error}; evaluate without baselines") from error
    finally:
        joint.close()
    skipped = f"{len(faults)} of {joint.iteration} updates were skipped, the first in " if faults else ""
    return joint.parameters, skipped + faults[0] if faults else None


def fine_tune(
    learned: MetaLearned,
    parameters: dict[str, Tensor],
    family: Family,
    tasks: FamilyTasks,
    update: Update,
    steps: int,
    seed: int,
) -> list[Trajectories]:
    """Trajectories of ``tasks`` before, between and after ``steps`` of ``update``, each task by itself."""
    h, policy, generators = learned.hyperparameters, learned.policy, learned.generators("meta-test", seed)
    if not update.epochs:
        rates, ratio = [update.rate] * steps, learned.setup.inner_ratio
        return adapt(policy, parameters, family, tasks, rates, h, generators, inner_ratio=ratio)
    own = {name: p.detach().expand(len(tasks), *p.shape) for name, p in parameters.items()}
    own = _leaves(own, learned.device)
    weights, optimizer = FastWeights.of_tasks(own), torch.optim.Adam(list(own.values()), update.rate)
    sampled: list[Trajectories] = []
    for step in range(steps + 1):
        data = collect(
            family,
            policy,
            weights,
            tasks,
            h.trajectories_per_task,
            gamma=h.gamma,
            gae_lambda=h.gae_lambda,
            generators=generators,
        )
        sampled.append(data)
        for _ in range(update.epochs if step < steps else 0):
            log_probs, _ = policy(weights, data.observations).evaluate(data.actions)
            # Shares sum to 1 for each task, and Adam moves every number by itself: tasks do not meet.
            loss = clipped_surrogate(
                log_probs, data.log_probs, data.advantages, data.shares, h.clip_epsilon
            ).loss
            gradients = torch.autograd.grad(loss, list(own.values()))
            for tensor, gradient in zip(own.values(), gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
    return sampled


def _run_itself(fixed: _Fixed) -> _Method:
    learned, h = fixed.learned, fixed.learned.hyperparameters
    count = len(fixed.held_out)
    fixed.progress(f"adapting to {count} held-out task{'' if count == 1 else 's'}")
    rates = held_out_rates(h, fixed.steps)

    def adapted(tasks: FamilyTasks, seed: int) -> list[Trajectories]:
        generators, ratio = learned.generators("meta-test", seed), learned.setup.inner_ratio
        return adapt(
            learned.policy,
            learned.parameters,
            fixed.family,
            tasks,
            rates,
            h,
            generators,
            inner_ratio=ratio,
        )

    returns = _in_parts(adapted, fixed, fixed.held_out, fixed.seed)
    return _method(learned.setup.variant, returns, [str(Update(rate)) for rate in rates])


def _fine_tuned(name: str, parameters: dict[str, Tensor], fixed: _Fixed) -> _Method:
    """``parameters`` fine-tuned, for each number of steps by what returns most on tasks of training."""

    def tuned(tasks: FamilyTasks, update: Update, seed: int) -> Tensor:
        def part(some: FamilyTasks, seed: int) -> list[Trajectories]:
            return fine_tune(fixed.learned, parameters, fixed.family, some, update, fixed.steps, seed)

        return _in_parts(part, fixed, tasks, seed)

    scores = []
    for number, update in enumerate(UPDATES):
        fixed.progress(f"{name}: choosing among updates, {number} of {len(UPDATES)} tried")
        returns = tuned(fixed.choosing, update, seed_for(fixed.seed, "choosing"))
        scores.append([_safely_expected(row.mean(1)) for row in returns])
    best = torch.tensor(scores).argmax(0).tolist()[1:]
    fixed.progress(f"{name}: held-out tasks")
    went = {at: tuned(fixed.held_out, UPDATES[at], fixed.seed) for at in sorted({*best})}
    first = went[best[0]] if best else tuned(fixed.held_out, UPDATES[0], fixed.seed)
    returns = torch.stack([first[0], *(went[at][step] for step, at in enumerate(best, 1))])
    return _method(name, returns, [str(UPDATES[at]) for at in best])


def _in_parts(
    play: Callable[[FamilyTasks, int], list[Trajectories]], fixed: _Fixed, tasks: FamilyTasks, seed: int
) -> Tensor:
    """Returns [steps + 1, n, K] of what ``play`` samples of so many of the ``tasks`` at once as memory
    holds, with ``seed`` for the first of these parts and others for the rest."""
    h, policy = fixed.learned.hyperparameters, fixed.learned.policy
    rows = h.trajectories_per_task * fixed.family.horizon
    adapted = _COPIES * sum(tensor.nbytes for tensor in fixed.learned.parameters.values())
    seen = 4 * rows * (policy.observation.size + sum(h.hidden_sizes))
    at_once = max(_BYTES_AT_ONCE // (seen + adapted + fitting_bytes(rows, policy.observation.size)), 1)
    parts = []
    for first in range(0, len(tasks), at_once):
        sampled = play(tasks[first : first + at_once], seed_for(seed, "part", first) if first else seed)
        parts.append(torch.stack([data.returns for data in sampled]))
    return torch.cat(parts, 1)


def _safely_expected(returns: Tensor) -> float:
    """The lower end of the mean's 95 % interval: a rate that now and then ruins a task is no good one."""
    mean, half = mean_and_interval(returns)
    return mean - half if math.isfinite(mean - half) else -math.inf


def _method(name: str, returns: Tensor, updates: list[str]) -> _Method:
    """From ``returns`` [steps + 1, n, K]."""
    returns = returns.double().cpu()
    means = returns.mean(2)
    return _Method(name, means, diverged(returns[0], means), updates)


def _by_step(method: _Method) -> list[dict[str, Any]]:
    rows = []
    for step, (returns, lost) in enumerate(zip(method.returns, method.diverged, strict=True)):
        mean, half = mean_and_interval(returns)
        rows.append(
            {
                "step": step,
                "update": method.updates[step - 1] if step else None,
                "return": mean,
                "return_ci95": half,
                "return_median": float(returns.nanmedian()),
                "diverged": int(lost.sum()),
            }
        )
    return rows


def _difference(own: _Method, other: _Method) -> dict[str, Any]:
    rows = []
    for step, ahead in enumerate(own.returns - other.returns):
        mean, half = mean_and_interval(ahead)
        rows.append({"step": step, "difference": mean, "difference_ci95": half})
    return {"name": other.name, "by_step": rows}


def _leaves(parameters: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().to(device).requires_grad_() for name, tensor in parameters.items()}
