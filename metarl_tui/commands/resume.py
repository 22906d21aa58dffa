"""``resume``: let a paused run go on, or start an ended one again from its newest good checkpoint."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from metarl_tui.changes import in_json
from metarl_tui.commands.common import (
    CommandError,
    command_line,
    parse_changes,
    run_argument,
    runs_dir_option,
    say,
)
from metarl_tui.commands.control import (
    ask,
    ask_each,
    no_wait_option,
    outcome,
    rebase_option,
    refuse,
    settings_of,
)
from metarl_tui.commands.starting import Rejected, in_background, in_foreground, start
from metarl_tui.commands.trust import settle_trust, trust_option
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.groups import find_runs
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.liveness import Observer, Standing, observe
from metarl_tui.runs.states import OVER
from metarl_tui.runs.summary import read as read_summary
from trainers.declarations import Value, format_value

BUDGETS = ("total_steps", "iterations")
"""Hyperparameters that say when training is complete, whatever the trainer."""
_LEAVE_SECONDS = 10.0
_REACHED = re.compile(r"\buntil = (-?[\d.e+-]+)$")


@click.command()
@run_argument
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@rebase_option
@click.option("--no-ui", is_flag=True, help="train an ended run in the foreground")
@click.option("--json", is_flag=True, help="with --no-ui, the journal's lines on standard output")
@no_wait_option
@trust_option
@runs_dir_option
def resume(
    reference: str,
    changes: tuple[str, ...],
    rebase: bool,
    no_ui: bool,
    json: bool,
    no_wait: bool,
    trust: bool,
    runs_dir: Path,
) -> int:
    """Go on with RUN, with changed hyperparameters if any are given.

    A paused run is let go. A stopped, failed, lost or finished one is started again in the background, from
    its newest good checkpoint; a finished one needs more to do, as in total_steps=10000000 or until=off.
    One that somebody else began is asked about first, if it names an environment or a task of its own.

    RUN may be a group: then each of its runs that is paused is let go, with a line for each.

    Exit code 1 when a value is rejected.
    """
    runs, is_group = find_runs(runs_dir, reference)
    values, *_ = [parse_changes(changes, *settings_of(folder)) for folder in runs]
    if is_group:
        return _let_go(runs, values, rebase, no_wait, no_ui)
    folder = runs[0]
    standing = observe(folder)
    if json and not no_ui:
        raise CommandError("--json needs --no-ui")
    if standing.state not in OVER:
        if no_ui:
            raise CommandError(f"--no-ui is for a run that has ended; {folder.short_id} is {standing.state}")
        if standing.state == "running":
            how = f"; {command_line('set', folder.short_id, *changes)} changes it" if changes else ""
            return refuse(f"run {folder.short_id} is running already{how}")
        return ask(folder, "resume", values, rebase=rebase, no_wait=no_wait)
    if standing.state == "finished":
        check_more_to_do(folder, standing, values)
    wait_until_left(folder)
    folder.check_before_training()
    settle_trust(folder, trust)
    sent = in_json(values)
    try:
        if no_ui:
            return in_foreground(folder, is_new=False, json=json, changes=sent, rebase=rebase)
        return _restart(folder, sent, rebase, no_wait)
    except Rejected as rejection:
        return refuse(str(rejection))


def _let_go(
    members: list[RunFolder], changes: Mapping[str, Value], rebase: bool, no_wait: bool, no_ui: bool
) -> int:
    if no_ui:
        raise CommandError("--no-ui is for one run; the runs of a group each have their worker")
    if all(observe(folder).state in OVER for folder in members):
        config = members[0].config
        again = command_line("train", config.trainer, "…", "--seeds", "…", "--name", config.group)
        return refuse(
            f"no run of {config.group} is paused; {again} --resume auto goes on with those that ended"
        )
    return ask_each(members, "resume", changes, rebase=rebase, no_wait=no_wait)


def _restart(folder: RunFolder, changes: Mapping[str, Any], rebase: bool, no_wait: bool) -> int:
    if no_wait:
        start(folder, changes=changes, rebase=rebase)
        say("starting")
        return 0
    reader = JournalReader(folder.journal)
    reader.seek_end()
    launch = in_background(folder, is_new=False, changes=changes, rebase=rebase)
    # The start is journaled after all that was found on the way: damaged checkpoints, what is not exact.
    begun_at = launch.resumed_from or 0
    for record in reader.read():
        if record["kind"] == "note":
            say(str(record.get("text", "")), err=True)
        if record["kind"] == "control" and record.get("changes"):
            say(f"applied at iteration {record['iteration']}: {outcome('set', record)}")
    say(f"resumed from iteration {begun_at}" if begun_at else "started again from the beginning")
    say(f"{command_line('open', folder.short_id)} shows it")
    return 0


def check_more_to_do(
    folder: RunFolder, standing: Standing, values: Mapping[str, Value], command: str = "resume"
) -> None:
    """Raises :class:`CommandError` where a finished run, or its fork, would finish at once."""
    why = f" ({standing.why})" if standing.why else ""
    begin = f"run {folder.short_id} is finished{why}"
    if reached := _REACHED.search(standing.why):
        limit = float(reached[1])
        until = values.get("until", limit)
        if until is None or (isinstance(until, float) and until > limit):
            return
        more = command_line(command, folder.short_id, "until=off")
        raise CommandError(f"{begin}; it needs a higher until or none, as in {more}")
    summary = read_summary(folder)
    done, total = (summary.done, summary.total) if summary else (0, 0)
    budget = next((name for name in BUDGETS if name in folder.config.hyperparameters), BUDGETS[0])
    asked = values.get(budget)
    if isinstance(asked, int) and asked > done:
        return
    more = command_line(command, folder.short_id, f"{budget}={2 * max(done, total, 1)}")
    given = "" if asked is None else f"; {budget} = {format_value(asked)} must be more than the {done} done"
    raise CommandError(f"{begin}{given}; give it more to do, as in {more}")


def wait_until_left(folder: RunFolder) -> None:
    """Give a worker that has journaled its end the time to leave."""
    observer, end = Observer(folder), time.monotonic() + _LEAVE_SECONDS
    while observer.observe().alive and time.monotonic() < end:
        time.sleep(0.05)
