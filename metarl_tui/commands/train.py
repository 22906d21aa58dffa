"""``train TRAINER``: one command per trainer, its flags made from the declarations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from metarl_tui.commands.common import (
    CommandError,
    Declared,
    command_line,
    runs_dir_option,
    screen_options,
)
from metarl_tui.commands.program import LazyGroup
from metarl_tui.commands.resolve import PRESET_NONE, known_settings, resolve
from metarl_tui.commands.starting import Where, begin_new, create
from metarl_tui.runs.options import RunOptions
from trainers.declarations import Declaration, Value, declarations, format_value
from trainers.hyperparameters import TRAINERS, TrainerEntry
from trainers.presets import PRESETS

SECTIONS = {"env": "Environment", "hyperparameters": "Hyperparameters", "run": "Run", "": "Options"}


class Flag(click.Option):
    """An option that belongs to a section of ``--help``."""

    section = ""


class TrainCommand(click.Command):
    """A command whose ``--help`` groups its options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section per group, the declared ones first."""
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                rows[getattr(parameter, "section", "")].append(record)
        for section, records in rows.items():
            if records:
                with formatter.section(SECTIONS[section]):
                    formatter.write_dl(records, col_max=34)


class TrainGroup(LazyGroup):
    """``train``, with a command for each trainer there is."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = TRAINERS.get(cmd_name)
        return train_command(entry) if entry else None


def flag_of(declaration: Declaration, section: str) -> Flag:
    """The click option of a declared setting; whether it was given is told by its source, not its value."""
    if declaration.kind == "bool":
        # What is off unless asked for needs no --no-… flag, unless a file or a preset may turn it on.
        names = declaration.flag if section == "run" else f"{declaration.flag}/--no-{declaration.flag[2:]}"
        option = Flag([names, declaration.name], is_flag=True, default=None, help=_help(declaration))
    else:
        option = Flag(
            [declaration.flag, declaration.name],
            type=Declared(declaration),
            multiple=declaration.kind == "arguments",
            help=_help(declaration),
        )
    option.section = section
    return option


def was_given(context: click.Context, name: str) -> bool:
    """Whether the option stood on the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _help(declaration: Declaration) -> str:
    """``the policy ratio is clipped to 1 ± ε [ε; 0.2; a number above 0 and at most 10; live]``."""
    facts = [declaration.symbol]
    if declaration.kind != "arguments":
        facts.append(f"default {format_value(declaration.default)}")
    if declaration.kind not in ("bool", "choice", "text", "arguments"):
        facts.append(declaration.allowed)
    if declaration.changes == "live":
        facts.append("live")
    shown = "; ".join(fact for fact in facts if fact)
    return f"{declaration.help} [{shown}]" if shown else declaration.help


def train_command(entry: TrainerEntry) -> click.Command:
    """The command that trains with ``entry``."""

    def run(**values: Any) -> int:
        # By source, not by value: a flag that says "off" has the value None, as an absent one has.
        context = click.get_current_context()
        settings = {name: values.pop(name) for name in known_settings(entry)}
        flags = {name: value for name, value in settings.items() if was_given(context, name)}
        how = How(**{name: values.pop(name) for name in How.__dataclass_fields__})
        return train_run(entry, flags, how, screen=values)

    flags = [
        flag_of(declaration, section)
        for section, settings in (
            ("env", entry.setup), ("hyperparameters", entry.hyperparameters), ("run", RunOptions),
        )
        for declaration in declarations(settings).values()
    ]  # fmt: skip
    command = TrainCommand(
        entry.name, params=[*_how_to_run(entry.name), *flags], callback=run, help=_about(entry)
    )
    return runs_dir_option(screen_options(command))


def _about(entry: TrainerEntry) -> str:
    subject = declarations(entry.setup)[entry.subject]
    return (
        f"Train {entry.name} on {format_value(subject.default)} (or another: {subject.flag}) and open the "
        "screen.\n\nA value comes from its flag, else from --config, else from the preset, else it is the "
        "default shown here. What is marked live can be changed while the run trains: "
        f"{command_line('set', 'RUN', 'NAME=VALUE')}."
    )


def _how_to_run(trainer: str) -> Iterable[click.Parameter]:
    presets = ", ".join(preset.name for preset in PRESETS if preset.trainer == trainer)
    run = (
        Flag(["--name"], metavar="TEXT", help="a name for the run, shown and usable as RUN"),
        Flag(["--config"], type=click.Path(path_type=Path), metavar="FILE.toml",
             help="settings of the same names in a file, and planned changes in [[change]] tables"),
        Flag(["--preset"], metavar="NAME", help=f"published settings: {presets} or {PRESET_NONE}; by default "
                                                "those of the environment, if there are any"),
        Flag(["--no-ui"], is_flag=True, help="train in the foreground without the screen"),
        Flag(["--json"], is_flag=True,
             help="with --no-ui the journal's lines on standard output, with --detach id and path"),
        Flag(["--detach"], is_flag=True,
             help="train in the background; print the run's id once it has started"),
        Flag(["--resume"], type=click.Choice(["auto"]), metavar="auto",
             help="go on with the newest run of the same settings and name, or begin one: what a job that "
                  "is queued again calls"),
        Flag(["--seeds"], metavar="1-5",
             help="a run for each seed, in one group, as many at a time as there are cores; set, pause, "
                  "resume, save, stop and wait take the group's name for all of them"),
    )  # fmt: skip
    for option in run:
        option.section = "run"
    return run


@dataclass(frozen=True)
class How:
    """How the run is to be run, as asked on the command line."""

    runs_dir: Path
    name: str | None
    config: Path | None
    preset: str | None
    no_ui: bool
    json: bool
    detach: bool
    resume: str | None
    seeds: str | None


def train_run(entry: TrainerEntry, flags: Mapping[str, Value], how: How, screen: Mapping[str, Any]) -> int:
    """Check everything that can be checked without training, make the folder, train; the exit code.

    Raises :class:`CommandError`, :class:`InvalidValue` or :class:`RunError` before a folder is made, and
    removes the folder of a run that could not start.
    """
    config = resolve(entry, flags, name=how.name, file=how.config, preset=how.preset)
    where = Where(how.runs_dir, screen, how.no_ui, how.json, how.detach)
    where.check("train", entry.name, "--no-ui")
    if how.seeds is not None:
        if "seed" in flags:
            raise CommandError("--seed is one seed and --seeds are several: choose one")
        from metarl_tui.commands.seeds import parse_seeds, train_group

        return train_group(config, parse_seeds(how.seeds), where, resume=how.resume is not None)
    if how.resume is not None:
        from metarl_tui.commands.auto import go_on_or_begin

        return go_on_or_begin(config, where)
    return begin_new(lambda: create(how.runs_dir, config), where) or 0


train = TrainGroup(
    "train",
    no_args_is_help=False,
    table=dict.fromkeys(TRAINERS, ""),
    help="Start a run and open its screen. Leaving the screen does not end the run.",
    subcommand_metavar="TRAINER [OPTIONS]",
)
