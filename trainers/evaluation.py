"""Playing the greedy policy in environments of its own, so that measuring never changes training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trainers.envs.making import available_cores, make_environments
from trainers.hyperparameters import PPOSetup
from trainers.policies import Policy
from trainers.trainer import Array

SIDE_BY_SIDE = 128
LONGEST_EPISODE = 30_000
"""Steps after which an episode that does not end counts as it stands."""


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted raw returns and lengths of the episodes played, each [episodes]."""

    returns: Array
    lengths: Array

    def metrics(self) -> dict[str, float]:
        return {
            "eval/return_mean": float(self.returns.mean()),
            "eval/return_std": float(self.returns.std()),
        }


class Evaluator:
    """Environments kept for evaluations of ``episodes`` episodes, all of which begin alike.

    ``kind`` is how they run side by side, by default as ``setup.vector`` says; a training's evaluations
    take what was decided for it.

    Every evaluation plays from the same seed, so two of them differ by the policy alone, and none
    depends on those before it.
    """

    def __init__(self, setup: PPOSetup, episodes: int, seed: int, *, kind: str | None = None) -> None:
        self.episodes, self.seed = episodes, seed
        self.environments = make_environments(
            setup, min(episodes, SIDE_BY_SIDE), seed, kind=kind, most_processes=2 * available_cores()
        )

    @torch.no_grad()
    def __call__(self, policy: Policy, *, deterministic: bool = True) -> Evaluation:
        """Play with the most probable actions of ``policy``, or with actions drawn from it."""
        count = self.environments.num_envs
        # Each environment plays a number settled beforehand, so that short episodes are not favoured.
        quota = self.episodes // count + (np.arange(count) < self.episodes % count)
        device = next(policy.parameters()).device
        generator = torch.Generator(device).manual_seed(self.seed)
        observations, ended = self.environments.reset(), np.zeros(count, bool)
        returns, lengths = np.zeros(count), np.zeros(count)
        played: list[tuple[float, float]] = []
        while quota.any():
            rows = torch.from_numpy(observations).to(device, policy.stored_dtype)
            actions = policy.greedy(rows) if deterministic else policy.act(rows, generator)
            step = self.environments.step(policy.head.shaped(actions))
            returns += step.rewards
            lengths += ~ended
            observations, ended = step.observations, step.terminated | step.truncated
            over = ended | (lengths >= LONGEST_EPISODE)
            if over.any():
                counted = over & (quota > 0)
                played += zip(returns[counted].tolist(), lengths[counted].tolist(), strict=True)
                quota -= counted
                returns[over], lengths[over] = 0, 0
        results = np.array(played)
        return Evaluation(results[:, 0], results[:, 1])

    def close(self) -> None:
        self.environments.close()


def evaluate(
    policy: Policy,
    setup: PPOSetup,
    episodes: int,
    seed: int,
    *,
    kind: str | None = None,
    deterministic: bool = True,
) -> Evaluation:
    """Play ``episodes`` episodes once, with the policy's normaliser frozen; see :class:`Evaluator`."""
    evaluator = Evaluator(setup, episodes, seed, kind=kind)
    try:
        return evaluator(policy, deterministic=deterministic)
    finally:
        evaluator.close()
