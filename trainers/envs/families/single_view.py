"""One environment of a batched family, as Gymnasium's own programs know environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from trainers.envs.families import make_family
from trainers.envs.families.batched import BatchedFamily
from trainers.spaces import ActionSpec, DiscreteSpec
from trainers.trainer import Array, TrainingError


class SingleEnvironment(gymnasium.Env[Array, Any]):
    """An environment that becomes another task of the family ``env`` at each reset.

    The task is drawn, or given as ``reset(options={"task": row})``, and described in that reset's infos.
    PPO trains on the mixture of tasks with ``--env trainers.envs.families.single_view:SingleEnvironment
    --env-arg env=navigation``.
    """

    def __init__(self, env: str, **arguments: Any) -> None:
        """``arguments`` are the family's. Raises :class:`TrainingError` for one that isn't batched."""
        family = make_family(env, arguments, device=torch.device("cpu"))
        if not isinstance(family, BatchedFamily):
            family.close()
            raise TrainingError(f"env = {env}: it is a Gymnasium environment by itself")
        self._family = family
        self.observation_space = _space(family.observation)
        self.action_space = _space(family.action)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode of a new task."""
        super().reset(seed=seed)
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**63)))
        tasks = self._family.sample_tasks(1, generator)
        assert isinstance(tasks, Tensor)
        if options and "task" in options:
            tasks = torch.as_tensor(options["task"], dtype=tasks.dtype).reshape(tasks.shape)
        observations = self._family.reset(tasks, 1, generator)
        return observations[0, 0].numpy().copy(), self._family.describe(tasks[0])

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        observations, rewards, terminated, truncated = self._family.step(
            torch.as_tensor(action).reshape(1, 1, -1)
        )
        return observations[0, 0].numpy().copy(), rewards.item(), bool(terminated), bool(truncated), {}


def _space(spec: ActionSpec) -> spaces.Space[Any]:
    if isinstance(spec, DiscreteSpec):
        return spaces.Discrete(spec.sizes[0], start=spec.starts[0])
    low, high = (
        np.broadcast_to(np.array(bounds, spec.dtype).reshape(-1), spec.shape).copy()
        for bounds in (spec.low, spec.high)
    )
    return spaces.Box(low, high, spec.shape, np.dtype(spec.dtype).type)
