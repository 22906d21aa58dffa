"""Devices by name."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits

from trainers.trainer import TrainingError


def find_device(name: str) -> torch.device:
    """The device called ``name``. Raises :class:`TrainingError` when it is unknown or not there."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cpu" and number) or not (number.isdigit() or name == kind):
        raise TrainingError(f"device = {name}: must be cpu, cuda or cuda:N")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError(f"device = {name}: no CUDA device is available; use --device cpu")
        if number and int(number) >= torch.cuda.device_count():
            raise TrainingError(f"device = {name}: must be below cuda:{torch.cuda.device_count()}")
    return torch.device(name)


def use_threads(count: int) -> None:
    """Let matrix products take so many threads, PyTorch's and NumPy's."""
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")
