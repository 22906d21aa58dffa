"""Trajectories of many tasks at once: sampled under each task's own weights, with their advantages."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from trainers.advantages import generalized_advantages, normalized
from trainers.distributions import Distribution
from trainers.envs.families.family import Family, FamilyTasks
from trainers.fast_weights import FastWeights
from trainers.linear_baseline import fitted_values
from trainers.meta_policies import MetaPolicy

_CHECKED_EVERY = 10
_ROUNDING = 1e-10
"""Of a mean square of float32 numbers, relative."""


class Generators(NamedTuple):
    """What is drawn from: ``tasks`` and first states on the CPU, ``actions`` on the policy's device."""

    tasks: torch.Generator
    actions: torch.Generator


@dataclass(frozen=True)
class Trajectories:
    """K trajectories of each of n tasks, T steps long, on the policy's device.

    Rows after an episode's end have share and reward 0. ``distribution`` is the one that the actions were
    drawn from and ``log_probs`` theirs under it: the denominator of every likelihood ratio.
    """

    observations: Tensor
    """[n, T, K, *shape]"""
    actions: Tensor
    """[n, T, K, *action], as drawn"""
    rewards: Tensor
    """[n, T, K]"""
    shares: Tensor
    """[n, T, K]: what each row counts for; they sum to 1 for each task"""
    distribution: Distribution
    log_probs: Tensor
    """[n, T, K]"""
    advantages: Tensor
    """[n, T, K]"""
    explained_variance: Tensor
    """[]: of the returns within each task, by the baseline; NaN where they are constant"""
    seconds: float = 0.0
    """What it took to sample them."""

    @property
    def returns(self) -> Tensor:
        """Undiscounted, of each trajectory, [n, K]."""
        return self.rewards.sum(1)

    @property
    def steps(self) -> Tensor:
        """Environment steps taken, []."""
        return (self.shares > 0).sum()


@torch.no_grad()
def collect(
    family: Family,
    policy: MetaPolicy,
    weights: FastWeights,
    tasks: FamilyTasks,
    trajectories: int,
    *,
    gamma: float,
    gae_lambda: float,
    generators: Generators,
) -> Trajectories:
    """Sample ``trajectories`` of each task, from a fresh reset to the end, under ``weights``.

    Rewards of a task whose weights are not finite are NaN. Raises what the environments raise.
    """
    began = perf_counter()
    steps: list[tuple[Tensor, ...]] = []
    observations = family.reset(tasks, trajectories, generators.tasks)
    ended = torch.zeros(observations.shape[:2], dtype=torch.bool, device=observations.device)
    for step in range(family.horizon):
        # Asking costs a wait for the device.
        if step % _CHECKED_EVERY == 0 and bool(ended.all()):
            break
        outputs = policy.outputs(weights, observations)
        chosen = policy.distribution(weights, outputs).sample(generators.actions)
        transition = family.step(chosen.nan_to_num(0.0) if chosen.is_floating_point() else chosen)
        before, ended = ended, transition.terminated | transition.truncated
        steps.append((observations, outputs, chosen, transition.rewards, ~before, ended))
        observations = transition.observations
    seen, outputs, taken, rewards, going, done = (torch.stack(rows, 1) for rows in zip(*steps, strict=True))
    rewards = torch.where(outputs.isfinite().all(-1), rewards, torch.nan)
    shares = going / going.sum((1, 2), keepdim=True)
    advantages, explained = _advantages(seen.flatten(3), rewards, shares, done, gamma, gae_lambda)
    distribution = policy.distribution(weights, outputs)
    log_probs, _ = distribution.evaluate(taken)
    return Trajectories(
        seen,
        taken,
        rewards,
        shares,
        distribution,
        log_probs,
        advantages,
        explained,
        perf_counter() - began,
    )


@torch.no_grad()
def blank(
    policy: MetaPolicy, weights: FastWeights, steps: int, trajectories: int, device: torch.device
) -> Trajectories:
    """Trajectories of ``weights.tasks`` tasks in which nothing is seen and nothing gained."""
    shape = (weights.tasks, steps, trajectories)
    observations, nothing = (
        torch.zeros(*shape, *policy.observation.shape, device=device),
        torch.zeros(shape, device=device),
    )
    distribution = policy(weights, observations)
    actions = distribution.mode()
    shares = torch.full_like(nothing, 1 / (steps * trajectories))
    log_probs, _ = distribution.evaluate(actions)
    return Trajectories(
        observations, actions, nothing, shares, distribution, log_probs, nothing, nothing.sum()
    )


def _advantages(
    observations: Tensor, rewards: Tensor, shares: Tensor, done: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages [n, T, K] to mean 0 and deviation 1 for each task; the baseline's explained variance.

    The baseline knows the time, so that a time limit is an end like any other: the value after it is 0.
    """
    # Time first: [T, n, K].
    rewards, done, weights = (rows.transpose(0, 1) for rows in (rewards, done.to(rewards), shares))
    nothing = torch.zeros_like(rewards[:1])
    returns = generalized_advantages(rewards, nothing.expand(len(rewards) + 1, -1, -1), done, done, gamma, 1)
    values = fitted_values(observations.transpose(0, 1), returns, weights)
    advantages = generalized_advantages(
        rewards, torch.cat((values, nothing)), done, done, gamma, gae_lambda
    ).transpose(0, 1)
    in_rows = torch.vmap(normalized)(advantages.flatten(1), shares.flatten(1)).view_as(advantages)
    return in_rows, _explained(returns, values, weights)


def _explained(returns: Tensor, values: Tensor, shares: Tensor) -> Tensor:
    """1 − Var[return − value] ⁄ Var[return], []; NaN where returns differ by no more than rounding."""
    variance = _variance(returns, shares)
    explained = 1 - _variance(returns - values, shares) / variance
    size = (shares * returns.square()).sum((0, 2)).mean()
    return torch.where(variance > _ROUNDING * size, explained, torch.nan)


def _variance(rows: Tensor, shares: Tensor) -> Tensor:
    """Of ``rows`` [T, n, K] within each task, mean over tasks."""
    means = (shares * rows).sum((0, 2), keepdim=True)
    return (shares * (rows - means).square()).sum((0, 2)).mean()
