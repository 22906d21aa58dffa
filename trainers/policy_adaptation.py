"""Adapting a policy to tasks by gradient steps on its own trajectories, with derivatives of every order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainers.envs.families.family import Family, FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLPPOHyperparameters
from trainers.meta_policies import MetaPolicy
from trainers.trajectories import Generators, Trajectories, collect


def inner_losses(log_probs: Tensor, data: Trajectories, inner_ratio: str) -> Tensor:
    """−E[ρ A] of each task, [n], for ``log_probs`` [n, T, K] of its actions under the weights to adapt."""
    log_ratio = (log_probs - data.log_probs) * (data.shares > 0)
    ratio = log_ratio.exp()
    if inner_ratio == "cumulative":
        until = log_ratio.cumsum(1)
        ratio = until.exp() - (until - log_ratio).exp()
    return -(data.shares * ratio * data.advantages).sum((1, 2))


def descend(
    policy: MetaPolicy,
    weights: FastWeights,
    data: Trajectories,
    rate: float,
    *,
    inner_ratio: str,
    second_order: bool,
) -> tuple[FastWeights, Tensor]:
    """One inner step on ``data``: the weights after it, and KL(π_old ‖ π) of the ones before it, []."""
    distribution = policy(weights, data.observations)
    divergence = (data.shares * data.distribution.divergence(distribution)).sum() / len(data.shares)
    losses = inner_losses(distribution.evaluate(data.actions)[0], data, inner_ratio)
    after, _ = weights.descend(losses, rate, second_order=second_order)
    return after, divergence


def adapt(
    policy: MetaPolicy,
    parameters: Mapping[str, Tensor],
    family: Family,
    tasks: FamilyTasks,
    rates: Sequence[float],
    h: MAMLPPOHyperparameters,
    generators: Generators,
    *,
    inner_ratio: str = "per-step",
) -> list[Trajectories]:
    """Trajectories of ``tasks`` before, between and after inner steps with these ``rates``.

    There is one set more than ``rates``; of ``h`` the trajectories per task and the advantages are used.
    Nothing of it can be differentiated.
    """
    weights = FastWeights(parameters, len(tasks))
    sampled: list[Trajectories] = []
    for rate in (*rates, None):
        data = collect(
            family,
            policy,
            weights if sampled else FastWeights(parameters, len(tasks), adapted=()),
            tasks,
            h.trajectories_per_task,
            gamma=h.gamma,
            gae_lambda=h.gae_lambda,
            generators=generators,
        )
        sampled.append(data)
        if rate is not None:
            weights, _ = descend(policy, weights, data, rate, inner_ratio=inner_ratio, second_order=False)
    return sampled


def held_out_rates(h: MAMLPPOHyperparameters, steps: int | None = None) -> list[float]:
    """The step sizes on held-out tasks, one for each of ``steps``, by default ``eval_inner_steps``."""
    late = h.inner_lr if h.eval_inner_lr is None else h.eval_inner_lr
    count = h.eval_inner_steps if steps is None else steps
    return [h.inner_lr if step < max(h.inner_steps, 1) else late for step in range(count)]


def measurements(sampled: Sequence[Trajectories]) -> dict[str, float]:
    """What is reported of tasks, from before the first inner step to after the last.

    A task has diverged when its mean return after adapting is NaN or below the lowest of its trajectories
    before. ``explained_variance`` is NaN where returns are constant. Everything is read from the device at
    once.
    """
    first, last = sampled[0].returns, sampled[-1].returns
    diverged = ~(last.mean(1) >= first.amin(1))
    parts = [data.returns.mean() for data in sampled]
    steps = torch.stack([data.steps for data in sampled]).sum()
    parts += [diverged.sum(), steps, sampled[-1].explained_variance]
    names = [f"return_step_{step}" for step in range(len(sampled))]
    names += ["diverged_tasks", "steps", "explained_variance"]
    found = dict(zip(names, torch.stack([part.double() for part in parts]).tolist(), strict=True))
    pre, post = found["return_step_0"], found[f"return_step_{len(sampled) - 1}"]
    return {"return_pre": pre, "return_post": post, "adaptation_gain": post - pre, **found}
