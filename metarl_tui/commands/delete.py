"""``delete``: remove a run's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from metarl_tui.commands.common import CommandError, run_argument, runs_dir_option, say
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import acquire_lock
from metarl_tui.runs.folder import delete as delete_folder


@click.command()
@run_argument
@click.option("--yes", "-y", is_flag=True, help="don't ask")
@runs_dir_option
def delete(reference: str, runs_dir: Path, yes: bool) -> int:
    """Remove RUN's folder with its journal and checkpoints. A run that is being trained is refused."""
    folder = find_run(runs_dir, reference)
    with acquire_lock(folder):
        pass
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("delete asks before it removes anything, and there is no terminal: add --yes")
        if not click.confirm(f"delete {folder.id}{_name(folder.title, folder.short_id)}?", err=True):
            return 1
    delete_folder(folder)
    say(f"deleted {folder.id}")
    return 0


def _name(title: str, short_id: str) -> str:
    return "" if title == short_id else f" ({title})"
