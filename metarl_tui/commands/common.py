"""What several commands share: the options that all know, RUN, errors, and lines that are safe to print."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from metarl_tui.changes import check_run_changes
from metarl_tui.commands import PROGRAM
from metarl_tui.text import clean, escaped
from trainers.declarations import Declaration, Value, declaration_of, declarations

Function = TypeVar("Function", bound=Callable[..., Any])

REFRESH = Declaration(
    "refresh", "float", 5.0, "how often the screen looks for news, per second", minimum=0.5, maximum=30
)
SPEED = Declaration("speed", "float", 1.0, "playing speed", minimum=0.01, maximum=1000)


class CommandError(click.UsageError):
    """Bad usage. The message is a whole line for a person; the program exits 2."""


class Declared(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """An option's value, read and checked by its declaration."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.name = declaration.kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Value:
        """Raises :class:`InvalidValue`."""
        return self.declaration.parse(value) if isinstance(value, str) else value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        words = {"int": "N", "float": "X", "ints": "N,N", "names": "NAME,…", "arguments": "KEY=VALUE"}
        if self.declaration.kind == "choice":
            return "|".join(self.declaration.choices)
        return words.get(self.declaration.kind, "TEXT")


def _inherited(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """An option of the whole program may stand before the command or after it; the later one wins."""
    if ctx.parent is None or value:
        return value
    return ctx.find_root().params.get(parameter.name or "")


def _runs_dir(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    if value is None and ctx.parent is not None:
        inherited = ctx.find_root().params.get("runs_dir")
        if isinstance(inherited, Path):
            return inherited
    from metarl_tui.runs.folder import default_runs_folder

    return default_runs_folder(value)


def runs_dir_option(function: Function) -> Function:
    """``--runs-dir``: the command gets the resolved folder as ``runs_dir``."""
    option = click.option(
        "--runs-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        callback=_runs_dir,
        help="where the runs are",
    )
    return option(function)


def screen_options(function: Function) -> Function:
    """``--ascii``, ``--no-mouse``, ``--refresh``."""
    refresh = click.option(
        "--refresh", type=Declared(REFRESH), metavar="HZ", callback=_inherited, help=f"{REFRESH.help} (5)"
    )
    text = "leave the mouse to the terminal"
    mouse = click.option("--no-mouse", is_flag=True, callback=_inherited, help=text)
    ascii_only = click.option("--ascii", is_flag=True, callback=_inherited, help="draw in ASCII")
    return ascii_only(mouse(refresh(function)))


def run_argument(function: Function) -> Function:
    """RUN as ``reference``: a path, an id, the last part of an id, a unique prefix, a name, or ``latest``."""
    return click.argument("reference", metavar="RUN")(function)


def require_terminal(instead: str) -> None:
    """Refuse to draw where nobody could see it. ``instead`` says what works without a terminal."""
    streams = {"standard input": sys.stdin, "standard output": sys.stdout, "standard error": sys.stderr}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            raise CommandError(f"the screen needs a terminal, and {name} is not one; {instead}")
    if os.environ.get("TERM") == "dumb":
        raise CommandError(f"TERM = dumb: the screen needs a terminal that can move its cursor; {instead}")


def colour_wanted() -> bool:
    """Whether standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def reraise_ending(error: Exception) -> None:
    """Raise the :class:`SystemExit` that ``error`` wraps, if it does.

    The handler of a signal may raise it anywhere, and Python wraps what is raised while it makes a class.
    """
    if isinstance(error.__cause__, SystemExit):
        raise error.__cause__ from None


def hint(line: str) -> None:
    """A line for a person at a terminal, on standard error; scripts don't get it."""
    if sys.stderr.isatty():
        say(line, err=True)


def say(line: str, *, err: bool = False) -> None:
    """Print one line, free of control characters."""
    click.echo(clean(line, 2_000), err=err)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """``rows`` as lines, every column as wide as what is in it and set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def json_text(value: Any) -> str:
    """``value`` as indented JSON that a terminal can be shown.

    JSON has no NaN: it is written as the journal writes it.
    """
    from json import dumps

    return escaped(dumps(_finite(value), ensure_ascii=False, indent=2))


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {name: _finite(part) for name, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value


def parse_changes(pairs: Iterable[str], *settings: object) -> dict[str, Value]:
    """``NAME=VALUE …`` as checked values for a run with ``settings``.

    Raises :class:`CommandError` for a pair without ``=`` and :class:`InvalidValue` for what
    :func:`~metarl_tui.changes.check_run_changes` refuses.
    """
    known: dict[str, Declaration] = {}
    for part in settings:
        known |= declarations(type(part))
    changes: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name:
            raise CommandError(f"{pair}: must be NAME=VALUE, as in clip_epsilon=0.1")
        changes[name] = declaration_of(known, name, text).parse(text)
    return check_run_changes(changes, *settings)


def command_line(*words: str) -> str:
    """How a person would type a command of this program."""
    return " ".join((PROGRAM, *words))
