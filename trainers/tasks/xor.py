"""XOR families: which corners belong together is told only by the task's own examples.

Four Gaussian clusters at (±1, ±1) are labelled by XOR (1 where the signs differ) and moved as one: turned
by any angle, scaled, shifted, and with both labels exchanged in half of the tasks. Every point is thus of
either class with probability ½ over all tasks, and a network that learned all tasks jointly knows nothing
of a new one. Without noise and motion what is left are the four corners of XOR's truth table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.tasks.distribution import Tasks
from trainers.trainer import TrainingError

CORNERS = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))
LABELS = (0, 1, 1, 0)


class XOR:
    """Tasks of 4 · ``shots`` support and 4 · ``query_shots`` query points [2], classes 0 and 1.

    ``noise`` is the clusters' standard deviation, ``shift`` the most that a coordinate is shifted, and
    ``scale`` the range of the size. ``motion`` off keeps the clusters in place; labels still exchange.
    """

    def __init__(
        self,
        shots: int = 5,
        query_shots: int = 10,
        ways: int = 2,
        *,
        noise: float = 0.25,
        shift: float = 1.0,
        scale: tuple[float, float] = (0.5, 1.5),
        motion: bool = True,
    ) -> None:
        if ways != 2:
            raise TrainingError(f"ways = {ways}: must be 2, XOR has two classes")
        self.shots, self.query_shots = shots, query_shots
        self.noise, self.shift, self.scale, self.motion = noise, shift, scale, motion

    def sample_tasks(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw ``n`` tasks; points stand cluster by cluster."""
        rows = self.shots + self.query_shots
        points = torch.tensor(CORNERS)[:, None] + self.noise * torch.randn(n, 4, rows, 2, generator=generator)
        angle, size, *offset = torch.rand(4, n, 1, 1, generator=generator)
        if self.motion:
            points = self._moved(points, angle * (2 * math.pi), size, torch.stack(offset, -1))
        flipped = torch.randint(2, (n, 1, 1), generator=generator)
        labels = (torch.tensor(LABELS)[:, None] ^ flipped).expand(n, 4, rows)
        shares = (slice(self.shots), slice(self.shots, None))
        parts = [part[:, :, share] for share in shares for part in (points, labels)]
        return Tasks(*(part.flatten(1, 2) for part in parts))

    def _moved(self, points: Tensor, angle: Tensor, size: Tensor, offset: Tensor) -> Tensor:
        """``points`` [n, 4, rows, 2] turned by ``angle``, scaled and shifted; ``size`` and offset in 0…1."""
        cosine, sine = angle.cos(), angle.sin()
        x, y = points.unbind(-1)
        turned = torch.stack((cosine * x - sine * y, sine * x + cosine * y), -1)
        low, high = self.scale
        return turned * (low + (high - low) * size[..., None]) + (2 * offset - 1) * self.shift


class FourPoints(XOR):
    """XOR as its truth table has it: the four corners themselves, in half of the tasks with labels exchanged.

    The noise-free special case of :class:`XOR`. Support and query rows are the same points, ``shots`` and
    ``query_shots`` times each; what has to be learned is which of the two tables a task has.
    """

    def __init__(self, shots: int = 1, query_shots: int = 1, ways: int = 2) -> None:
        super().__init__(shots, query_shots, ways, noise=0.0, motion=False)
