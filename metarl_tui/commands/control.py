"""``set``, ``pause``, ``save``, ``stop``: ask something of a run and wait for the worker's answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
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
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.heartbeat import read_heartbeat
from metarl_tui.runs.liveness import Standing, observe
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import Action, Request, WorkerGone, send, wait_for
from trainers.declarations import Value, format_value, make_settings
from trainers.hyperparameters import TRAINERS

REFUSED = 1
OVER = ("stopped", "finished", "failed", "lost")
PATIENCE = 1.0
"""Seconds after which a person is told what is waited for."""
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
    standing = observe(folder)
    if standing.state in OVER:
        return refuse(_why_over(folder, standing, changes or {}))
    request = send(folder, action, in_json(changes or {}), rebase=rebase)
    if no_wait:
        say("queued")
        return 0
    try:
        record = _answer(folder, request)
    except WorkerGone as gone:
        return refuse(_why_over(folder, gone.standing, changes or {}))
    except KeyboardInterrupt:
        hint("the request stays queued")
        raise
    if record.get("result") != "applied":
        return refuse(str(record.get("why") or "the worker gave no reason"))
    say(f"applied at iteration {record['iteration']}: {outcome(action, record)}")
    return 0


def refuse(why: str) -> int:
    """Say why nothing was done; the exit code."""
    say(f"rejected: {why}", err=True)
    return REFUSED


def _answer(folder: RunFolder, request: Request) -> dict[str, Any]:
    record = wait_for(folder, request, PATIENCE)
    if record is None:
        say(f"{_DOING[request.action]} after this iteration{_how_long(folder)}", err=True)
        record = wait_for(folder, request)
    assert record is not None  # without a limit it waits for the answer or raises
    return record


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


def _why_over(folder: RunFolder, standing: Standing, changes: Mapping[str, Value]) -> str:
    why = f" ({standing.why})" if standing.why else ""
    if standing.state == "unknown":
        return f"nobody answers: run {folder.short_id} is unknown{why}; the request was withdrawn"
    words = [f"{name}={format_value(value)}" for name, value in changes.items()]
    restart = command_line("resume", folder.short_id, *words)
    return f"run {folder.short_id} is {standing.state}{why}; {restart} goes on with it"


def outcome(action: Action, record: Mapping[str, Any]) -> str:
    """What an applied request did: ``clip_epsilon 0.2 → 0.1``."""
    parts = [_DONE[action]] if action in _DONE else []
    changes = record.get("changes") or {}
    parts += [f"{name} {format_value(old)} → {format_value(new)}" for name, (old, new) in changes.items()]
    return ", ".join(parts)


@click.command("set")
@run_argument
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@rebase_option
@no_wait_option
@runs_dir_option
def set_command(reference: str, changes: tuple[str, ...], rebase: bool, no_wait: bool, runs_dir: Path) -> int:
    """Change hyperparameters of RUN from its next iteration on; all of them or none.

    Exit code 1 when the worker refuses or is gone, 2 for a value that can't be (nothing is sent then).
    """
    folder = find_run(runs_dir, reference)
    return ask(folder, "set", parse_changes(changes, *settings_of(folder)), rebase=rebase, no_wait=no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def pause(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """Hold RUN after its current iteration, with a checkpoint. `resume` lets it go on."""
    return ask(find_run(runs_dir, reference), "pause", no_wait=no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def save(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """Write a checkpoint of RUN now, and keep it."""
    return ask(find_run(runs_dir, reference), "save", no_wait=no_wait)


@click.command()
@run_argument
@no_wait_option
@runs_dir_option
def stop(reference: str, no_wait: bool, runs_dir: Path) -> int:
    """End RUN after its current iteration, with a checkpoint. `resume` starts it again from there."""
    return ask(find_run(runs_dir, reference), "stop", no_wait=no_wait)
