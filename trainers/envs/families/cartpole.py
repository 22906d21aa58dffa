"""CartPoles that differ: in masses, length and force, and in which way a push goes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainers.envs.families.batched import BatchedFamily
from trainers.spaces import BoxSpec, DiscreteSpec
from trainers.trainer import TrainingError

PARAMETERS = {"masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0}
"""A task's parameters under Gymnasium's names, in kg, kg, m (half the pole) and N, with its values."""

_GRAVITY, _SECONDS = 9.8, 0.02
_FARTHEST, _STEEPEST = 2.4, math.radians(12)
_FIRST = 0.05
_WIDEST = 10
"""Beyond it forces and masses move a cart so far in one step of Euler's that nothing can balance."""


class CartPoleFamily(BatchedFamily):
    """Gymnasium's CartPole (Barto, Sutton and Anderson 1983), its parameters drawn anew for every task.

    Each is Gymnasium's times a factor that is log-uniform in [1/``spread``, ``spread``]. In half of the
    tasks ``force_mag`` is negative, so that action 1 pushes to the left: a policy that serves all masses
    is soon found, but none serves both signs, and it takes some steps of a task to tell which it has.
    Of an even number of tasks drawn together exactly half are such; any one is with probability ½.

    Dynamics, first states, limits and reward (1 a step, the last one's too) are Gymnasium's, computed in
    float64 as there; an episode is cut after 200 steps.
    """

    def __init__(self, device: torch.device, spread: float = 2.0) -> None:
        """Raises :class:`TrainingError` for a spread that is not a number from 1 to 10."""
        super().__init__(device)
        if not isinstance(spread, int | float) or not 1 <= spread <= _WIDEST:
            raise TrainingError(f"env_arg = spread={spread}: must be a number from 1 to {_WIDEST}")
        self.spread = spread
        self.horizon = 200
        high = (2 * _FARTHEST, math.inf, 2 * _STEEPEST, math.inf)
        self.observation = BoxSpec((4,), "float32", tuple(-limit for limit in high), high)
        self.action = DiscreteSpec((2,), (0,), (), "int64")

    def sample_tasks(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` rows of :data:`PARAMETERS` [n, 4], float64."""
        exponents = 2 * torch.rand(count, len(PARAMETERS), dtype=torch.float64, generator=generator) - 1
        tasks = torch.tensor(list(PARAMETERS.values()), dtype=torch.float64) * self.spread**exponents
        # A coin says which half: otherwise one task drawn alone would always be of the same half.
        coin = torch.randint(2, (), generator=generator)
        flipped = (torch.randperm(count, generator=generator) + coin) % 2 == 1
        tasks[flipped, 3] *= -1
        return tasks

    def describe(self, task: Any) -> dict[str, float]:
        """The task's parameters."""
        return dict(zip(PARAMETERS, task.tolist(), strict=True))

    def _set_tasks(self, tasks: Tensor) -> None:
        masscart, masspole, length, force_mag = tasks.double().unsqueeze(1).unbind(-1)
        total_mass = masscart + masspole
        self._polemass_length = masspole * length / total_mass
        self._length = length * (4 / 3)
        self._force = force_mag / total_mass

    def _first_states(self, count: int, trajectories: int, generator: torch.Generator) -> Tensor:
        unit = torch.rand(count, trajectories, 4, dtype=torch.float64, generator=generator)
        return (2 * unit - 1) * _FIRST

    def _advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # coneural.org/florian/papers/05_cart_pole.pdf, equations 23 and 24 without friction; force and
        # polemass_length are divided by the total mass.
        _, x_dot, theta, theta_dot = state.unbind(-1)
        sin, cos = theta.sin(), theta.cos()
        pushes = (2 * actions.view(x_dot.shape) - 1) * self._force
        temp = pushes + self._polemass_length * theta_dot.square() * sin
        theta_acc = (_GRAVITY * sin - cos * temp) / (self._length - self._polemass_length * cos.square())
        x_acc = temp - self._polemass_length * theta_acc * cos
        state = state.add(torch.stack((x_dot, x_acc, theta_dot, theta_acc), -1), alpha=_SECONDS)
        terminated = (state[..., 0].abs() > _FARTHEST) | (state[..., 2].abs() > _STEEPEST)
        return state, torch.ones_like(terminated, dtype=torch.float32), terminated
