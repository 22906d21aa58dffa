"""Groups: runs of one configuration and several seeds, under one name."""

from __future__ import annotations

from pathlib import Path

from metarl_tui.runs.find import find_run, list_runs
from metarl_tui.runs.folder import RunError, RunFolder


def find_group(runs_dir: Path, name: str) -> list[RunFolder]:
    """The runs of the group called ``name``, by seed; none where there is no such group.

    Raises :class:`RunError` for a folder that can't be read.
    """
    found = [folder for folder in list_runs(runs_dir) if name and _group(folder) == name]
    return sorted(found, key=lambda folder: (_seed(folder), folder.id))


def find_runs(runs_dir: Path, reference: str) -> tuple[list[RunFolder], bool]:
    """The run that ``reference`` means, or the runs of the group of that name, and whether it is a group.

    Raises :class:`RunError` as :func:`find_run` does, where it is neither.
    """
    try:
        return [find_run(runs_dir, reference)], False
    except RunError:
        if members := find_group(runs_dir, reference.strip()):
            return members, True
        raise


def _group(folder: RunFolder) -> str:
    try:
        return folder.config.group
    except RunError:
        return ""


def _seed(folder: RunFolder) -> int:
    seed = folder.config.setup.get("seed")
    return seed if isinstance(seed, int) else 0
