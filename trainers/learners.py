"""Networks that learn from few examples, reading their parameters through fast weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLHyperparameters
from trainers.trainer import TrainingError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "elu": nn.functional.elu,
    "gelu": nn.functional.gelu,
}

_BLOCKS = 4
_BATCH_NORM_SCALE = 1.0


class Network(Protocol):
    """A function of weights and inputs; it holds no parameter itself."""

    head: tuple[str, ...]
    """Names of the last layer's parameters, the ones that ANIL adapts."""
    transductive: bool
    """Whether a prediction depends on the other inputs of its batch."""

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New parameters by name, float32, on the CPU."""

    def __call__(self, weights: FastWeights, x: Tensor) -> Tensor:
        """Outputs [T, B, outputs] for inputs x [T, B, *shape]."""


class Perceptron:
    """A multi-layer perceptron; without hidden layers it is a linear model.

    Inputs of any shape are flattened. Weights start normal with deviation √(2 ⁄ inputs) where the
    activation is ReLU's kind (He et al. 2015, arXiv:1502.01852), √(1 ⁄ inputs) elsewhere; biases at 0.
    """

    transductive = False

    def __init__(self, inputs: int, hidden_sizes: Sequence[int], outputs: int, activation: str) -> None:
        self.sizes = (inputs, *hidden_sizes, outputs)
        self.layers = tuple(f"layer{number}" for number in range(1, len(self.sizes)))
        self.head: tuple[str, ...] = (f"{self.layers[-1]}.weight", f"{self.layers[-1]}.bias")
        self._activation = ACTIVATIONS[activation]
        self._hidden_gain = 1.0 if activation == "tanh" else math.sqrt(2)

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        parameters = {}
        for layer, (inputs, outputs) in zip(self.layers, pairwise(self.sizes), strict=True):
            gain = 1.0 if layer == self.layers[-1] else self._hidden_gain
            deviation = gain / math.sqrt(inputs)
            parameters[f"{layer}.weight"] = torch.randn(inputs, outputs, generator=generator) * deviation
            parameters[f"{layer}.bias"] = torch.zeros(outputs)
        return parameters

    def __call__(self, weights: FastWeights, x: Tensor) -> Tensor:
        x = x.flatten(2)
        for layer in self.layers[:-1]:
            x = self._activation(weights.linear(layer, x))
        return weights.linear(self.layers[-1], x)


class Convolutional:
    """The four blocks of the MAML paper: 3 × 3 convolution, batch norm, ReLU, 2 × 2 max-pooling; one layer.

    Batch norm has no running statistics, it takes those of the batch at hand (Finn et al. 2017, as in
    their code), so its predictions on a query set are transductive.
    """

    transductive = True

    def __init__(self, shape: Sequence[int], filters: int, outputs: int) -> None:
        channels, height, width = shape
        self.layers = tuple(f"block{number}" for number in range(1, _BLOCKS + 1))
        self.head: tuple[str, ...] = ("layer.weight", "layer.bias")
        self._channels = (channels, *[filters] * _BLOCKS)
        self._pooled = [min(height, width) >> number >= 2 for number in range(_BLOCKS)]
        halvings = sum(self._pooled)
        self._features = filters * (height >> halvings) * (width >> halvings)
        self._outputs = outputs

    def initial(self, generator: torch.Generator) -> dict[str, Tensor]:
        parameters = {}
        for layer, (inputs, outputs) in zip(self.layers, pairwise(self._channels), strict=True):
            deviation = math.sqrt(2 / (9 * inputs))
            kernels = torch.randn(outputs, inputs, 3, 3, generator=generator) * deviation
            parameters[f"{layer}.convolution.weight"] = kernels
            parameters[f"{layer}.norm.weight"] = torch.full((outputs,), _BATCH_NORM_SCALE)
            parameters[f"{layer}.norm.bias"] = torch.zeros(outputs)
        weight = torch.randn(self._features, self._outputs, generator=generator)
        parameters["layer.weight"] = weight / math.sqrt(self._features)
        parameters["layer.bias"] = torch.zeros(self._outputs)
        return parameters

    def __call__(self, weights: FastWeights, x: Tensor) -> Tensor:
        for layer, pooled in zip(self.layers, self._pooled, strict=True):
            x = weights.convolution(f"{layer}.convolution", x, padding=1)
            x = torch.relu(weights.batch_norm(f"{layer}.norm", x))
            if pooled:
                pooled_x = nn.functional.max_pool2d(x.flatten(0, 1), 2)
                x = pooled_x.reshape(*x.shape[:2], *pooled_x.shape[1:])
        return weights.linear("layer", x.flatten(2))


def make_network(h: MAMLHyperparameters, shape: Sequence[int], outputs: int) -> Network:
    """The network that ``h`` describes, for inputs of ``shape``. Raises :class:`TrainingError`."""
    if h.network == "mlp":
        return Perceptron(math.prod(shape), h.hidden_sizes, outputs, h.activation)
    if len(shape) != 3:
        raise TrainingError(
            f"network = conv: the task's inputs are {list(shape)}; it takes images "
            "[channels, height, width], use --network mlp"
        )
    return Convolutional(shape, h.filters, outputs)
