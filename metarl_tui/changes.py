"""Changes to a run, checked before anybody is asked to make them; typed or planned, by the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.declarations import Declaration, Value, declaration_of, declarations
from trainers.settings import check_changes


def check_run_changes(changes: Mapping[str, Any], *settings: object) -> dict[str, Value]:
    """``changes`` as they would be made to a run with ``settings`` (set-up, hyperparameters, options).

    Raises :class:`~trainers.declarations.InvalidValue` when a name is unknown, may not change mid-run, is out
    of range, or when the values would not fit each other.
    """
    known: dict[str, Declaration] = {}
    for part in settings:
        known |= declarations(type(part))
    for name in changes:
        declaration_of(known, name)
    checked: dict[str, Value] = {}
    for part in settings:
        own = declarations(type(part))
        checked |= check_changes(part, {name: value for name, value in changes.items() if name in own})
    return {name: checked[name] for name in changes}
