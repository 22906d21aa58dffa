"""Multi-layer perceptrons with tanh, forward and backward written out.

Autograd costs more than the arithmetic of networks as small as policies are: every operation is recorded,
and gets a new tensor. Here perceptrons that see the same inputs are one batch of matrix products, into
tensors that are used again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainers.trainer import Array

_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class Tanh(nn.Module):
    """tanh(x) = 2σ(2x) − 1: off by 2e-7 at most in float32, and ten times as fast as PyTorch's on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(2 * x) - 1


class Perceptrons:
    """N networks of :class:`~torch.nn.Linear` layers with tanh between them, as one batch.

    They have the same inputs and hidden sizes; outputs may differ, and are padded with zeros to the widest.
    The networks' parameters become views of one tensor, and their ``grad`` of another. To be used under
    ``torch.no_grad()``.
    """

    parameters: Tensor
    """All weights and biases, one after the other and with zeros between, [any]."""
    gradient: Tensor
    """Theirs, of the same shape: the ``grad`` of ``parameters``."""
    outputs: Array
    """What :meth:`forward` gave last, [N, widest, B]."""
    output_gradients: Array
    """A loss's derivatives by ``outputs``, for :meth:`backward`; to be left 0 where these are padded."""

    def __init__(self, *networks: nn.Sequential) -> None:
        linear = ([layer for layer in network if isinstance(layer, nn.Linear)] for network in networks)
        depths = list(zip(*linear, strict=True))
        sizes = [_Layers.numel(layers) for layers in depths]
        self.parameters = depths[0][0].weight.detach().new_zeros(sum(sizes))
        self.gradient = self.parameters.grad = torch.zeros_like(self.parameters)
        parts = (torch.split_with_sizes(whole, sizes) for whole in (self.parameters, self.gradient))
        kinds = [*[_Layers] * (len(depths) - 1), _OutputLayers]
        self._layers = [kind(*each) for kind, *each in zip(kinds, depths, *parts, strict=True)]
        self._count, self._rows = len(networks), 0
        self._outputs: list[Tensor] = []
        self._hidden: list[Array | None] = []
        self._gradients: list[Tensor] = []
        self.outputs = self.output_gradients = np.empty((self._count, 0, 0), np.float32)

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [N, widest, B] for ``inputs`` [B, in]; good until the next call."""
        if inputs.shape[0] != self._rows:
            self._allocate(inputs)
        x = self._inputs = inputs.expand(self._count, *inputs.shape)
        for layers, output, hidden in zip(self._layers, self._outputs, self._hidden, strict=True):
            layers.forward(x, output)
            if hidden is not None:
                np.tanh(hidden, out=hidden)
            x = output
        return x

    @np.errstate(all="ignore")  # As in PyTorch, what is not finite is found in what comes of it.
    def forward_of(self, number: int, inputs: Array) -> Array:
        """The outputs [B, out] of one of the networks, counted from 0, for ``inputs`` [B, in]."""
        output = inputs
        for layers in self._layers:
            turned_weight, bias = layers.each[number]
            output = output @ turned_weight
            output += bias
            if layers is not self._layers[-1]:
                np.tanh(output, out=output)
        return output

    def backward(self) -> None:
        """Set ``grad`` of all parameters from ``output_gradients``; good until the next call."""
        gradients = self._gradients[-1]
        for number in range(len(self._layers) - 1, 0, -1):
            layers, x, below = self._layers[number], self._outputs[number - 1], self._gradients[number - 1]
            layers.differentiate(x, gradients)
            layers.differentiate_inputs(gradients, below)
            gradients = _tanh_backward(below, x, grad_input=below)
        self._layers[0].differentiate(self._inputs, gradients)

    def _allocate(self, inputs: Tensor) -> None:
        """Tensors for as many rows as ``inputs`` has."""
        self._rows = len(inputs)
        self._outputs = [inputs.new_empty(layers.output_shape(self._rows)) for layers in self._layers]
        self._hidden = [*(output.numpy() for output in self._outputs[:-1]), None]
        self._gradients = [torch.zeros_like(output) for output in self._outputs]
        self.outputs, self.output_gradients = self._outputs[-1].numpy(), self._gradients[-1].numpy()


class _Layers:
    """The layers of N networks at one depth, stacked."""

    weight: Tensor
    """[N, out, in]"""
    bias: Tensor
    """[N, 1, out]"""
    turned_weight: Tensor
    """[N, in, out]"""
    each: list[tuple[Array, Array]]
    """The weight [in, out] and bias [out] of each network."""

    def __init__(self, layers: Sequence[nn.Linear], whole: Tensor, gradient: Tensor) -> None:
        """Move the parameters to ``whole``, and their gradients to ``gradient``, both [numel]."""
        count, inputs, self.outputs = len(layers), layers[0].in_features, self.widest(layers)
        sizes = [count * self.outputs * inputs, count * self.outputs]
        self.weight, self._weight_gradient = (
            torch.split_with_sizes(tensor, sizes)[0].view(count, self.outputs, inputs)
            for tensor in (whole, gradient)
        )
        self.bias, self._bias_gradient = (
            torch.split_with_sizes(tensor, sizes)[1].view(count, 1, self.outputs)
            for tensor in (whole, gradient)
        )
        self.turned_weight = self.weight.mT
        self._turned = gradient.new_empty(count, inputs, self.outputs) if inputs < self.outputs else None
        self.each = []
        for number, layer in enumerate(layers):
            own = slice(layer.out_features)
            self._move(layer.weight, self.weight[number, own], self._weight_gradient[number, own])
            self._move(layer.bias, self.bias[number, 0, own], self._bias_gradient[number, 0, own])
            self.each.append((layer.weight.detach().numpy().T, layer.bias.detach().numpy()))

    @staticmethod
    def widest(layers: Sequence[nn.Linear]) -> int:
        return max(layer.out_features for layer in layers)

    @classmethod
    def numel(cls, layers: Sequence[nn.Linear]) -> int:
        """Weights and biases of ``layers``, padded."""
        return len(layers) * cls.widest(layers) * (layers[0].in_features + 1)

    @staticmethod
    def _move(parameter: Tensor, to: Tensor, gradient: Tensor) -> None:
        parameter.data = to.copy_(parameter.detach())
        parameter.grad = gradient

    def output_shape(self, rows: int) -> tuple[int, ...]:
        return len(self.weight), rows, self.outputs

    def forward(self, x: Tensor, outputs: Tensor) -> None:
        """Write the ``outputs`` for ``x`` [N, B, in]."""
        torch.baddbmm(self.bias, x, self.turned_weight, out=outputs)

    def differentiate_inputs(self, gradients: Tensor, by_inputs: Tensor) -> None:
        """Write the derivatives ``by_inputs`` [N, B, in], for the ``gradients`` at the outputs."""
        torch.bmm(gradients, self.weight, out=by_inputs)

    def differentiate(self, x: Tensor, gradients: Tensor) -> None:
        """Set ``grad`` of the parameters, for inputs ``x`` and the ``gradients`` at the outputs."""
        if self._turned is None:
            torch.bmm(gradients.mT, x, out=self._weight_gradient)
        else:
            # Many rows by few columns take MKL four times as long as few rows by many columns.
            self._weight_gradient.copy_(torch.bmm(x.mT, gradients, out=self._turned).mT)
        torch.sum(gradients, 1, keepdim=True, out=self._bias_gradient)


class _OutputLayers(_Layers):
    """The last ones. Their outputs are [N, out, B]: few rows of many columns, as MKL and NumPy like them."""

    def output_shape(self, rows: int) -> tuple[int, ...]:
        return len(self.weight), self.outputs, rows

    def forward(self, x: Tensor, outputs: Tensor) -> None:
        torch.baddbmm(self.bias.mT, self.weight, x.mT, out=outputs)

    def differentiate_inputs(self, gradients: Tensor, by_inputs: Tensor) -> None:
        torch.bmm(gradients.mT, self.weight, out=by_inputs)

    def differentiate(self, x: Tensor, gradients: Tensor) -> None:
        torch.bmm(gradients, x, out=self._weight_gradient)
        torch.sum(gradients, 2, keepdim=True, out=self._bias_gradient.mT)
