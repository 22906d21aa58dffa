"""The hyperparameters in force: the one home of each live value, and the schedules that move some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from trainers.declarations import InvalidValue, Value, as_json, declaration_of, declarations

Hyperparameters = TypeVar("Hyperparameters")


@dataclass(frozen=True)
class LinearSchedule:
    """From ``initial`` at step 0 to ``final`` at ``horizon`` steps, constant after that."""

    initial: float
    final: float
    horizon: int

    def at(self, step: int) -> float:
        share = min(step / self.horizon, 1.0)
        return self.initial + (self.final - self.initial) * share

    def scaled(self, factor: float) -> LinearSchedule:
        return LinearSchedule(self.initial * factor, self.final * factor, self.horizon)


class Annealed(Protocol):
    """The fields of meta-learning hyperparameters that say how the outer rate goes down."""

    iterations: int
    outer_lr: float
    anneal: str
    anneal_iterations: int | None
    anneal_floor: float


def annealed_rate(h: Annealed) -> dict[str, LinearSchedule]:
    """The schedule of ``outer_lr``, if there is to be one."""
    if h.anneal == "none":
        return {}
    horizon = h.anneal_iterations or h.iterations
    return {"outer_lr": LinearSchedule(h.outer_lr, h.outer_lr * h.anneal_floor, horizon)}


class LiveSettings(Generic[Hyperparameters]):
    """Values in force and the schedules on them.

    ``values`` is the only place where the current value of a hyperparameter stands; a schedule is a rule
    that rewrites it at the start of an iteration. A value changed by hand loses its schedule and stays
    constant, unless the change asks to rebase, which scales what remains of the schedule.
    """

    def __init__(
        self, values: Hyperparameters, schedules: Mapping[str, LinearSchedule] | None = None
    ) -> None:
        self.values = values
        self.schedules: dict[str, LinearSchedule] = dict(schedules or {})

    def advance(self, step: int) -> None:
        """Let the schedules set their values for an iteration that starts after ``step`` steps."""
        for name, schedule in self.schedules.items():
            setattr(self.values, name, schedule.at(step))

    def change(self, changes: Mapping[str, Any], *, rebase: bool = False) -> dict[str, tuple[Value, Value]]:
        """Apply all of ``changes`` or, raising :class:`InvalidValue`, none. Old and new value by name."""
        checked = check_changes(self.values, changes)
        result = {}
        for name, new in checked.items():
            old = getattr(self.values, name)
            result[name] = (old, new)
            schedule = self.schedules.pop(name, None)
            if schedule and rebase and old:
                self.schedules[name] = schedule.scaled(new / old)
            setattr(self.values, name, new)
        return result

    def state(self) -> dict[str, Any]:
        """As JSON values; :meth:`restore` takes it back."""
        return {
            "values": as_json(self.values),
            "schedules": {name: dataclasses.asdict(schedule) for name, schedule in self.schedules.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what may change mid-run; a fork's own values of all else stay.

        Where the fork has another schedule (a field whose name begins with ``anneal``), its schedule and
        the values that either schedule moves stay too, and so does a value that no longer fits the rest,
        say a minibatch size that does not divide the rollout of another number of environments.
        """
        known, saved = declarations(type(self.values)), dict(state["values"])
        scheduled = {name: LinearSchedule(**fields) for name, fields in state["schedules"].items()}
        own = as_json(self.values)
        rules = [name for name in known if name.startswith("anneal")]
        if all(own[name] == saved.get(name, own[name]) for name in rules):
            self.schedules = scheduled
        else:
            for name in scheduled.keys() | self.schedules.keys():
                saved.pop(name, None)
        live = {name: saved[name] for name in known if known[name].changes == "live" and name in saved}
        # A schedule may end outside the range that holds for people, at 0.
        checked = {name: v if name in scheduled else known[name].check(v) for name, v in live.items()}
        self.values = _fitting(self.values, checked)


def _fitting(values: Hyperparameters, changes: dict[str, Any]) -> Hyperparameters:
    """``values`` with ``changes``, but for those that do not fit."""
    try:
        return dataclasses.replace(values, **changes)  # type: ignore[type-var]
    except InvalidValue as misfit:
        if misfit.name not in changes:
            raise
        return _fitting(values, {name: value for name, value in changes.items() if name != misfit.name})


def check_changes(values: object, changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` as they would be set on ``values`` mid-run.

    Raises :class:`InvalidValue` when a name is unknown, may not change mid-run, is out of range, or when
    the values would not fit each other.
    """
    known = declarations(type(values))
    checked = {}
    for name, value in changes.items():
        declaration = declaration_of(known, name, value)
        if declaration.changes != "live":
            raise InvalidValue(name, value, "can't change during a run; start a new run")
        checked[name] = declaration.check(value)
    dataclasses.replace(values, **checked)  # type: ignore[type-var]
    return checked
