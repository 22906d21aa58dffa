"""Collecting experience: environments stepped side by side under the policy, and the episodes they end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.envs.vectors import Environments
from trainers.policies import Policy
from trainers.trainer import Array

EPISODES_REPORTED = 100
"""Returns and lengths are means over this many of the newest episodes."""


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, on the policy's device.

    ``observations`` [T + 1, N, …] as the environments gave them, the last row still without an action;
    ``actions`` [T, N, …] as drawn; ``rewards`` (raw), ``terminated``, ``done`` (terminated or truncated)
    and ``weights``, NumPy [T, N].

    Environments reset on the step after an episode's end: the row after a done one shows the episode's
    final observation, its action went nowhere, and its weight is 0; every other row's is 1.
    """

    observations: Tensor
    actions: Tensor
    rewards: Array
    terminated: Array
    done: Array
    weights: Array

    @property
    def steps(self) -> int:
        """Environment steps taken; rows of weight 0 are none."""
        return int(self.weights.sum())


class Collector:
    """Steps ``environments`` and remembers where they stand between rollouts.

    Its buffers are used again: a :class:`Rollout` is good until the next one is collected.
    """

    def __init__(self, environments: Environments, policy: Policy, steps: int, device: torch.device) -> None:
        self.environments, self.policy = environments, policy
        count, shape = environments.num_envs, policy.observation.shape
        self.observations = torch.zeros(steps + 1, count, *shape, dtype=policy.stored_dtype, device=device)
        self.actions = torch.zeros(steps, count, *policy.head.shape, dtype=policy.head.dtype, device=device)
        self._rows, self._actions_rows = self.observations.unbind(), self.actions.unbind()
        # To another device one copy a step, from page-locked memory where that makes it faster.
        self._arrived = None if device.type == "cpu" else torch.zeros_like(self._rows[0], device="cpu")
        self._arrays = [row.numpy() for row in self._rows] if device.type == "cpu" else []
        self._actions_arrays = [row.numpy() for row in self._actions_rows] if device.type == "cpu" else []
        if device.type == "cuda" and self._arrived is not None:
            self._arrived = self._arrived.pin_memory()
        self.rewards = np.zeros((steps, count))
        self.terminated = np.zeros((steps, count), np.bool_)
        self.truncated = np.zeros((steps, count), np.bool_)
        self.weights = np.zeros((steps, count), np.float32)
        self.episodes = Episodes(count)
        environments.reset()

    @torch.no_grad()
    def collect(self, generator: torch.Generator) -> Rollout:
        """Act for the rollout's length. Raises what the environments raise."""
        latest, steps = self.environments.latest, len(self.rewards)
        self.weights[0] = ~(latest.terminated | latest.truncated)
        # All at once: on the way every small draw would cost as much.
        noise = self.policy.head.noise(steps, self.environments.num_envs, generator)
        act = self._act if self.policy.perceptrons is None else self._act_by_hand
        for t in range(steps):
            self._observe(t, latest.observations)
            latest = self.environments.step(self.policy.head.shaped(act(t, noise[t])))
            self.rewards[t] = latest.rewards
            self.terminated[t], self.truncated[t] = latest.terminated, latest.truncated
        done = (self.terminated | self.truncated).astype(np.float32)
        self.weights[1:] = 1 - done[:-1]
        self.episodes.add(self.rewards, self.weights, done)
        self._observe(steps, latest.observations)
        terminated = self.terminated.astype(np.float32)
        return Rollout(self.observations, self.actions, self.rewards, terminated, done, self.weights)

    def _observe(self, t: int, observations: Array) -> None:
        if self._arrived is None:
            self._arrays[t][...] = observations
        else:
            self._arrived.numpy()[...] = observations
            self._rows[t].copy_(self._arrived, non_blocking=True)

    def _act(self, t: int, noise: Tensor) -> Tensor:
        return self._actions_rows[t].copy_(self.policy.act_by(self._rows[t], noise))

    def _act_by_hand(self, t: int, noise: Tensor) -> Array:
        actions = self._actions_arrays[t]
        actions[...] = self.policy.act_by_hand(self._arrays[t], noise.numpy())
        return actions

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Where environments and running episodes stand, as arrays and JSON values."""
        tensors, numbers = self.environments.state()
        tensors = {f"environments.{name}": array for name, array in tensors.items()}
        for name in ("returns", "lengths"):
            tensors[f"episodes.{name}"] = getattr(self.episodes, name).copy()
        return tensors, {"environments": numbers, "episodes": self.episodes.numbers()}

    def restore(self, tensors: Mapping[str, Array], numbers: Mapping[str, Any]) -> str | None:
        """Go on from ``state()``; why the environments may not go on exactly, or ``None``."""
        prefix = "environments."
        own = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        reason = self.environments.restore(own, numbers["environments"])
        returns, lengths = (self.going_on(tensors[f"episodes.{name}"]) for name in ("returns", "lengths"))
        self.episodes.restore(returns, lengths, numbers["episodes"])
        return reason

    def going_on(self, sums: Array) -> Array:
        """Sums [N] over the episodes of a restored state, 0 where the environment began a new one."""
        continued = self.environments.continued
        if len(sums) != len(continued):
            return np.zeros(len(continued))
        zeroed: Array = np.where(continued, sums, 0.0)
        return zeroed


class Episodes:
    """Returns and lengths of the running episodes, and of the newest 100 that ended."""

    def __init__(self, num_envs: int) -> None:
        self.returns: Array = np.zeros(num_envs)
        self.lengths: Array = np.zeros(num_envs)
        self.last_returns: deque[float] = deque(maxlen=EPISODES_REPORTED)
        self.last_lengths: deque[float] = deque(maxlen=EPISODES_REPORTED)
        self.count = 0
        self.ended_now: list[float] = []

    def add(self, rewards: Array, weights: Array, done: Array) -> None:
        """Take in a rollout, all [T, N]; rows of weight 0 have reward 0 and no length."""
        self.ended_now.clear()
        began = 0
        for t in np.flatnonzero(done.any(1)).tolist():
            self._sum(rewards[began : t + 1], weights[began : t + 1])
            ended, began = done[t] > 0, t + 1
            self.last_returns.extend(self.returns[ended].tolist())
            self.last_lengths.extend(self.lengths[ended].tolist())
            self.ended_now.extend(self.returns[ended].tolist())
            self.count += int(ended.sum())
            self.returns[ended] = 0
            self.lengths[ended] = 0
        self._sum(rewards[began:], weights[began:])

    def _sum(self, rewards: Array, weights: Array) -> None:
        self.returns += rewards.sum(0)
        self.lengths += weights.sum(0)

    @property
    def mean(self) -> float | None:
        """Mean return over the last 100 episodes; ``None`` until 100 have ended."""
        return _mean(self.last_returns) if len(self.last_returns) == EPISODES_REPORTED else None

    def metrics(self) -> dict[str, float]:
        values = {"rollout/episodes": float(self.count)}
        if self.last_returns:
            values["rollout/ep_rew_mean"] = _mean(self.last_returns)
            values["rollout/ep_len_mean"] = _mean(self.last_lengths)
        if self.ended_now:
            values["rollout/ep_rew_min"] = min(self.ended_now)
            values["rollout/ep_rew_max"] = max(self.ended_now)
        return values

    def numbers(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the two arrays of running episodes, as JSON values."""
        return {"count": self.count, "returns": list(self.last_returns), "lengths": list(self.last_lengths)}

    def restore(self, returns: Array, lengths: Array, numbers: Mapping[str, Any]) -> None:
        """Go on from ``numbers()`` and the running episodes' returns and lengths."""
        self.returns, self.lengths = returns, lengths
        self.last_returns = deque(numbers["returns"], maxlen=EPISODES_REPORTED)
        self.last_lengths = deque(numbers["lengths"], maxlen=EPISODES_REPORTED)
        self.count = numbers["count"]


def _mean(numbers: deque[float]) -> float:
    return math.fsum(numbers) / len(numbers)
