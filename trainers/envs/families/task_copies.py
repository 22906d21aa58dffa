"""Copies of one Gymnasium environment, each with a task, in the process that they live in (without torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from trainers.envs.replay import Array, EnvironmentFault, ReplayableEnv
from trainers.envs.single import EnvironmentMaker
from trainers.envs.spaces import one_line


class TaskCopies(gymnasium.Env[Any, Any]):
    """Of rows 0, 1, 2, … the copies for ``first``, ``first + stride``, …: one process's share.

    It is an environment only in name, so that vector environments carry it to a process and call it there.
    Copies are made when a rollout first needs them, and kept.
    """

    def __init__(self, maker: EnvironmentMaker, first: int, stride: int) -> None:
        self._maker, self._first, self._stride = maker, first, stride
        self._copies = [self._copy(first)]
        self.observation_space = self._copies[0].observation_space
        self.action_space = self._copies[0].action_space

    def begin(self, tasks: Sequence[Any], trajectories: int, seeds: Sequence[int]) -> tuple[Array]:
        """Begin ``trajectories`` episodes of each task, row by row, with a seed for each row.

        First observations of this share [rows, *shape], float32. Raises :class:`EnvironmentFault`.
        """
        rows = range(self._first, len(seeds), self._stride)
        while len(self._copies) < len(rows):
            self._copies.append(self._copy(rows[len(self._copies)]))
        shape = self.observation_space.shape or ()
        self._observations = np.zeros((len(rows), *shape), np.float32)
        self._terminated, self._truncated = np.zeros((2, len(rows)), np.bool_)
        for place, row in enumerate(rows):
            copy = self._copies[place]
            set_task(self._maker.env, copy, tasks[row // trajectories], row)
            self._observations[place] = copy.reset(seed=seeds[row])[0]
        return (self._observations,)

    def advance(self, actions: Array) -> tuple[Array, Array, Array, Array]:
        """One step of the episodes that have not ended, with ``actions`` of all rows.

        Observations, rewards, terminated and truncated of this share. Raises :class:`EnvironmentFault`.
        """
        rewards = np.zeros(len(self._observations), np.float32)
        for place in np.flatnonzero(~(self._terminated | self._truncated)):
            action = actions[self._first + place * self._stride]
            observation, reward, terminated, truncated, _ = self._copies[place].step(action)
            self._observations[place], rewards[place] = observation, reward
            self._terminated[place], self._truncated[place] = terminated, truncated
        return self._observations, rewards, self._terminated, self._truncated

    def close(self) -> None:
        """Close the copies."""
        for copy in self._copies:
            copy.close()

    def _copy(self, row: int) -> ReplayableEnv:
        return replace(self._maker, index=row)()


def set_task(env: str, copy: ReplayableEnv, task: Any, row: int) -> None:
    """Let ``copy`` number ``row`` of ``env`` become ``task``. Raises :class:`EnvironmentFault`."""
    try:
        copy.get_wrapper_attr("set_task")(task)
    except Exception as error:
        raise EnvironmentFault(
            f"env = {env}: environment {row} raised {type(error).__name__} in "
            f"set_task({one_line(repr(task))}): {one_line(error)}"
        ) from error


@dataclass(frozen=True)
class TaskCopiesMaker:
    """Makes the copies of one process, there."""

    maker: EnvironmentMaker
    first: int
    stride: int

    def __call__(self) -> TaskCopies:
        return TaskCopies(self.maker, self.first, self.stride)
