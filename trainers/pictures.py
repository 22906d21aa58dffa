"""Pictures of an adaptation: one held-out task before and after it, as JSON of at most 4 KB.

What is drawn follows from the tasks' shapes; there is no picture of others.

``regions`` (points in the plane, classes): ``x``, ``y`` are the limits; ``before`` and ``after`` are rows,
top to bottom, of hexadecimal digits, 0…f for the probability 0…1 of class 1 (with more than two classes:
the class itself); ``support`` are [x, y, class].

``curve`` (numbers to numbers): ``x`` are places; ``true``, ``before`` and ``after`` the target and the fits
there; ``support`` are [x, y].

``glyphs`` (images, classes): ``side``; ``support`` are the classes' first images and ``query`` some queries,
bitmaps row by row, 4 pixels a hexadecimal digit; ``classes``, ``before`` and ``after`` are the queries'
true and predicted classes.

All carry ``type``, ``steps`` (of the adaptation) and ``loss`` [before, after] on the queries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainers.adaptation import InnerLoop, task_losses
from trainers.fast_weights import FastWeights
from trainers.tasks import Options, Tasks, TaskSource

_COLUMNS, _ROWS = 40, 20
_PLACES = 64
_GLYPHS, _SIDE, _INK = 5, 28, 0.4
_SUPPORT_SHOWN = 60


class Illustrator:
    """Draws one task, always the same, with the weights at hand."""

    def __init__(self, task: str, options: Options, seed: int, device: torch.device) -> None:
        source = TaskSource(task, options)
        self._draw = _kind(source)
        if self._draw is _curve:
            # Queries dense enough to be the true curve.
            source = TaskSource(task, replace(options, query_shots=_PLACES))
        self._tasks = source.sample_tasks(1, torch.Generator().manual_seed(seed)).to(device)

    def __call__(self, loop: InnerLoop, parameters: dict[str, Tensor]) -> tuple[dict[str, Any], ...]:
        """The picture, or nothing for tasks that there is no picture of."""
        if self._draw is None:
            return ()
        tasks = self._tasks
        before = after = loop.begin(parameters, tasks)
        for step in range(loop.steps):
            after, _ = loop.descend(after, tasks, step, second_order=False)
        with torch.no_grad():
            losses = [
                float(task_losses(loop.query_outputs(weights, tasks), tasks.query_y))
                for weights in (before, after)
            ]
            picture = self._draw(loop, tasks, before, after)
        return ({**picture, "steps": loop.steps, "loss": [_short(loss) for loss in losses]},)


def _kind(source: TaskSource) -> Any:
    match source.shape, source.classes:
        case (1,), None:
            return _curve if source.outputs == 1 else None
        case (2,), int():
            return _regions
        case (1, height, width), int() if height == width and height % 4 == 0 and height <= _SIDE:
            return _glyphs
    return None


def _regions(loop: InnerLoop, tasks: Tasks, before: FastWeights, after: FastWeights) -> dict[str, Any]:
    points = torch.cat((tasks.support_x[0], tasks.query_x[0]))
    low, high = points.amin(0), points.amax(0)
    margin = 0.1 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    # The middle of each cell; the first row is the highest.
    across = (torch.arange(_COLUMNS, device=points.device) + 0.5) / _COLUMNS * (right - left) + left
    down = top - (torch.arange(_ROWS, device=points.device) + 0.5) / _ROWS * (top - bottom)
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).view(1, -1, 2).to(points.dtype)
    support = zip(tasks.support_x[0].tolist(), tasks.support_y[0].tolist(), strict=True)
    return {
        "type": "regions",
        "x": [_short(left), _short(right)],
        "y": [_short(bottom), _short(top)],
        "before": _cells(loop.network(before, grid)),
        "after": _cells(loop.network(after, grid)),
        "support": [[_short(x), _short(y), label] for (x, y), label in list(support)[:_SUPPORT_SHOWN]],
    }


def _cells(outputs: Tensor) -> list[str]:
    chosen = (
        outputs[0].softmax(-1)[:, 1] * 15 if outputs.shape[-1] == 2 else outputs[0].argmax(-1).clamp(max=15)
    )
    digits = "".join(f"{value:x}" for value in chosen.nan_to_num(0).round().int().tolist())
    return [digits[start : start + _COLUMNS] for start in range(0, len(digits), _COLUMNS)]


def _curve(loop: InnerLoop, tasks: Tasks, before: FastWeights, after: FastWeights) -> dict[str, Any]:
    order = tasks.query_x[0, :, 0].argsort()
    fits = {
        name: loop.query_outputs(weights, tasks) for name, weights in (("before", before), ("after", after))
    }
    lines = {"x": tasks.query_x, "true": tasks.query_y, **fits}
    support = zip(tasks.support_x[0, :, 0].tolist(), tasks.support_y[0, :, 0].tolist(), strict=True)
    return {
        "type": "curve",
        **{name: [_short(value) for value in line[0, order, 0].tolist()] for name, line in lines.items()},
        "support": [[_short(x), _short(y)] for x, y in list(support)[:_SUPPORT_SHOWN]],
    }


def _glyphs(loop: InnerLoop, tasks: Tasks, before: FastWeights, after: FastWeights) -> dict[str, Any]:
    support_y, query_y = tasks.support_y[0], tasks.query_y[0]
    firsts = [_first(support_y, label) for label in range(_GLYPHS)]
    queries = [at for at in (_first(query_y, label) for label in range(_GLYPHS)) if at is not None]
    guesses = {
        name: loop.query_outputs(w, tasks)[0].argmax(-1) for name, w in (("before", before), ("after", after))
    }
    return {
        "type": "glyphs",
        "side": tasks.support_x.shape[-1],
        "support": [_bitmap(tasks.support_x[0, at, 0]) for at in firsts if at is not None],
        "query": [_bitmap(tasks.query_x[0, at, 0]) for at in queries],
        "classes": query_y[queries].tolist(),
        **{name: guess[queries].tolist() for name, guess in guesses.items()},
    }


def _first(labels: Tensor, label: int) -> int | None:
    found = (labels == label).nonzero()
    return int(found[0]) if len(found) else None


def _bitmap(image: Tensor) -> str:
    bits = (image > _INK).flatten().int().tolist()
    return "".join(
        f"{8 * a + 4 * b + 2 * c + d:x}" for a, b, c, d in zip(*(bits[i::4] for i in range(4)), strict=True)
    )


def _short(number: float) -> float | str:
    """Three digits; what is no number, as the journal writes it."""
    return float(f"{number:.3g}") if number - number == 0 else str(number)
