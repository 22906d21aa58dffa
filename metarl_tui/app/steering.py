"""What a person wants of the live settings, and what has become of it. Pure: no widgets, no files.

A *wish* is a change made on the screen that has not been sent; a *queued* one was sent and not answered.
Neither is ever shown as a fact: facts are the values in force, which the tape tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metarl_tui.runs.options import RunOptions
from trainers.declarations import (
    Declaration,
    InvalidValue,
    Value,
    declarations,
    format_value,
    make_settings,
)
from trainers.hyperparameters import TRAINERS
from trainers.settings import check_changes


@dataclass(frozen=True)
class Row:
    """One live setting as it stands: ``wanted`` is the wish or queued value, if ``waiting``."""

    declaration: Declaration
    value: str
    scheduled: bool
    wanted: str
    waiting: bool
    changed_by_hand: bool


class Steering:
    """The live settings of one run: the chosen row, wishes, and what was sent."""

    def __init__(self, trainer: str) -> None:
        entry = TRAINERS.get(trainer)
        self.hyperparameters = entry.hyperparameters if entry else None
        own = declarations(entry.hyperparameters).values() if entry else ()
        # Settings with a symbol are those that papers name, so they come first.
        live = sorted((one for one in own if one.changes == "live"), key=lambda one: not one.symbol)
        self.declarations: list[Declaration] = live + [
            one for one in declarations(RunOptions).values() if one.changes == "live"
        ]
        self.chosen = 0
        self.wishes: dict[str, Value] = {}
        self.queued: dict[str, Value] = {}
        self.in_force: dict[str, Any] = {}
        self.scheduled: set[str] = set()
        self.by_hand: set[str] = set()

    @property
    def declaration(self) -> Declaration:
        """The chosen setting."""
        return self.declarations[self.chosen]

    def look(self, in_force: Mapping[str, Any], scheduled: Iterable[str], by_hand: Iterable[str]) -> None:
        """Take the values in force at the playhead, and what moves or moved them."""
        self.in_force, self.scheduled, self.by_hand = dict(in_force), set(scheduled), set(by_hand)

    def rows(self) -> list[Row]:
        """Every live setting, in order."""
        return [self._row(one) for one in self.declarations]

    def _row(self, declaration: Declaration) -> Row:
        name = declaration.name
        known = name in self.in_force
        wants = {**self.queued, **self.wishes}
        return Row(
            declaration,
            self._shown(name) if known else "?",
            name in self.scheduled,
            format_value(wants[name]) if name in wants else "",
            name in wants,
            name in self.by_hand,
        )

    def _shown(self, name: str) -> str:
        """The value in force; three digits are enough of one that a schedule moves all the time."""
        value = self.in_force[name]
        return format_value(
            float(f"{value:.3g}") if name in self.scheduled and isinstance(value, float) else value
        )

    def choose(self, direction: int) -> None:
        """Choose the row above or below; it stops at the ends."""
        self.chosen = min(max(self.chosen + direction, 0), len(self.declarations) - 1)

    def nudge(self, direction: Literal[-1, 1]) -> None:
        """Step the chosen setting from where it would be if all went as wished."""
        name = self.declaration.name
        value = self.declaration.nudge(self._expected(name), direction)
        self._wish(name, value)

    def type(self, text: str) -> None:
        """Wish for what was typed. Raises :class:`InvalidValue`."""
        self._wish(self.declaration.name, self.declaration.parse(text))

    def _expected(self, name: str) -> Value:
        for where in (self.wishes, self.queued, self.in_force):
            if name in where:
                value: Value = where[name]
                return value
        return self.declaration.default

    def _wish(self, name: str, value: Value) -> None:
        if name in self.queued:
            unchanged = value == self.queued[name]
        else:
            unchanged = name in self.in_force and value == self.in_force[name] and name not in self.scheduled
        if unchanged:
            self.wishes.pop(name, None)
        else:
            self.wishes[name] = value

    def take_wishes(self) -> dict[str, Value]:
        """The wishes, checked together against the values in force; they are gone from here after that.

        Raises :class:`InvalidValue` when one is out of range or they do not fit each other.
        """
        wishes, self.wishes = self.wishes, {}
        options = declarations(RunOptions)
        for name in wishes.keys() & options.keys():
            options[name].check(wishes[name])
        others = {name: value for name, value in wishes.items() if name not in options}
        if others and self.hyperparameters is not None:
            known = declarations(self.hyperparameters)
            expected = {
                **self.in_force,
                **{name: value for name, value in self.queued.items() if name in known},
            }
            values = {name: value for name, value in expected.items() if name in known}
            check_changes(make_settings(self.hyperparameters, values), others)
        return wishes


def symbol(name: str) -> str:
    """``ε`` for ``clip_epsilon``; the name itself where there is no symbol."""
    for entry in TRAINERS.values():
        if found := declarations(entry.hyperparameters).get(name):
            return found.symbol or name
    return name


def takes(declaration: Declaration, character: str) -> bool:
    """Whether typing ``character`` begins a value of this setting."""
    if character.isdigit() or character in ".-+":
        return declaration.kind in ("int", "float")
    words: list[str] = ["off"] if declaration.optional else []
    if declaration.kind == "bool":
        words += ["true", "false", "yes", "no", "on", "off"]
    words += declaration.choices
    return any(word.startswith(character.lower()) for word in words)


__all__ = ["InvalidValue", "Row", "Steering", "symbol", "takes"]
