"""The program as a group of commands: imported when they are needed, and every error on one line.

Exit codes: 0 done, 1 the run failed or the worker refused, 2 bad usage, 70 the screen crashed,
130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import click

from metarl_tui.commands import COMMANDS, PROGRAM, help_page
from metarl_tui.commands.common import CommandError, reraise_ending, runs_dir_option, screen_options
from metarl_tui.text import clean

INTERRUPTED, PIPE_CLOSED = 130, 141
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for.

    ``table`` holds ``module:attribute`` by command name.
    """

    def __init__(self, *args: Any, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self.table.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.table:
            near = _near(args[0], self.table) or f"; known: {', '.join(self.table)}"
            raise CommandError(f"{args[0]}: no such command{near}")
        return super().resolve_command(ctx, args)


class MainGroup(LazyGroup):
    """The whole program: its help page, and the translation of errors into one line and an exit code."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(help_page() + "\n")

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.ClickException as error:
            code = _complain(_one_line(error))
        except click.Abort as error:
            code = INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1
        except Exception as error:
            reraise_ending(error)
            if not _is_for_people(error):
                raise
            code = _complain(str(error))
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that has gone away (``| head``) is no error worth a word."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _silence_output()
            return PIPE_CLOSED
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF) or error.filename is not None:
                raise
            _silence_output()
            _complain(f"standard output: {error.strerror}")
            return 1
        return code


def _is_for_people(error: Exception) -> bool:
    """Whether the message was written to be shown as it is."""
    from metarl_tui.config_file import ConfigError
    from metarl_tui.runs.folder import RunError
    from trainers.declarations import InvalidValue
    from trainers.trainer import TrainingError

    return isinstance(error, RunError | InvalidValue | ConfigError | TrainingError)


def _complain(message: str) -> int:
    click.echo(f"error: {clean(message, 2_000)}", err=True)
    return 2


def _silence_output() -> None:
    # Python flushes standard output once more as it exits, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: click.ClickException) -> str:
    """The message of click's ``error``, without its usage block."""
    if isinstance(error, CommandError) or not isinstance(error, click.UsageError):
        return error.format_message()
    context = error.ctx
    hint = f" ({context.command_path} --help)" if context else ""
    match error:
        case click.NoSuchOption():
            parameters = context.command.params if context else []
            flags = [
                flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)
            ]
            return f"{error.option_name}: no such option{_near(error.option_name, flags)}{hint}"
        case click.MissingParameter() if error.param is not None:
            return f"{error.param.human_readable_name} is missing{hint}"
        case click.BadOptionUsage():
            return f"{error.option_name}: {_lower(error.message)}{hint}"
        case click.BadParameter() if error.param is not None:
            return f"{error.param.opts[-1]}: {_lower(error.message)}{hint}"
    if context is not None and isinstance(context.command, LazyGroup):
        return f"{context.command_path} needs one of: {', '.join(context.command.table)}{hint}"
    return f"{_lower(error.format_message())}{hint}"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import metarl_tui

        click.echo(f"{PROGRAM} {metarl_tui.__version__}")
        ctx.exit()


@click.group(
    cls=MainGroup,
    table={
        name: f"metarl_tui.commands.{row[0]}"
        for section in COMMANDS.values()
        for name, row in section.items()
    },
    name=PROGRAM,
    invoke_without_command=True,
    context_settings=_HELP,
)
@runs_dir_option
@screen_options
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version)
@click.pass_context
def group(ctx: click.Context, /, **options: Any) -> int | None:
    """Watch, steer and replay training runs in the terminal."""
    if ctx.invoked_subcommand is not None:
        return None
    from metarl_tui.commands.screens import home

    return home(**options)
