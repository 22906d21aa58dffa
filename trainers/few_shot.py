"""Using what was meta-learned: a run folder's network, adapted to a few rows of a new task."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.adaptation import InnerLoop, make_loop, task_losses
from trainers.devices import find_device
from trainers.fast_weights import FastWeights
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup
from trainers.learners import Network, make_network
from trainers.maml import MAML, RATE
from trainers.saved import read_newest
from trainers.settings import LiveSettings
from trainers.tasks import Tasks
from trainers.trainer import Array


@dataclass(frozen=True)
class Learner:
    """``learner.adapt(x, y)`` gives a model of a new task; ``iteration`` is when its weights were saved.

    ``shape`` is that of one input, ``classes`` the number of classes or ``None`` in regression,
    ``hyperparameters`` are those in force when the weights were saved, and ``begun`` the run's first.
    """

    setup: MAMLSetup
    hyperparameters: MAMLHyperparameters
    begun: MAMLHyperparameters
    network: Network
    parameters: dict[str, Tensor]
    rates: dict[str, Tensor]
    shape: tuple[int, ...]
    classes: int | None
    outputs: int
    iteration: int = 0
    folder: Path = Path()

    def loop(self, steps: int | None = None, inner_lr: float | None = None) -> InnerLoop:
        """The adaptation as on held-out tasks, or with ``steps`` steps, or with one rate for all steps."""
        loop = make_loop(self.network, self.hyperparameters, self.setup.variant, self.rates, evaluating=True)
        if inner_lr is not None:
            loop = replace(loop, rates=inner_lr, late_rates=None)
        return loop if steps is None else replace(loop, steps=steps)

    def adapt(
        self, x: Any, y: Any, *, steps: int | None = None, inner_lr: float | None = None
    ) -> AdaptedModel:
        """Learn the task of the rows ``x`` [rows, *shape] and ``y``, class numbers [rows] or values.

        ``steps`` and ``inner_lr`` default to those of the run's measurements on held-out tasks. Inputs may
        be flat rows. Raises :class:`ValueError` for rows of another shape or classes that there are not.
        """
        if steps is not None and steps < 0:
            raise ValueError(f"steps = {steps}: must be at least 0")
        inputs, targets = self.inputs(x), self._targets(y)
        if inputs.shape[1] != targets.shape[1] or not inputs.shape[1]:
            raise ValueError(
                f"y has {targets.shape[1]} rows and x {inputs.shape[1]}: must be as many, and some"
            )
        loop = self.loop(steps, inner_lr)
        rows = Tasks(inputs, targets, inputs, targets)
        weights, losses = loop.begin(self.parameters, rows), []
        for step in range(loop.steps):
            weights, before = loop.descend(weights, rows, step, second_order=False)
            losses.append(float(before.detach()))
        with torch.no_grad():
            losses.append(float(task_losses(loop.query_outputs(weights, rows), targets)))
        return AdaptedModel(self, weights, tuple(losses))

    def inputs(self, x: Any) -> Tensor:
        """``x`` as [1, rows, *shape]. Raises :class:`ValueError`."""
        array = _numbers("x", x)
        size = math.prod(self.shape)
        fits = array.shape[1:] in (self.shape, (size,)) or (size == 1 and array.ndim == 1)
        if not array.ndim or not fits:
            raise ValueError(f"x of shape {list(array.shape)}: must be {['rows', *self.shape]}")
        return self._on_device(array.reshape(1, len(array), *self.shape))

    def _targets(self, y: Any) -> Tensor:
        array = _numbers("y", y)
        if self.classes is None:
            single = self.outputs == 1 and array.ndim == 1
            if not array.ndim or not (single or array.shape[1:] == (self.outputs,)):
                raise ValueError(f"y of shape {list(array.shape)}: must be {['rows', self.outputs]}")
            return self._on_device(array.reshape(1, len(array), self.outputs))
        whole = array.astype(np.int64)
        if array.ndim != 1 or (whole != array).any() or (whole < 0).any() or (whole >= self.classes).any():
            raise ValueError(f"y: must be class numbers from 0 to {self.classes - 1}, one for each row")
        return self._on_device(whole[None])

    def _on_device(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(next(iter(self.parameters.values())).device)


def _numbers(name: str, values: Any) -> Array:
    """``values`` in float32. Raises :class:`ValueError` for what is no number or not finite there."""
    try:
        with np.errstate(over="ignore"):
            array: Array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: must be numbers, in rows of one length ({error})") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: must be finite numbers, within ±3.4e38")
    return array


@dataclass(frozen=True)
class AdaptedModel:
    """``model(x)`` predicts; ``losses`` are those on the rows learned from, after 0 … steps steps."""

    learner: Learner
    weights: FastWeights
    losses: tuple[float, ...]

    def __call__(self, x: Any) -> Array:
        """Class numbers [rows], or values [rows, outputs], for ``x`` [rows, *shape].

        With network = conv the rows of one call are predicted together: it is transductive.
        """
        outputs = self._outputs(x)
        chosen = outputs if self.learner.classes is None else outputs.argmax(-1)
        predicted: Array = chosen.cpu().numpy()
        return predicted

    def probabilities(self, x: Any) -> Array:
        """Of each class, [rows, classes]. Raises :class:`ValueError` in regression."""
        if self.learner.classes is None:
            raise ValueError("a regression has no classes")
        probabilities: Array = self._outputs(x).softmax(-1).cpu().numpy()
        return probabilities

    @torch.no_grad()
    def _outputs(self, x: Any) -> Tensor:
        return self.learner.network(self.weights, self.learner.inputs(x))[0]


def learner_of(maml: MAML) -> Learner:
    """What ``maml`` has learned so far; it shares the trainer's tensors."""
    tasks, h = maml.training_tasks, replace(maml.settings.values)
    return Learner(
        maml.setup, h, maml.begun, maml.network, maml.parameters, maml.rates, tasks.shape, tasks.classes,
        tasks.outputs, maml.iteration,
    )  # fmt: skip


def load_learner(path: str | Path, *, at: int | None = None, device: str = "cpu") -> Learner:
    """The network of a MAML run folder's newest whole checkpoint, or of a checkpoint's folder.

    ``at`` asks for the newest checkpoint at or before that iteration. Files are read only after their
    SHA-256 was compared with the manifest's, and nothing is unpickled. Raises
    :class:`~trainers.trainer.TrainingError` where there is no run of maml or no whole checkpoint, and for a
    device that is not there.
    """
    place = find_device(device)

    def build(
        setup: MAMLSetup, begun: MAMLHyperparameters, weights: dict[str, Tensor], numbers: dict[str, Any]
    ) -> Learner:
        settings = LiveSettings(replace(begun))
        settings.restore(numbers["settings"])
        h = settings.values
        shape, classes, outputs = (numbers["inputs"][key] for key in ("shape", "classes", "outputs"))
        network = make_network(h, tuple(shape), outputs)
        learned = {name: tensor.to(place).requires_grad_() for name, tensor in weights.items()}
        names = network.initial(torch.Generator()).keys()
        parameters = {name: learned[name] for name in names}
        rates = {name: learned[RATE + name] for name in names if RATE + name in learned}
        return Learner(setup, h, begun, network, parameters, rates, tuple(shape), classes, outputs)

    learner, iteration, folder = read_newest(path, "maml", build, what="learner", at=at)
    return replace(learner, iteration=iteration, folder=folder)
