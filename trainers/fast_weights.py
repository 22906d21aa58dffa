"""Fast weights: the parameters of many tasks at once, each adapted to its own task by gradient steps.

Networks read their parameters through :class:`FastWeights`, whose layers know whether a tensor is shared
by all T tasks or holds one copy for each. All tasks are one batch: a linear layer of T tasks is a
``baddbmm``, a convolution has T groups, and there is never a loop over tasks.

A linear layer's gradient on S samples has rank S at most: it is inputsᵀ · δ, where δ is the loss's
gradient at the layer's output. While the steps' total rank stays small, the layer keeps these factors
beside the shared weight and computes x·W − Σ (x·inputsᵀ + 1)·αδ, never building T weight matrices. Both
ways are exact, with derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Rates = float | Mapping[str, Tensor]
"""Inner learning rates: one for all, or for each parameter's name one of its shape or []."""

_EPSILON = 1e-5


class _Term(NamedTuple):
    """One step's change of a linear layer, in factors: −inputsᵀ · deltas, and −Σ deltas for its bias."""

    inputs: Tensor
    """[T, S, in]"""
    deltas: Tensor
    """[T, S, out], the inner rate included"""


class FastWeights:
    """Parameters of ``tasks`` tasks, at first those of ``parameters`` for each.

    ``parameters`` are shared tensors by name; layer ``a`` owns ``a.weight`` and, if it has one, ``a.bias``.
    ``adapted`` names those that :meth:`descend` changes (default: all). ``rank`` is the number of samples
    times steps to expect, for which linear layers choose how they hold their changes; ``None`` keeps a
    weight matrix for each task, as rates by name need.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        tasks: int,
        *,
        adapted: Collection[str] | None = None,
        rank: int | None = None,
    ) -> None:
        self.tasks = tasks
        adapted = parameters.keys() if adapted is None else adapted
        self._factored = frozenset(
            name
            for name in parameters
            if name in adapted and rank is not None and _factors_pay(parameters[name], name, rank)
        )
        self._own = tuple(name for name in parameters if name in adapted and name not in self._in_factors())
        self._tensors = {
            name: tensor.expand(tasks, *tensor.shape) if name in self._own else tensor
            for name, tensor in parameters.items()
        }
        self._terms: dict[str, tuple[_Term, ...]] = dict.fromkeys(self._factored, ())
        self._recorded: list[tuple[str, Tensor, Tensor]] | None = None

    @classmethod
    def of_tasks(cls, parameters: Mapping[str, Tensor]) -> FastWeights:
        """Weights whose tensors are each task's own already, [T, *shape]."""
        weights = cls({}, next(iter(parameters.values())).shape[0])
        weights._own, weights._tensors = tuple(parameters), dict(parameters)
        return weights

    def _in_factors(self) -> set[str]:
        """Names whose changes are kept in factors: weights, and their layers' biases."""
        return {name for weight in self._factored for name in (weight, _bias(weight))}

    # -- layers -------------------------------------------------------------------------------------------

    def linear(self, layer: str, x: Tensor) -> Tensor:
        """x [T, B, in] · weight [in, out] + bias [out], for each task with its own: [T, B, out]."""
        name = layer + ".weight"
        weight, bias = self._tensors[name], self._tensors.get(layer + ".bias")
        if weight.dim() == 2:
            rows = x.reshape(-1, x.shape[-1])
            shared = bias is not None and bias.dim() == 1
            flat = torch.addmm(bias, rows, weight) if bias is not None and shared else rows @ weight
            output = flat.reshape(*x.shape[:-1], -1)
            if bias is not None and not shared:
                output = output + bias.unsqueeze(1)
        elif bias is None:
            output = torch.bmm(x, weight)
        else:
            output = torch.baddbmm(bias.unsqueeze(-2), x, weight)
        if name not in self._factored:
            return output
        for term in self._terms[name]:
            likeness = torch.bmm(x, term.inputs.transpose(1, 2))
            if bias is not None:
                likeness = likeness + 1
            output = torch.baddbmm(output, likeness, term.deltas, alpha=-1)
        if self._recorded is not None:
            self._recorded.append((name, x, output))
        return output

    def convolution(self, layer: str, x: Tensor, *, padding: int = 0) -> Tensor:
        """x [T, B, C, H, W] with weight [out, C, k, k] and bias, for each task with its own."""
        weight, bias = self._tensors[layer + ".weight"], self._tensors.get(layer + ".bias")
        if weight.dim() == 4:
            flat = functional.conv2d(x.flatten(0, 1), weight, None, padding=padding)
            output = flat.reshape(*x.shape[:2], *flat.shape[1:])
        else:
            # One image of T × C channels per sample, in T groups that do not see each other.
            merged = x.transpose(0, 1).flatten(1, 2)
            flat = functional.conv2d(merged, weight.flatten(0, 1), None, padding=padding, groups=self.tasks)
            output = flat.reshape(len(flat), self.tasks, -1, *flat.shape[2:]).transpose(0, 1)
        return output if bias is None else output + _over_channels(bias)

    def batch_norm(self, layer: str, x: Tensor) -> Tensor:
        """x [T, B, C, H, W] to mean 0 and variance 1 over the batch and its pixels, then scaled and moved.

        The statistics are those of this very batch, for each task its own: on a query set that is
        transduction, a prediction depends on the other queries.
        """
        variance, mean = torch.var_mean(x, (1, 3, 4), correction=0, keepdim=True)
        scale, offset = (_over_channels(self._tensors[f"{layer}.{part}"]) for part in ("weight", "bias"))
        return (x - mean) * torch.rsqrt(variance + _EPSILON) * scale + offset

    def parameter(self, name: str) -> Tensor:
        """The parameter of each task, [T, *shape]; of one kept in factors it is built for the purpose."""
        tensor = self._tensors[name]
        if name in self._own:
            return tensor
        tensor = tensor.expand(self.tasks, *tensor.shape)
        if name in self._factored:
            for term in self._terms[name]:
                tensor = torch.baddbmm(tensor, term.inputs.transpose(1, 2), term.deltas, alpha=-1)
        elif name in self._in_factors():
            for term in self._terms[name.removesuffix("bias") + "weight"]:
                tensor = tensor - term.deltas.sum(1)
        return tensor

    # -- adaptation ---------------------------------------------------------------------------------------

    def descend(
        self, losses: Tensor | Callable[[FastWeights], Tensor], rates: Rates, *, second_order: bool
    ) -> tuple[FastWeights, Tensor]:
        """One gradient step of every task on its own loss; the weights after it, and the losses [T] before.

        ``losses`` are those of the tasks under these weights, [T], or compute them from the weights. With
        ``second_order`` the step itself can be differentiated; without it gradients count as constants.
        Inner gradients need parameters that require gradients, and grad mode on. Raises
        :class:`ValueError` where changes are kept in factors for losses that are computed already, whose
        layers were not recorded, and for rates by name, since biases go by their weight's rate.
        """
        if self._factored and isinstance(rates, Mapping):
            raise ValueError("rates by name: must be one for all where a layer's change is kept in factors")
        recorded: list[tuple[str, Tensor, Tensor]] = []
        if not isinstance(losses, Tensor):
            self._recorded = recorded
            try:
                losses = losses(self)
            finally:
                self._recorded = None
        elif self._factored:
            raise ValueError("losses: must compute them where a layer's change is kept in factors")
        wanted = [self._tensors[name] for name in self._own] + [output for _, _, output in recorded]
        found = torch.autograd.grad(losses.sum(), wanted, create_graph=second_order)
        after = self._copy()
        for name, gradient in zip(self._own, found, strict=False):
            after._tensors[name] = self._tensors[name] - _rate(rates, name) * gradient
        for (name, inputs, _), deltas in zip(recorded, found[len(self._own) :], strict=True):
            known = inputs if second_order else inputs.detach()
            after._terms[name] = (*after._terms[name], _Term(known, _rate(rates, name) * deltas))
        return after, losses

    def _copy(self) -> FastWeights:
        copy = object.__new__(FastWeights)
        copy.tasks, copy._own, copy._factored = self.tasks, self._own, self._factored
        copy._tensors, copy._terms, copy._recorded = dict(self._tensors), dict(self._terms), None
        return copy


def _factors_pay(weight: Tensor, name: str, rank: int) -> bool:
    """Whether factors of ``rank`` are less work than a matrix for each task."""
    if weight.dim() != 2 or not name.endswith(".weight"):
        return False
    inputs, outputs = weight.shape
    return rank * (inputs + outputs) < inputs * outputs


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _over_channels(tensor: Tensor) -> Tensor:
    """[C] or [T, C] so that it broadcasts over [T, B, C, H, W]."""
    tensor = tensor if tensor.dim() == 2 else tensor.unsqueeze(0)
    return tensor[:, None, :, None, None]


def _rate(rates: Rates, name: str) -> float | Tensor:
    return rates[name] if isinstance(rates, Mapping) else rates
