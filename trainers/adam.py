"""Adam (Kingma & Ba 2015, arXiv:1412.6980) for small networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class _Moments(NamedTuple):
    """Of whole tensors, one each."""

    averages: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    """The same one for all."""


class Adam:
    """PyTorch's fused Adam, whose :meth:`update` costs a fraction of ``step``, with the same result.

    It calls the same kernel without hooks, closures, sorting by device and the profiler's records, and on
    ``wholes``: the few tensors, all of one device and type, of which the parameters are views, as their
    ``grad`` are of those tensors' ``grad``. For small networks all of these cost more than the arithmetic;
    and an optimizer of PyTorch's imports its compiler, which takes as long as the rest of it. ``state`` holds
    each parameter's moments, as PyTorch's does.
    """

    def __init__(
        self, parameters: Sequence[Tensor], wholes: Sequence[Tensor], learning_rate: float, epsilon: float
    ) -> None:
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._parameters, self._wholes = list(parameters), list(wholes)
        self._moments: _Moments | None = None

    def update(self) -> None:
        """One step, to be made under ``torch.no_grad()``; every whole tensor has its ``grad``."""
        moments = self._moments
        if moments is None or not self._are_in_use(moments):
            # At the first step, and where ``state`` was replaced.
            moments = self._moments = self._gathered()
        step = moments.steps[0]
        if step.is_cpu:
            step.numpy()[...] += 1  # at a fraction of what PyTorch takes for it
        else:
            step.add_(1)
        torch._fused_adam_(
            self._wholes,
            [whole.grad for whole in self._wholes if whole.grad is not None],
            moments.averages,
            moments.squares,
            [],
            moments.steps,
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def _are_in_use(self, moments: _Moments) -> bool:
        return self.state[self._parameters[0]].get("step") is moments.steps[0]

    def _gathered(self) -> _Moments:
        """Moments of whole tensors, beginning with those in ``state``, which become views of them."""
        step = torch.zeros((), device=self._wholes[0].device)
        moments = _Moments([], [], [step] * len(self._wholes))
        for whole in self._wholes:
            average, square = torch.zeros_like(whole), torch.zeros_like(whole)
            for parameter in self._parameters:
                if parameter.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
                    continue
                where = (parameter.shape, parameter.stride(), parameter.storage_offset())
                views = {
                    "step": step,
                    "exp_avg": average.as_strided(*where),
                    "exp_avg_sq": square.as_strided(*where),
                }
                for name, former in self.state[parameter].items():
                    views[name].copy_(former)
                self.state[parameter] = views
            moments.averages.append(average)
            moments.squares.append(square)
        return moments
