"""``set``, ``pause``, ``save``, ``stop``: ask something of a run, or of a group's; wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from metarl_tui.changes import in_json
from metarl_tui.commands.common import (
    Function,
    command_line,
    hint,
    parse_changes,
    run_argument,
    runs_dir_option,
    say,
)
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.groups import find_runs
from metarl_tui.runs.heartbeat import read_heartbeat
from metarl_tui.runs.liveness import WAITS, Standing, observe
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import TOO_EARLY, Action, Request, WorkerGone, send, wait_for
from metarl_tui.runs.states import ENDED, OVER
from trainers.declarations import Value, format_value, make_settings
from trainers.hyperparameters import TRAINERS

REFUSED = 1
PATIENCE = 1.0
"""Seconds after which a person is told what is waited for."""
WELL = ("finished", "stopped")
"""How a run ends that nothing went wrong with."""
_DOING = {"set": "changing", "pause": "pausing", "resume": "resuming", "save": "saving", "stop": "stopping"}
_DONE = {"pause": "paused", "resume": "resumed", "save": "saved", "stop": "stopped"}


def no_wait_option(function: Function) -> Function:
    """``--no-wait``."""
    text = "queue the request; don't wait for the answer"
    return click.option("--no-wait", is_flag=True, help=text)(function)


def rebase_option(function: Function) -> Function:
    """``--rebase``."""
    text = "let a schedule go on, scaled to the new value; without it the value stays constant"
    return click.option("--rebase", is_flag=True, help=text)(function)


def settings_of(folder: RunFolder) -> tuple[object, object, object]:
    """Set-up, hyperparameters and options with which the run was started.

    What may change together with what doesn't hang on the values of now. Raises :class:`RunError` for a run
    of a trainer that this version does not have, and :class:`~trainers.declarations.InvalidValue` for values
    that it does not take.
    """
    config = folder.config
    entry = TRAINERS.get(config.trainer)
    if entry is None:
        raise RunError(
            f"run {folder.short_id}: trainer = {config.trainer}: must be one of {', '.join(TRAINERS)}"
        )
    return (
        make_settings(entry.setup, config.setup),
        make_settings(entry.hyperparameters, config.hyperparameters),
        make_settings(RunOptions, config.options),
    )


@dataclass
class Asking:
    """Something that is asked of a run: sent at once, its answer waited for later.

    ``label`` goes before what is said meanwhile.
    """

    folder: RunFolder
    action: Action
    changes: Mapping[str, Value] = field(default_factory=dict)
    rebase: bool = False
    label: str = ""
    _request: Request | None = None

    def send(self, standing: Standing) -> str:
        """Send it, unless the run stands so that nobody would answer: why, then; else empty.

        Raises :class:`RunError` where the request can't be sent.
        """
        if standing.state in OVER:
            return _why_over(self.folder, standing, self.changes)
        self._request = send(self.folder, self.action, in_json(self.changes), rebase=self.rebase)
        return ""

    def outcome(self) -> tuple[bool, str]:
        """Wait for what becomes of it: whether it was applied, and in words. Raises :class:`RunError`."""
        try:
            record = self._answer()
            # It came while the worker was on its way, and was meant for that one.
            while record.get("why") == TOO_EARLY:
                if why := self.send(observe(self.folder)):
                    return False, why
                record = self._answer()
        except WorkerGone as gone:
            return False, _why_over(self.folder, gone.standing, self.changes)
        if record.get("result") != "applied":
            return False, str(record.get("why") or "the worker gave no reason")
        return True, f"applied at iteration {record['iteration']}: {outcome(self.action, record)}"

    def _answer(self) -> dict[str, Any]:
        assert self._request is not None
        record = wait_for(self.folder, self._request, PATIENCE)
        if record is None:
            doing = f"{_DOING[self.action]} after this iteration{_how_long(self.folder)}"
            say(f"{self.label}{doing}", err=True)
            record = wait_for(self.folder, self._request)
        assert record is not None  # without a limit it waits for the answer or raises
        return record


def ask(
    folder: RunFolder,
    action: Action,
    changes: Mapping[str, Value] | None = None,
    *,
    rebase: bool = False,
    no_wait: bool = False,
) -> int:
    """Send a request, wait for what becomes of it and print that; the exit code.

    Raises :class:`RunError` where the request can't be sent.
    """
    asking = Asking(folder, action, changes or {}, rebase)
    standing = observe(folder)
    if no_wait and (why := _why_too_early(folder, action, standing)):
        return refuse(why)
    if why := asking.send(standing):
        return refuse(why)
    if no_wait:
        say("queued")
        return 0
    try:
        is_applied, text = asking.outcome()
    except KeyboardInterrupt:
        hint("the request stays queued")
        raise
    if not is_applied:
        return refuse(text)
    say(text)
    return 0


def ask_each(
    members: Sequence[RunFolder],
    action: Action,
    changes: Mapping[str, Value] | None = None,
    *,
    rebase: bool = False,
    no_wait: bool = False,
) -> int:
    """Ask the same of every run of a group that trains, and print a line for each; the exit code.

    All are sent before an answer is waited for, and what waits for its turn first: else it would have the
    turn of one that was stopped.
    """
    asked: list[Asking] = []
    lines: dict[RunFolder, tuple[bool, str]] = {}
    standings = {folder: observe(folder) for folder in members}
    if all(standing.state in OVER for standing in standings.values()):
        return refuse(f"no run of {members[0].config.group} is training")
    for folder in sorted(members, key=lambda folder: standings[folder].why != WAITS):
        standing = standings[folder]
        if standing.state in OVER:
            why = f": {standing.why}" if standing.why and standing.state not in WELL else ""
            lines[folder] = standing.state in WELL or action == "stop", f"{standing.state} already{why}"
        elif action == "resume" and standing.state == "running":
            how = f"; {command_line('set', folder.short_id, *_words(changes))} changes it" if changes else ""
            lines[folder] = not changes, f"running already{how}"
        elif standing.why == WAITS and action != "stop":
            lines[folder] = False, f"{WAITS}; before that it can only be stopped"
        elif no_wait and (why := _why_too_early(folder, action, standing)):
            lines[folder] = False, why
        else:
            asking = Asking(folder, action, changes or {}, rebase, f"{label(folder)}  ")
            try:
                why = asking.send(standing)
            except RunError as error:
                why = str(error)
            if why:
                lines[folder] = False, why
            else:
                asked.append(asking)
    waited_for = {asking.folder: asking for asking in asked}
    code = 0
    for folder in members:
        if folder in waited_for:
            lines[folder] = (True, "queued") if no_wait else _outcome_in_group(waited_for[folder])
        is_done, text = lines[folder]
        say(f"{label(folder)}  {text if is_done else f'rejected: {text}'}", err=not is_done)
        code = code if is_done else REFUSED
    return code


def _why_too_early(folder: RunFolder, action: Action, standing: Standing) -> str:
    """Why what is queued now, and not asked again, would be rejected with nobody to see it; else empty.

    A fork on its way to where it leaves its parent takes what is queued when it has arrived.
    """
    if standing.why == WAITS:
        return "" if action == "stop" else f"{WAITS}; before that it can only be stopped"
    if standing.state != "starting" or standing.why:
        return ""
    again = "without --no-wait it is asked again"
    return f"run {folder.short_id} is starting, and rejects what came before; {again}"


def _outcome_in_group(asking: Asking) -> tuple[bool, str]:
    try:
        is_done, text = asking.outcome()
    except RunError as error:
        return False, str(error)
    except KeyboardInterrupt:
        hint("the requests stay queued")
        raise
    state = "" if is_done or asking.action != "stop" else observe(asking.folder).state
    return (True, f"{state} already") if state in ENDED else (is_done, text)


def label(folder: RunFolder) -> str:
    """What a line of a group's run begins with."""
    return f"seed {folder.config.setup.get('seed')}  {folder.short_id}"


def refuse(why: str) -> int:
    """Say why nothing was done; the exit code."""
    say(f"rejected: {why}", err=True)
    return REFUSED


def _how_long(folder: RunFolder) -> str:
    """``, about 4 s``, where earlier iterations tell; and what the worker says keeps it."""
    beat = read_heartbeat(folder)
    if beat is None:
        return ""
    if beat.message:
        return f" ({beat.message})"
    waited = beat.since_boundary + max(time.monotonic() - beat.monotonic, 0.0)
    left = beat.median_iteration - waited
    return f", about {max(round(left), 1)} s" if beat.median_iteration else ""


def _words(changes: Mapping[str, Value] | None) -> list[str]:
    return [f"{name}={format_value(value)}" for name, value in (changes or {}).items()]


def _why_over(folder: RunFolder, standing: Standing, changes: Mapping[str, Value]) -> str:
    why = f" ({standing.why})" if standing.why else ""
    if standing.state == "unknown":
        return f"nobody answers: run {folder.short_id} is unknown{why}; the request was withdrawn"
    restart = command_line("resume", folder.short_id, *_words(changes))
    return f"run {folder.short_id} is {standing.state}{why}; {restart} goes on with it"


def outcome(action: Action, record: Mapping[str, Any]) -> str:
    """What an applied request did: ``clip_epsilon 0.2 → 0.1``."""
    parts = [_DONE[action]] if action in _DONE else []
    changes = record.get("changes") or {}
    parts += [f"{name} {format_value(old)} → {format_value(new)}" for name, (old, new) in changes.items()]
    return ", ".join(parts)


def ask_what_is_meant(reference: str, runs_dir: Path, action: Action, no_wait: bool) -> int:
    """Ask the run, or each run of the group, that ``reference`` means; the exit code.

    Raises :class:`RunError` where there is none, or the request can't be sent.
    """
    runs, is_group = find_runs(runs_dir, reference)
    return ask_each(runs, action, no_wait=no_wait) if is_group else ask(runs[0], action, no_wait=no_wait)


@click.command("set")
@run_argument
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@rebase_option
@no_wait_option
@runs_dir_option
def set_command(reference: str, changes: tuple[str, ...], rebase: bool, no_wait: bool, runs_dir: Path) -> int:
    """Change hyperparameters of RUN from its next iteration on; all of them or none.

    RUN may be a group: then of each of its runs that trains, with a line for each. Exit code 1 when a worker
    refuses or is gone, 2 for a value that can't be (nothing is sent then).
    """
    runs, is_group = find_runs(runs_dir, reference)
    values, *_ = [parse_changes(changes, *settings_of(folder)) for folder in runs]
    if is_group:
        return ask_each(runs, "set", values, rebase=rebase, no_wait=no_wait)
    return ask(runs[0], "set", values, rebase=rebase, no_wait=no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def pause(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """Hold RUN after its current iteration, with a checkpoint. `resume` lets it go on.

    RUN may be a group: then each of its runs that trains, with a line for each; exit code 1 when one refuses.
    """
    return ask_what_is_meant(reference, runs_dir, "pause", no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def save(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """Write a checkpoint of RUN now, and keep it.

    RUN may be a group: then of each of its runs that trains, with a line for each; exit code 1 when one
    refuses.
    """
    return ask_what_is_meant(reference, runs_dir, "save", no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def stop(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """End RUN after its current iteration, with a checkpoint. `resume` starts it again from there.

    RUN may be a group: then each of its runs that trains, with a line for each; those that wait for their
    turn never have it. Exit code 1 when one refuses.
    """
    return ask_what_is_meant(reference, runs_dir, "stop", no_wait)
