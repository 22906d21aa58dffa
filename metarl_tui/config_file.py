"""A run's settings in a TOML file.

Keys are the flags' names with underscores; ``name`` and ``preset`` may stand there too. Every ``[[change]]``
table plans a change: ``iteration`` says from the start of which iteration on, the other keys are live
hyperparameters or options of the run::

    env = "CartPole-v1"
    clip_epsilon = 0.2
    target_kl = "off"

    [[change]]
    iteration = 50
    clip_epsilon = 0.1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metarl_tui.changes import check_run_changes
from trainers.declarations import (
    Declaration,
    InvalidValue,
    Value,
    as_json,
    declaration_of,
    declarations,
)

_ITERATION = Declaration("iteration", "int", 1, "the first iteration that the change is in force", minimum=1)
_WORDS = {
    "name": Declaration("name", "text", "", "the run's name"),
    "preset": Declaration("preset", "text", "", "published settings to start from"),
}


class ConfigError(ValueError):
    """The file can't be used; the message names file, key and what is allowed."""


@dataclass(frozen=True)
class Config:
    """What a file says. ``values`` and ``changes`` are checked one by one, not yet against each other."""

    path: Path | None = None
    values: dict[str, Value] = field(default_factory=dict)
    name: str | None = None
    preset: str | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)

    def of(self, settings: type) -> dict[str, Value]:
        """The values that ``settings`` declares."""
        return {name: value for name, value in self.values.items() if name in declarations(settings)}


def read_config(path: Path, settings: Iterable[type]) -> Config:
    """The file at ``path``, whose keys are those that the classes ``settings`` declare.

    Raises :class:`ConfigError` when it can't be read, is not TOML, or holds an unknown key or a value out of
    range.
    """
    known = {**_WORDS, **_known(settings)}
    table = _read_table(path)
    changes = table.pop("change", [])
    try:
        values = {name: _value(known, name, value) for name, value in table.items()}
    except InvalidValue as error:
        raise ConfigError(f"{path}: {error}") from None
    name, preset = values.pop("name", None), values.pop("preset", None)
    return Config(
        path=path,
        values=values,
        name=None if name is None else str(name),
        preset=None if preset is None else str(preset),
        changes=_changes(path, changes),
    )


def check_plan(config: Config, *settings: Any) -> list[dict[str, Any]]:
    """The planned changes in order, as JSON values, checked one after the other from ``settings`` on.

    ``settings`` are those of the run: set-up, hyperparameters, options. Raises :class:`ConfigError` for a
    change that would be rejected: unknown, not live, out of range, or not fitting the other values at that
    time.
    """
    known = _known(type(part) for part in settings)
    planned = []
    for change in sorted(config.changes, key=lambda change: int(change["iteration"])):
        iteration = int(change["iteration"])
        try:
            read = {name: _value(known, name, value) for name, value in change.items() if name != "iteration"}
            checked = check_run_changes(read, *settings)
        except InvalidValue as error:
            raise ConfigError(f"{config.path}: [[change]] at iteration {iteration}: {error}") from None
        settings = tuple(
            dataclasses.replace(part, **{name: checked[name] for name in checked if hasattr(part, name)})
            for part in settings
        )
        in_json = {name: value for part in settings for name, value in as_json(part).items()}
        planned.append({"iteration": iteration, **{name: in_json[name] for name in checked}})
    return planned


def _known(settings: Iterable[type]) -> dict[str, Declaration]:
    return {name: declaration for kind in settings for name, declaration in declarations(kind).items()}


def _read_table(path: Path) -> dict[str, Any]:
    import tomllib  # most runs have no file, and their screen does not wait for this

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text, as TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _changes(path: Path, changes: object) -> list[dict[str, Any]]:
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        raise ConfigError(f"{path}: change must be written as a table in double brackets: [[change]]")
    for number, change in enumerate(changes, 1):
        where = f"{path}: [[change]] number {number}"
        if "iteration" not in change:
            raise ConfigError(f"{where}: iteration is missing, as in iteration = 50")
        if len(change) == 1:
            raise ConfigError(f"{where}: nothing is changed; name a hyperparameter, as in clip_epsilon = 0.1")
        try:
            change["iteration"] = _ITERATION.check(change["iteration"])
        except InvalidValue as error:
            raise ConfigError(f"{where}: {error}") from None
    return changes


def _value(known: Mapping[str, Declaration], name: str, value: object) -> Value:
    if name not in known and _is_table(value):
        words = "tables are not used, but for [[change]]; write the keys at the top level"
        raise InvalidValue(name, "[…]", words)
    declaration = declaration_of(known, name, value)
    # TOML has no null: "off" is written as text. Everything else has a type of its own in TOML.
    if isinstance(value, str) and declaration.optional:
        return declaration.parse(value)
    return declaration.check(value)


def _is_table(value: object) -> bool:
    """``[name]`` or ``[[name]]``."""
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    )
