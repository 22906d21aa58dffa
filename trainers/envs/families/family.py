"""What a family of environments is: tasks × trajectories that step side by side.

Every rollout begins with :meth:`Family.reset`, so a family carries nothing from one iteration to the next
but its settings: what a run needs to go on exactly is the generator that tasks and episodes are drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trainers.spaces import ActionSpec, BoxSpec

FamilyTasks = Tensor | Sequence[Any]
"""n tasks, taken apart by index or slice: rows [n, parameters], or what a person's class drew."""


class Transition(NamedTuple):
    """One step of n tasks × K trajectories.

    An episode that has ended stays where it ended: reward 0, its last observation again, and its flags
    stay set. The collector gives such rows weight 0.
    """

    observations: Tensor
    """[n, K, *shape], float32"""
    rewards: Tensor
    """[n, K], float32"""
    terminated: Tensor
    """[n, K], bool: ended by the environment's own rule"""
    truncated: Tensor
    """[n, K], bool: ended by a time limit; at ``horizon`` all that have not terminated"""


class Family(Protocol):
    """A distribution of environments with common spaces."""

    observation: BoxSpec
    action: ActionSpec
    horizon: int
    """Steps after which an episode is truncated."""
    kind: str
    """How it runs: ``batched`` (one tensor), ``sync`` (in this process) or ``async`` (processes)."""

    def sample_tasks(self, count: int, generator: torch.Generator) -> FamilyTasks:
        """Draw ``count`` tasks; ``generator`` is on the CPU."""

    def reset(self, tasks: FamilyTasks, trajectories: int, generator: torch.Generator) -> Tensor:
        """Begin ``trajectories`` episodes of each of the n tasks: first observations [n, K, *shape]."""

    def step(self, actions: Tensor) -> Transition:
        """One step of all. ``actions`` [n, K, *action] as drawn from a policy head (choices counted from 0,
        Box actions not clipped). Raises what an environment raises."""

    def describe(self, task: Any) -> dict[str, float]:
        """One of the tasks in numbers with names, for pictures and for people."""

    def close(self) -> None:
        """Release processes."""
