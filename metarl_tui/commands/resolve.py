"""From flags, file, preset and defaults to a run's configuration. Of the disk only the file is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl_tui.config_file import Config, check_plan, read_config
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.run_config import LONGEST_NAME, RunConfig
from metarl_tui.text import clean
from trainers.declarations import (
    Declaration,
    InvalidValue,
    Value,
    as_json,
    declarations,
    format_value,
    make_settings,
)
from trainers.hyperparameters import TrainerEntry
from trainers.presets import find_preset, preset_for

PRESET_NONE = "none"
RESERVED_NAME = "latest"


def known_settings(entry: TrainerEntry) -> dict[str, Declaration]:
    """Everything that a flag or a file may set for ``entry``: set-up, hyperparameters, options of the run."""
    return {
        **declarations(entry.setup),
        **declarations(entry.hyperparameters),
        **declarations(RunOptions),
    }


def resolve(
    entry: TrainerEntry,
    flags: Mapping[str, Any],
    *,
    name: str | None = None,
    file: Path | None = None,
    preset: str | None = None,
) -> RunConfig:
    """The configuration of a new run. A flag goes before the file, the file before the preset.

    ``flags`` holds the checked values of the flags that were given (``None`` stands for off). Raises
    :class:`InvalidValue` and :class:`~metarl_tui.config_file.ConfigError`.
    """
    config = read_config(file, (entry.setup, entry.hyperparameters, RunOptions)) if file else Config()
    asked = {**config.values, **_given(entry, flags)}

    def chosen(settings: type) -> dict[str, Any]:
        return {key: value for key, value in asked.items() if key in declarations(settings)}

    setup: Any = make_settings(entry.setup, chosen(entry.setup))
    _check_text(setup)
    subject = str(getattr(setup, entry.subject))
    start = _preset(entry, subject, preset or config.preset)
    hyperparameters: Any = make_settings(entry.hyperparameters, {**start, **chosen(entry.hyperparameters)})
    options = make_settings(RunOptions, chosen(RunOptions))
    return RunConfig(
        trainer=entry.name,
        setup=as_json(setup),
        hyperparameters=as_json(hyperparameters),
        options=as_json(options),
        changes=check_plan(config, setup, hyperparameters, options),
        name=check_name(name if name is not None else config.name or ""),
        subject=subject,
        trusted=True,
    )


def _given(entry: TrainerEntry, flags: Mapping[str, Any]) -> dict[str, Value]:
    """What was said on the command line; repeated KEY=VALUE flags become one mapping."""
    given: dict[str, Value] = {}
    for name, value in flags.items():
        if known_settings(entry)[name].kind == "arguments":
            given[name] = {key: item for pair in value for key, item in pair.items()}
        else:
            given[name] = value
    return given


def _preset(entry: TrainerEntry, subject: str, asked: str | None) -> Mapping[str, Any]:
    if asked == PRESET_NONE:
        return {}
    preset = find_preset(entry.name, asked) if asked else preset_for(entry.name, subject)
    return preset.hyperparameters if preset else {}


def _check_text(settings: Any) -> None:
    """Raises :class:`InvalidValue` for text that a terminal would obey or that can't be shown on a line."""
    kind: type = type(settings)
    for name, declaration in declarations(kind).items():
        check_text(declaration, getattr(settings, name))


def check_text(declaration: Declaration, value: Value) -> None:
    """Raises :class:`InvalidValue` for text that a terminal would obey or that can't be shown on a line."""
    text = format_value(value)
    if declaration.kind in ("text", "arguments") and clean(text) != text:
        raise InvalidValue(declaration.name, clean(text, 60), "must be printable text on one line")


def check_name(name: str) -> str:
    """A run's name as it is kept. Raises :class:`InvalidValue`."""
    name = name.strip(" ")
    if clean(name) != name or len(name) > LONGEST_NAME:
        shown = clean(name, 60) or ascii(name[:60])
        raise InvalidValue(
            "name", shown, f"must be printable text on one line, at most {LONGEST_NAME} characters"
        )
    if name.startswith("-"):
        raise InvalidValue("name", name, "must not begin with -, as options do; choose another")
    if os.sep in name:
        raise InvalidValue("name", name, f"must be without {os.sep}, which stands for a path; choose another")
    if name == RESERVED_NAME:
        raise InvalidValue("name", name, "is reserved for the newest run; choose another")
    return name
