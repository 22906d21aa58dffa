"""What is left on the shell when the screen is gone."""

from __future__ import annotations

import shlex
from pathlib import Path

from metarl_tui.runs.folder import RunFolder, default_runs_folder
from metarl_tui.runs.states import OVER
from metarl_tui.survival import why_it_ends
from metarl_tui.text import clean


def farewell(folder: RunFolder, state: str, why: str, iteration: int, *, watched: bool) -> list[str]:
    """Lines for the shell. ``watched``: the run was trained while it was on the screen."""
    run = reference(folder)
    name = folder.title if folder.title == folder.short_id else f"{folder.short_id} ({folder.title})"
    if state in OVER:
        because = f": {clean(why)}" if why else ""
        how = f" · replay it: metarl-tui replay {run}" if folder.path.is_dir() else ""
        return [f"run {name} {state} at iteration {iteration}{because}{how}"] if watched else []
    if state == "unknown":
        return []
    doing = "is paused" if state == "paused" else "goes on"
    ends = why_it_ends(folder)
    return [
        f"run {name} {doing}: metarl-tui open {run} · stop it: metarl-tui stop {run}",
        *([f"but {ends}"] if ends else []),
    ]


def reference(folder: RunFolder) -> str:
    """How to name the run on a command line: its short id, or its path where that would not be found."""
    try:
        here = folder.path.parent.resolve() == Path(default_runs_folder()).resolve()
    except OSError:
        here = False
    return folder.short_id if here else shlex.quote(str(folder.path))
