"""What every trainer is: an iterator whose state can be saved and restored exactly.

A trainer knows no folder, screen, process or request. ``step()`` does one training iteration and
returns what it measured; whoever drives it writes that down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from trainers.declarations import Value
from trainers.settings import LiveSettings

Array = npt.NDArray[Any]


class TrainingError(RuntimeError):
    """The set-up cannot be trained: the message names the field, the value and what is allowed."""


@dataclass
class State:
    """All that a trainer needs to go on exactly where it stood.

    ``weights`` is what a user of the result needs (networks, normalisers), ``tensors`` the rest
    (optimizer moments, environment arrays), ``numbers`` JSON values (counters, generator states as hex
    strings, live settings). Keys of the arrays are dotted names.
    """

    weights: dict[str, Array] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Iteration:
    """What one training iteration gave.

    ``metrics`` are keyed as in :mod:`trainers.metrics`; ``fault`` says why the update was skipped (a loss
    or gradient that is not finite), ``events`` are things worth a mark on the tape, each said once.
    ``pictures`` are JSON objects of at most 4 KB, each with a ``type`` (:mod:`trainers.pictures`).
    """

    number: int
    metrics: dict[str, float]
    fault: str | None = None
    events: tuple[str, ...] = ()
    pictures: tuple[dict[str, Any], ...] = ()


class Progress(NamedTuple):
    """How far a run is, in its own unit (``steps`` or ``iterations``)."""

    done: int
    total: int
    unit: str


class Trainer(Protocol):
    """The interface of PPO, MAML and MAML-PPO. Built as ``Class(setup, hyperparameters)``.

    Building raises :class:`TrainingError` for a set-up that cannot be trained (unknown environment,
    unsupported space, device that is not there).
    """

    settings: LiveSettings[Any]

    @property
    def iteration(self) -> int:
        """Iterations done; the first is number 1."""

    @property
    def progress(self) -> Progress: ...

    @property
    def finished(self) -> str | None:
        """Why there is nothing left to do, or ``None``."""

    def step(self) -> Iteration:
        """Do one training iteration."""

    def change(self, changes: Mapping[str, Value], *, rebase: bool = False) -> dict[str, tuple[Value, Value]]:
        """Set hyperparameters from the next iteration on, all of them or none; old and new by name.

        Raises :class:`~trainers.declarations.InvalidValue`. With ``rebase`` a schedule goes on, scaled to
        the new value; without it a value set by hand stays constant.
        """

    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing before the first iteration, a line each; said when a run is begun."""

    def decisions(self) -> dict[str, Any]:
        """Setup fields as decided (``vector``, ``threads``); a resumed run is built with these."""

    def state(self) -> State: ...

    def restore(self, state: State) -> str | None:
        """Go on from ``state``. Returns why the continuation may not be exact, or ``None``."""

    def close(self) -> None:
        """Release environments and their processes."""
