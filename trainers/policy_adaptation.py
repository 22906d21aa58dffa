"""Adapting a policy to tasks by gradient steps on its own trajectories, with derivatives of every order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainers.envs.families.family import Family, FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLPPOHyperparameters
from trainers.intervals import student_quantile
from trainers.meta_policies import MetaPolicy
from trainers.trajectories import Generators, Trajectories, collect

_NOT_BY_CHANCE = 0.9999
"""Of a task's return that falls no further."""
_ROUNDING = 1e-5


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

    ``diverged_tasks`` counts those of :func:`diverged`, ``explained_variance`` is NaN where returns are
    constant. Everything is read from the device at once.
    """
    lost = diverged(sampled[0].returns, sampled[-1].returns.mean(1))
    parts = [data.returns.mean() for data in sampled]
    steps = torch.stack([data.steps for data in sampled]).sum()
    parts += [lost.sum(), steps, sampled[-1].explained_variance]
    names = [f"return_step_{step}" for step in range(len(sampled))]
    names += ["diverged_tasks", "steps", "explained_variance"]
    found = dict(zip(names, torch.stack([part.double() for part in parts]).tolist(), strict=True))
    pre, post = found["return_step_0"], found[f"return_step_{len(sampled) - 1}"]
    return {"return_pre": pre, "return_post": post, "adaptation_gain": post - pre, **found}


def diverged(before: Tensor, after: Tensor) -> Tensor:
    """Which tasks have diverged, bool [*steps, n], by returns ``before`` adapting [n, K] and means ``after``.

    Those whose mean return is not finite, or fell by more than two trajectories from before differ by chance
    in all but 1 of 10,000 cases, which is at least 5 of their standard deviations: the larger of the task's
    own and of all tasks'. Of one trajectory each, only tasks tell how returns vary; where nothing does, only
    what is not finite has diverged.
    """
    lost, rows = ~after.isfinite(), before if before.shape[1] > 1 else before.T
    freedom = rows.shape[0] * (rows.shape[1] - 1)
    if not freedom:
        return lost
    variances = rows.var(1)
    deviations = torch.maximum(variances, variances.nanmean()).sqrt()
    most = math.sqrt(2) * student_quantile(_NOT_BY_CHANCE, freedom) * deviations
    # Where nothing varies rounding must not count.
    return lost | (after < before.mean(1) - most - _ROUNDING * before.abs().amax(1))
