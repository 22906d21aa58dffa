"""Groups: runs of one configuration and several seeds, under one name."""

from __future__ import annotations

import re
from pathlib import Path

from metarl_tui.runs.find import LATEST, by_path, find_run, group_members, list_runs
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import clean

_DAY = re.compile(r"\d{8}-\d")


def find_group(runs_dir: Path, name: str) -> list[RunFolder]:
    """The runs of the group called ``name``, by seed; none where there is no such group.

    Raises :class:`RunError` for a folder that can't be read.
    """
    return group_members(list_runs(runs_dir), name)


def find_runs(runs_dir: Path, reference: str) -> tuple[list[RunFolder], bool]:
    """The run that ``reference`` means, or the runs of the group of that name, and whether it is a group.

    A path, an id and the last part of one go before a group's name, as does the beginning of an id that has
    all of its day; any other beginning comes after it. Raises :class:`RunError` as :func:`find_run` does, and
    where a run and a group have the same name.
    """
    name = reference.strip()
    runs = [] if name == LATEST or by_path(name) else list_runs(runs_dir)
    is_id = any(name in (run.id, run.short_id) for run in runs)
    if not is_id and _DAY.match(name):  # no configuration is read for what names itself an id
        is_id = any(run.id.startswith(name) for run in runs)
    members = [] if is_id else group_members(runs, name)
    if not members:
        return [find_run(runs_dir, reference)], False
    called_so = [run.id for run in runs if run.title == name]
    if called_so:
        raise RunError(
            f"{clean(name, 80)} is the name of run {' and '.join(called_so)} and of a group of "
            f"{len(members)} runs; name the run by its id, the group's by theirs"
        )
    return members, True
