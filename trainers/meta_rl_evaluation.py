"""What adaptation gains on held-out tasks of reinforcement learning, beside doing without meta-learning.

Two baselines have the same network and get the same trajectories of every task. Joint training: plain PPO on
all tasks at once, for as many environment steps as the run took, fine-tuned to each held-out task. From
scratch: a new policy for each held-out task. Both take their steps by plain policy gradients or by PPO's
epochs with Adam: for every number of steps that kind and rate which, on tasks of training, return most by
the lower end of the mean's 95 % interval.
All methods see the same tasks and first states, so that their differences are paired over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainers.envs.families.family import Family, FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.few_trajectories import MetaLearned
from trainers.maml_ppo import MAMLPPO
from trainers.meta_evaluation import mean_and_interval
from trainers.policy_adaptation import adapt, held_out_rates
from trainers.randomness import seed_for, torch_generator
from trainers.surrogate import clipped_surrogate
from trainers.trajectories import Trajectories, collect

JOINT, SCRATCH = "plain PPO on all tasks, fine-tuned", "PPO from scratch"
_GRADIENT_RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_FEWEST_TO_CHOOSE = 10
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
    """``returns`` [steps + 1, n] and ``diverged``, likewise, after updates that are named for each step."""

    name: str
    returns: Tensor
    diverged: Tensor
    updates: list[str]


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
    many tasks ``diverged``: their mean return is NaN, or below the lowest of their trajectories before.
    ``differences`` are what the first method, the run's, is ahead of each other one and of itself before
    adapting, after each step: mean over tasks and half-width of its 95 % interval. ``progress`` hears what
    is being done. Joint training takes about as long as the run did. Raises
    :class:`~trainers.trainer.TrainingError` where there are no environments to play in.
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
            methods.append(_fine_tuned(JOINT, train_jointly(learned, progress), fixed))
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
        "methods": [{"name": method.name, "by_step": _by_step(method)} for method in methods],
        "differences": [_difference(own, method) for method in (before, *others)],
    }


def train_jointly(
    learned: MetaLearned, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Tensor]:
    """Plain PPO on all tasks alike for as many environment steps as the run took: its parameters.

    It is MAML-PPO without inner steps, begun as the run was but for the seed. ``progress`` hears how far
    it is and how long it will take.
    """
    begun, setup = learned.begun, learned.setup
    h = replace(
        begun,
        inner_steps=0,
        # As many trajectories are spent on more iterations; the schedule covers them all.
        iterations=max(learned.iteration, 1) * (begun.inner_steps + 1),
        anneal_iterations=begun.anneal_iterations and begun.anneal_iterations * (begun.inner_steps + 1),
        eval_every=None,
        picture_every=None,
    )
    device = str(learned.device)
    joint = MAMLPPO(replace(setup, seed=seed_for(setup.seed, "baseline"), device=device), h)
    began, done = perf_counter(), 0
    try:
        while done < learned.steps:
            done = int(joint.step().metrics["time/steps"])
            left = max((perf_counter() - began) * (learned.steps / done - 1), 0.0)
            progress(f"plain PPO on all tasks, {min(done / learned.steps, 1):.0%}, about {left:.0f} s left")
    finally:
        joint.close()
    return joint.parameters


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
    fixed.progress(f"adapting to {len(fixed.held_out)} held-out tasks")
    rates = held_out_rates(h, fixed.steps)
    sampled = adapt(
        learned.policy,
        learned.parameters,
        fixed.family,
        fixed.held_out,
        rates,
        h,
        learned.generators("meta-test", fixed.seed),
        inner_ratio=learned.setup.inner_ratio,
    )
    return _method(learned.setup.variant, sampled, [str(Update(rate)) for rate in rates])


def _fine_tuned(name: str, parameters: dict[str, Tensor], fixed: _Fixed) -> _Method:
    """``parameters`` fine-tuned, for each number of steps by what returns most on tasks of training."""

    def tuned(tasks: FamilyTasks, update: Update, seed: int) -> list[Trajectories]:
        return fine_tune(fixed.learned, parameters, fixed.family, tasks, update, fixed.steps, seed)

    scores = []
    for number, update in enumerate(UPDATES):
        fixed.progress(f"{name}: choosing among updates, {number} of {len(UPDATES)} tried")
        sampled = tuned(fixed.choosing, update, seed_for(fixed.seed, "choosing"))
        scores.append([_safely_expected(data.returns.mean(1)) for data in sampled])
    best = torch.tensor(scores).argmax(0).tolist()[1:]
    fixed.progress(f"{name}: held-out tasks")
    went = {at: tuned(fixed.held_out, UPDATES[at], fixed.seed) for at in sorted({*best})}
    first = went[best[0]] if best else tuned(fixed.held_out, UPDATES[0], fixed.seed)
    sampled = [first[0], *(went[at][step] for step, at in enumerate(best, 1))]
    return _method(name, sampled, [str(UPDATES[at]) for at in best])


def _safely_expected(returns: Tensor) -> float:
    """The lower end of the mean's 95 % interval: a rate that now and then ruins a task is no good one."""
    mean, half = mean_and_interval(returns)
    return mean - half if math.isfinite(mean - half) else -math.inf


def _method(name: str, sampled: Sequence[Trajectories], updates: list[str]) -> _Method:
    returns = torch.stack([data.returns.mean(1) for data in sampled]).double().cpu()
    lowest = sampled[0].returns.amin(1).cpu()
    return _Method(name, returns, ~(returns >= lowest), updates)


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
