"""``train … --resume auto``: go on with the run of this configuration, or begin it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from metarl_tui.commands.common import command_line, say
from metarl_tui.commands.resume import wait_until_left
from metarl_tui.commands.starting import Where, begin, begin_new, create
from metarl_tui.runs.files import make_folders, reason, shown
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunBusy, RunConfig, RunError, RunFolder
from metarl_tui.runs.liveness import Standing, observe
from metarl_tui.runs.lock import Lock, take
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.states import OVER
from trainers.declarations import InvalidValue, as_json, make_settings
from trainers.hyperparameters import TRAINERS

FINISHED = ("finished",)
_BEGINNING = ".beginning.lock"
_LONGEST_BEGINNING = 30.0


def go_on_or_begin(config: RunConfig, where: Where) -> int:
    """Go on with the newest run like ``config``, or begin one; the exit code.

    One that is finished is left as it is, with exit code 0. Raises :class:`RunError` where it is trained
    already or can't start.
    """
    found = newest_like(where.runs_dir, config)
    if found is None:
        turn = beginning(where.runs_dir)  # before signals are held: it may be waited for

        def make() -> RunFolder | None:
            nonlocal found
            with turn:
                found = newest_like(where.runs_dir, config)
                return None if found else create(where.runs_dir, config)

        code = begin_new(make, where)
        if code is not None:
            return code
    assert found is not None
    standing = standing_of(found)
    if standing.state in FINISHED:
        say(f"run {found.short_id} is finished{f' ({standing.why})' if standing.why else ''}", err=True)
        return 0
    if standing.alive:
        how = command_line("open", found.short_id)
        raise RunBusy(
            f"run {found.short_id} of this configuration is {standing.state} already; {how} shows it"
        )
    found.check_before_training()
    return begin(found, where, is_new=False)


def standing_of(found: RunFolder) -> Standing:
    """How a run that was there already stands: ``alive``, where it is trained or another has just begun it.

    One that has ended is given the time to leave.
    """
    standing = observe(found)
    if standing.state in OVER:
        wait_until_left(found)
        return replace(standing, alive=False)
    return replace(standing, alive=standing.alive or standing.state == "starting")


def beginning(runs_dir: Path) -> Lock:
    """A lock to hold from the look whether a run is there until it is made: of two that look, one makes it.

    Raises :class:`RunError` where the folder can't be written, or another holds this for long.
    """
    try:
        make_folders(runs_dir)
    except OSError as error:
        raise RunError(f"runs folder {shown(runs_dir)}: {reason(error)}") from error
    end = time.monotonic() + _LONGEST_BEGINNING
    while True:
        try:
            return take(runs_dir / _BEGINNING, lambda: f"another process is making runs in {shown(runs_dir)}")
        except RunBusy:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def newest_like(runs_dir: Path, config: RunConfig) -> RunFolder | None:
    """The newest run that was begun with the same trainer, settings, planned changes, name and group.

    Forks are passed over. Raises :class:`RunError` for a runs folder that can't be read.
    """
    wanted = _identity(config)
    for folder in list_runs(runs_dir):
        try:
            if folder.config.trainer == config.trainer and _identity(folder.config) == wanted:
                if config.trusted:  # the same code was named on the command line
                    folder.trust()
                return folder
        except (RunError, InvalidValue):  # unreadable, or of another version
            continue
    return None


def _identity(config: RunConfig) -> dict[str, Any] | None:
    """What makes two runs the same; settings that a run does not name have their defaults."""
    entry = TRAINERS.get(config.trainer)
    if entry is None or config.parent is not None:
        return None
    kinds = ((entry.setup, config.setup), (entry.hyperparameters, config.hyperparameters))
    settings: dict[str, Any] = {}
    for kind, values in (*kinds, (RunOptions, config.options)):
        made: Any = make_settings(kind, values)
        settings |= as_json(made)
    fields = replace(config, setup=settings, hyperparameters={}, options={}, created=0.0, version="")
    if not (config.names_code or config.setup.get("data")):  # then it does not matter where it was begun
        fields = replace(fields, working_folder="")
    return {name: getattr(fields, name) for name in RunConfig.__dataclass_fields__ if name != "trusted"}
