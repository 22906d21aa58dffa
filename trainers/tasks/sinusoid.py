"""Sinusoids of the MAML paper (Finn et al. 2017, arXiv:1703.03400, section 5.1)."""

from __future__ import annotations

import math

import torch

from trainers.tasks.distribution import Tasks


class Sinusoid:
    """y = a · sin(x − p) with a in 0.1…5 and p in 0…π; ``shots`` support and ``query_shots`` query points.

    Inputs are uniform in −5…5; inputs and targets are [1].
    """

    def __init__(self, shots: int = 10, query_shots: int = 10) -> None:
        self.shots, self.query_shots = shots, query_shots

    def sample_tasks(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw ``n`` tasks."""
        amplitude = 0.1 + 4.9 * torch.rand(n, 1, 1, generator=generator)
        phase = math.pi * torch.rand(n, 1, 1, generator=generator)
        x = 10 * torch.rand(n, self.shots + self.query_shots, 1, generator=generator) - 5
        y = amplitude * torch.sin(x - phase)
        return Tasks(x[:, : self.shots], y[:, : self.shots], x[:, self.shots :], y[:, self.shots :])
