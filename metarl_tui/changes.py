"""Changes to a run, checked before anybody is asked to make them; typed or planned, by the same words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainers.declarations import (
    Declaration,
    InvalidValue,
    Value,
    declaration_of,
    declarations,
    format_value,
)
from trainers.settings import check_changes


def check_run_changes(changes: Mapping[str, Any], *settings: object) -> dict[str, Value]:
    """``changes`` as they would be made to a run with ``settings`` (set-up, hyperparameters, options).

    Raises :class:`~trainers.declarations.InvalidValue` when a name is unknown, may not change mid-run, is out
    of range, or when the values would not fit each other.
    """
    known: dict[str, Declaration] = {}
    for part in settings:
        known |= declarations(type(part))
    for name, value in changes.items():
        if declaration_of(known, name).changes == "fork":
            pair = f"{name}={format_value(value)}"
            raise InvalidValue(name, value, f"can't change during a run, only in a fork: fork RUN {pair}")
    checked: dict[str, Value] = {}
    for part in settings:
        own = declarations(type(part))
        checked |= check_changes(part, {name: value for name, value in changes.items() if name in own})
    return {name: checked[name] for name in changes}


def check_fork_changes(changes: Mapping[str, Any], *settings: Any) -> dict[str, Value]:
    """Of ``changes`` to a fork of a run with ``settings``, checked, those that can be made in mid-run too.

    Raises :class:`~trainers.declarations.InvalidValue` when a name is unknown, may not change in a fork, is
    out of range, or when the values would not fit each other.
    """
    known: dict[str, Declaration] = {}
    for part in settings:
        known |= declarations(type(part))
    for name, value in changes.items():
        if declaration_of(known, name).changes == "never":
            raise InvalidValue(
                name, value, f"can't change in a fork; {known[name].flag} of train starts a new run with it"
            )
    for part in settings:
        own = {name: value for name, value in changes.items() if name in declarations(type(part))}
        dataclasses.replace(part, **{name: known[name].check(value) for name, value in own.items()})
    return {
        name: known[name].check(value) for name, value in changes.items() if known[name].changes == "live"
    }


def in_json(values: Mapping[str, Value]) -> dict[str, Any]:
    """Checked values as JSON holds them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
