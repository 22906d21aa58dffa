"""2-D navigation of the MAML paper (Finn et al. 2017, arXiv:1703.03400, section 5.3)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.envs.families.batched import BatchedFamily
from trainers.spaces import BoxSpec
from trainers.trainer import TrainingError

REWARDS = ("distance", "squared-distance")

_STEP, _SIDE, _NEAR = 0.1, 0.5, 0.01


class Navigation(BatchedFamily):
    """A point in the plane starts at the origin and is to reach a goal that it does not see.

    From the paper's own code (github.com/cbfinn/maml_rl, ``maml_examples/point_env_randgoal.py`` and
    ``maml_trpo_point.py``): goals are uniform in [−0.5, 0.5]², the observation is the point's place, an
    episode ends within 0.01 of the goal in both coordinates or after 100 steps. An action of ±1 moves by
    ±0.1 in each coordinate, and larger ones no further: the code wraps a bound of ±0.1 in rllab's
    ``normalize``, which scales it to ±1.

    ``reward`` is ``distance``, −‖place − goal‖₂ after the step, as in the code, whose returns the paper
    reports; or ``squared-distance``, −‖place − goal‖₂², as in the paper's text.
    """

    def __init__(self, device: torch.device, reward: str = "distance") -> None:
        """Raises :class:`TrainingError` for a reward that is not known."""
        super().__init__(device)
        if reward not in REWARDS:
            raise TrainingError(f"env_arg = reward={reward}: must be one of {', '.join(REWARDS)}")
        self.horizon = 100
        self.observation = BoxSpec((2,), "float32", (-math.inf,), (math.inf,))
        self.action = BoxSpec((2,), "float32", (-1.0,), (1.0,))
        self._squared = reward == "squared-distance"

    def sample_tasks(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` goals [n, 2]."""
        return torch.rand(count, 2, generator=generator) * (2 * _SIDE) - _SIDE

    def describe(self, task: Any) -> dict[str, float]:
        """The goal."""
        x, y = task.tolist()
        return {"goal_x": x, "goal_y": y}

    def _set_tasks(self, tasks: Tensor) -> None:
        self._goals = tasks.unsqueeze(1)

    def _first_states(self, count: int, trajectories: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(count, trajectories, 2)

    def _advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = torch.add(state, actions.clamp(-1, 1), alpha=_STEP)
        offsets = (state - self._goals).abs()
        distances = offsets.square().sum(-1)
        rewards = -(distances if self._squared else distances.sqrt())
        return state, rewards, offsets.amax(-1) < _NEAR
