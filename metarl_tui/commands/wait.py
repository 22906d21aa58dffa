"""``wait``: block until a run has ended, for scripts."""

from __future__ import annotations

import time
from pathlib import Path

import click

from metarl_tui.commands.common import run_argument, runs_dir_option, say
from metarl_tui.runs.find import find_run
from metarl_tui.runs.liveness import Observer

_POLL_SECONDS = 0.2
_WELL = ("finished", "stopped")


@click.command()
@run_argument
@runs_dir_option
def wait(reference: str, runs_dir: Path) -> int:
    """Wait until RUN has ended, and say how.

    Exit code 0 when it finished or was stopped, 1 when it failed, its process is gone, or nobody is seen to
    train it.
    """
    folder = find_run(runs_dir, reference)
    observer = Observer(folder)
    while True:
        standing = observer.observe()
        if observer.is_over(standing):
            break
        time.sleep(_POLL_SECONDS)
    why = f": {standing.why}" if standing.why else ""
    say(f"{standing.state} at iteration {standing.iteration}{why}")
    return 0 if standing.state in _WELL else 1
