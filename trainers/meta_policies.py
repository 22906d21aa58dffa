"""A policy that reads its parameters through fast weights, so that each task can have its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.distributions import Categorical, Distribution, Gaussian
from trainers.fast_weights import FastWeights
from trainers.learners import Perceptron
from trainers.spaces import ActionSpec, BoxSpec, DiscreteSpec
from trainers.trainer import TrainingError

LOG_STD = "log_std"
_OUTPUT_SCALE = 0.1
"""The last layer begins that much smaller, so that the first policies hardly depend on what they see."""


def check_observation(env: str, observation: BoxSpec) -> None:
    """Raises :class:`TrainingError` for images and bytes: neither policy nor baseline looks at those."""
    if observation.image is None and observation.dtype != "uint8":
        return
    kind = "an image" if observation.image else "made of bytes"
    raise TrainingError(
        f"env = {env}: its observation, {observation.dtype} of shape {observation.shape}, is {kind}; "
        "maml-ppo takes vectors of about unit size, so let the environment observe some features, as float32"
    )


class MetaPolicy:
    """A multi-layer perceptron from observations, flattened, to a distribution of actions.

    Discrete choices have logits, Box actions a mean and a log-deviation that does not depend on the
    observation: a parameter like the others, which adapts too and begins at 0.
    """

    def __init__(
        self, observation: BoxSpec, action: ActionSpec, hidden_sizes: Sequence[int], activation: str
    ) -> None:
        self.observation, self.action = observation, action
        outputs = sum(action.sizes) if isinstance(action, DiscreteSpec) else action.size
        self.network = Perceptron(observation.size, hidden_sizes, outputs, activation)

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New parameters by name, float32, on the CPU."""
        parameters = self.network.initial(generator)
        for name in self.network.head:
            parameters[name] *= _OUTPUT_SCALE
        if isinstance(self.action, BoxSpec):
            parameters[LOG_STD] = torch.zeros(self.action.size)
        return parameters

    def __call__(self, weights: FastWeights, observations: Tensor) -> Distribution:
        """The distribution of actions [n, *rows, …] at observations [n, *rows, *shape] of n tasks."""
        return self.distribution(weights, self.outputs(weights, observations))

    def outputs(self, weights: FastWeights, observations: Tensor) -> Tensor:
        """What the network says, [n, *rows, outputs]."""
        rows = observations.shape[: observations.dim() - len(self.observation.shape)]
        flat = observations.reshape(rows[0], -1, self.observation.size)
        return self.network(weights, flat).reshape(*rows, -1)

    def distribution(self, weights: FastWeights, outputs: Tensor) -> Distribution:
        """What that means."""
        if isinstance(self.action, DiscreteSpec):
            return Categorical(outputs, list(self.action.sizes))
        log_std = weights.parameter(LOG_STD)
        return Gaussian(outputs, log_std.reshape(len(outputs), *[1] * (outputs.dim() - 2), -1))
