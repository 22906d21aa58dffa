"""``wait``: block until a run has ended, for scripts."""

from __future__ import annotations

import time
from pathlib import Path

import click

from metarl_tui.commands.common import run_argument, runs_dir_option, say
from metarl_tui.commands.control import WELL, label
from metarl_tui.runs.groups import find_runs
from metarl_tui.runs.liveness import Observer

_POLL_SECONDS = 0.2


@click.command()
@run_argument
@runs_dir_option
def wait(reference: str, runs_dir: Path) -> int:
    """Wait until RUN has ended, and say how.

    RUN may be a group: then until all of its runs have, with a line for each as it ends. Exit code 0 when it
    finished or was stopped, 1 when it failed, its process is gone, or nobody is seen to train it.
    """
    runs, is_group = find_runs(runs_dir, reference)
    observers, code = [Observer(folder) for folder in runs], 0
    while True:
        for observer in list(observers):
            standing = observer.observe()
            if not observer.is_over(standing):
                continue
            observers.remove(observer)
            which = f"{label(observer.folder)}  " if is_group else ""
            why = f": {standing.why}" if standing.why else ""
            say(f"{which}{standing.state} at iteration {standing.iteration}{why}")
            code = code if standing.state in WELL else 1
        if not observers:
            return code
        time.sleep(_POLL_SECONDS)
