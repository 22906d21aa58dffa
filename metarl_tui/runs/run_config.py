"""What a run was started with: ``run.json``, read without trust."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

import metarl_tui
from metarl_tui.runs.files import RunError
from metarl_tui.runs.records import is_count, is_moment, tidy
from metarl_tui.runs.trust import names_code
from metarl_tui.text import clean

LONGEST_NAME = 80


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise RunError("the folder that you are in was removed; change to another") from None


@dataclass(frozen=True)
class RunConfig:
    """What a run was started with; written once, before its worker starts.

    ``setup``, ``hyperparameters`` and ``options`` are JSON values by name, ``changes`` the planned ones:
    ``{"iteration": N, name: value, …}``. ``subject`` is what is trained on, in a few words (an environment
    id, a family of tasks); ``parent`` is ``{"run": id, "iteration": N}`` of a fork, ``group`` the name that
    runs of several seeds share. ``trusted`` says that a person has asked for the code that it names, or that
    it names none; it is not written but proven, see
    :mod:`metarl_tui.runs.trust`.
    """

    trainer: str
    setup: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""
    subject: str = ""
    parent: dict[str, Any] | None = None
    group: str = ""
    created: float = field(default_factory=time.time)
    working_folder: str = field(default_factory=_working_folder)
    version: str = field(default_factory=lambda: metarl_tui.__version__)
    trusted: bool = field(default=False, compare=False)

    @property
    def names_code(self) -> bool:
        """Whether training it runs more than what is installed and registered."""
        return bool(names_code(self.setup, self.parent))

    def to_json(self) -> bytes:
        """As one indented JSON object."""
        fields = {name: value for name, value in asdict(self).items() if name != "trusted"}
        return orjson.dumps(tidy(fields), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, data: bytes) -> RunConfig:
        """Read without trust: text is cleaned, and code that is named is not yet ``trusted``.

        Raises :class:`ValueError` naming the field that is wrong.
        """
        try:
            raw = orjson.loads(data)
            found = tidy(raw)
        except (orjson.JSONDecodeError, ValueError) as error:
            raise ValueError(f"not valid JSON ({clean(error, 120)})") from None
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object")
        values: dict[str, Any] = {}
        for name, (allowed, fits) in _CONFIG_FIELDS.items():
            if name in found:
                if not fits(found[name]):
                    raise ValueError(f"{name} = {clean(found[name], 60)}: must be {allowed}")
                values[name] = found[name]
            elif name in ("trainer", "created"):
                raise ValueError(f"{name} is missing")
        values["created"] = float(values["created"])
        for name in ("name", "group"):
            values[name] = clean(values.get(name, ""), LONGEST_NAME)
        # Looked at as it stands, before what is not printable was taken out of it.
        trusted = not names_code(raw.get("setup", {}), raw.get("parent"))
        return cls(**{"working_folder": "", "version": "", **values, "trusted": trusted})


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_plan(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and is_count(item.get("iteration")) and item["iteration"] for item in value
    )


def _is_parent(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and isinstance(value.get("run"), str) and is_count(value.get("iteration"))


_CONFIG_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "trainer": ("the name of a trainer", lambda value: _is_text(value) and bool(value)),
    "setup": ("an object", _is_object),
    "hyperparameters": ("an object", _is_object),
    "options": ("an object", _is_object),
    "changes": ("a list of objects with a whole number iteration of at least 1", _is_plan),
    "name": ("text", _is_text),
    "subject": ("text", _is_text),
    "parent": ("null or an object with run and iteration", _is_parent),
    "group": ("text", _is_text),
    "created": ("a time in seconds since 1970", is_moment),
    "working_folder": ("text", _is_text),
    "version": ("text", _is_text),
}
