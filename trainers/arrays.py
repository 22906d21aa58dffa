"""Tensors as arrays and back: what a trainer's state is made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.adam import Adam
from trainers.trainer import Array

_PREFIX = "optimizer."


def to_array(tensor: Tensor) -> Array:
    """A copy in NumPy, on the CPU."""
    array: Array = tensor.detach().cpu().numpy().copy()
    return array


def leaf(tensor: Tensor) -> Tensor:
    """A copy that requires gradients and knows nothing of where it comes from."""
    return tensor.detach().clone().requires_grad_()


def adam_arrays(optimizer: torch.optim.Adam | Adam, parameters: Mapping[str, Tensor]) -> dict[str, Array]:
    """The moments of ``parameters``, as ``optimizer.<parameter>.<moment>``."""
    return {
        f"{_PREFIX}{name}.{moment}": to_array(tensor)
        for name, parameter in parameters.items()
        for moment, tensor in optimizer.state[parameter].items()
    }


def restore_adam(
    optimizer: torch.optim.Adam | Adam, parameters: Mapping[str, Tensor], arrays: Mapping[str, Array]
) -> None:
    """Set the moments that :func:`adam_arrays` gave; a parameter that has none there begins anew."""
    optimizer.state.clear()
    for key, array in arrays.items():
        name, _, moment = key.removeprefix(_PREFIX).rpartition(".")
        if key.startswith(_PREFIX) and name in parameters:
            # A copy: Adam writes into its moments, and the arrays may be the caller's.
            moments = torch.tensor(array, device=parameters[name].device)
            optimizer.state[parameters[name]][moment] = moments
