"""Families whose tasks × trajectories step as one tensor, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.envs.families.family import FamilyTasks, Transition
from trainers.spaces import ActionSpec, BoxSpec


class BatchedFamily:
    """What such families share: episodes that end stay where they ended, and all are cut at ``horizon``.

    The observation is the state as float32. Tasks [n, parameters] and first states are drawn on the CPU
    and travel to ``device`` once, at reset; a step makes no copy between devices. Nothing is checked
    there: from an action that is NaN come observations and rewards that are.

    A subclass says what a task and an episode begin with, and how a state goes on.
    """

    kind = "batched"
    observation: BoxSpec
    action: ActionSpec
    horizon: int

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reset(self, tasks: FamilyTasks, trajectories: int, generator: torch.Generator) -> Tensor:
        """Begin ``trajectories`` episodes of each task; first observations [n, K, *shape]."""
        assert isinstance(tasks, Tensor)
        self._set_tasks(tasks.to(self.device))
        self._state = self._first_states(len(tasks), trajectories, generator).to(self.device)
        nothing = torch.zeros(len(tasks), trajectories, device=self.device)
        self._no_reward, self._none = nothing, nothing.bool()
        self._terminated = self._none
        self._steps = 0
        return self._state.float()

    def step(self, actions: Tensor) -> Transition:
        """One step of all; see :class:`~trainers.envs.families.family.Family`."""
        ended = self._terminated
        if self._steps == self.horizon:
            return Transition(self._state.float(), self._no_reward, ended, ~ended)
        self._steps += 1
        state, rewards, terminated = self._advance(self._state, actions)
        self._state = torch.where(ended.unsqueeze(-1), self._state, state)
        self._terminated = ended | terminated
        truncated = self._none if self._steps < self.horizon else ~self._terminated
        return Transition(self._state.float(), rewards.masked_fill(ended, 0), self._terminated, truncated)

    def close(self) -> None:
        """There is nothing to release."""

    def _set_tasks(self, tasks: Tensor) -> None:
        """Keep what :meth:`_advance` needs of ``tasks`` [n, parameters], each as [n, 1, …]."""
        raise NotImplementedError

    def _first_states(self, count: int, trajectories: int, generator: torch.Generator) -> Tensor:
        """Draw [n, K, size] on the CPU."""
        raise NotImplementedError

    def _advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next states [n, K, size], float32 rewards [n, K] and whether each episode terminates [n, K]."""
        raise NotImplementedError
