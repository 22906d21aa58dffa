"""``log``: what the worker wrote on its standard output and error."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from metarl_tui.commands.common import hint, run_argument, runs_dir_option, say
from metarl_tui.runs.files import open_existing, reason, shown
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.liveness import Observer

_CHUNK = 1 << 20
_POLL_SECONDS = 0.2
_LONGEST_LINE = 1 << 20


def lines_of(folder: RunFolder, *, follow: bool = False) -> Iterator[str]:
    """The lines of the worker's log; with ``follow`` also those to come, until nobody trains the run.

    Raises :class:`RunError` when the log can't be read.
    """
    try:
        descriptor = open_existing(folder.log)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{shown(folder.log)}: {reason(error)}") from error
    observer, rest = Observer(folder), b""
    try:
        while True:
            # Looked at before reading: what a worker wrote before its end is still read.
            going_on = follow and not observer.is_over(observer.observe())
            while chunk := os.read(descriptor, _CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
                rest = rest[-_LONGEST_LINE:]
            if not going_on:
                break
            time.sleep(_POLL_SECONDS)
    finally:
        os.close(descriptor)
    if rest:
        yield rest.decode("utf-8", "replace")


@click.command()
@run_argument
@click.option("--follow", "-f", is_flag=True, help="go on until the run has ended")
@runs_dir_option
def log(reference: str, runs_dir: Path, follow: bool) -> None:
    """Print the log of RUN's worker: warnings of environments, and the traceback of a failure."""
    folder = find_run(runs_dir, reference)
    empty = True
    for line in lines_of(folder, follow=follow):
        empty = False
        say(line)
    if empty:
        hint(f"the worker of run {folder.short_id} has written nothing")
