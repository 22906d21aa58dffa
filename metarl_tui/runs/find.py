"""Finding runs: all of a folder, or the one that a person means."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from metarl_tui.runs.files import RunError, reason, shown
from metarl_tui.runs.folder import CONFIG_FILE, RunFolder
from metarl_tui.text import clean

LATEST = "latest"

_STAMP = re.compile(r"\d{8}-\d{6}(?=-)")
_MOST_SHOWN = 8


def list_runs(runs_dir: Path) -> list[RunFolder]:
    """The runs in ``runs_dir``, newest first; a missing folder has none.

    Runs whose configuration is malformed are included: their ``config`` raises. Age is told by the time
    in the id, otherwise by that of the configuration file. Raises :class:`RunError` for a folder that
    can't be read.
    """
    found = []
    try:
        with os.scandir(runs_dir) as entries:
            for entry in entries:
                try:
                    written = os.stat(f"{entry.path}/{CONFIG_FILE}").st_mtime_ns  # noqa: PTH116 - three times as fast
                except OSError:
                    continue
                found.append((_age(entry.name, written), written, entry.name, Path(entry.path)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"runs folder {shown(runs_dir)}: {reason(error)}") from error
    found.sort(reverse=True)
    return [RunFolder(path) for *_, path in found]


def _age(name: str, written: int) -> str:
    stamp = _STAMP.match(name)
    return stamp[0] if stamp else time.strftime("%Y%m%d-%H%M%S", time.gmtime(written / 1e9))


def find_run(runs_dir: Path, reference: str) -> RunFolder:
    """The run that ``reference`` means: a path, id, an id's last part, a unique prefix, a name, ``latest``.

    Raises :class:`RunError`: none (with the nearest names), or several (which it lists).
    """
    reference = reference.strip()
    if not reference:
        raise RunError(
            "RUN is empty: must be a path, an id, the last part of an id, a prefix, a name or latest"
        )
    if reference != LATEST and (found := by_path(reference)):
        return found
    runs = list_runs(runs_dir)
    if not runs:
        raise RunError(f"no run {clean(reference, 80)}: there are no runs in {shown(runs_dir)}")
    if reference == LATEST:
        return runs[0]
    for matches in (
        [run for run in runs if run.id == reference],
        [run for run in runs if run.short_id == reference],
        [run for run in runs if means_id(run, reference)],
    ):
        if matches:
            return _only(matches, reference)
    named = [run for run in runs if run.title == reference]
    if named:
        return _only(named, reference)
    if members := group_members(runs, reference):
        listed = ", ".join(_described(run) for run in members[:_MOST_SHOWN])
        raise RunError(f"{clean(reference, 80)} is a group of {len(members)} runs; name one: {listed}")
    raise RunError(f"no run {clean(reference, 80)} in {shown(runs_dir)}; {_near(runs, reference)}")


def group_members(runs: Iterable[RunFolder], name: str) -> list[RunFolder]:
    """Those of ``runs`` that are of the group called ``name``, by seed."""
    found = [folder for folder in runs if name and _group(folder) == name]
    return sorted(found, key=lambda folder: (_seed(folder), folder.id))


def means_id(run: RunFolder, reference: str) -> bool:
    """Whether ``reference`` is the id of ``run``, its last part or its beginning."""
    return run.short_id == reference or run.id.startswith(reference)


def by_path(reference: str) -> RunFolder | None:
    """The run whose folder ``reference`` is; ``None`` for what is no path.

    Raises :class:`RunError` for a path that leads to no run.
    """
    try:
        path = Path(reference).expanduser()
        if (path / CONFIG_FILE).is_file():
            # "." and ".." name no folder: what they stand for has a name, also once it is gone.
            return RunFolder(path.resolve() if path.name in ("", "..") else path)
    except (OSError, ValueError, RuntimeError):  # a name that no path can have, or an unknown ~user
        return None
    if os.sep in reference:
        what = f"it has no {CONFIG_FILE}" if path.is_dir() else "there is no such folder"
        raise RunError(f"{shown(reference)} is not a run: {what}")
    return None


def _only(matches: list[RunFolder], reference: str) -> RunFolder:
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(_described(run) for run in matches[:_MOST_SHOWN])
    more = f" and {len(matches) - _MOST_SHOWN} more" if len(matches) > _MOST_SHOWN else ""
    raise RunError(f"{clean(reference, 80)} matches {len(matches)} runs: {listed}{more}; name one by its id")


def _described(run: RunFolder) -> str:
    return run.id if run.title == run.short_id else f"{run.id} ({run.title})"


def _group(folder: RunFolder) -> str:
    try:
        return folder.config.group
    except RunError:
        return ""


def _seed(folder: RunFolder) -> int:
    seed = folder.config.setup.get("seed")
    return seed if isinstance(seed, int) else 0


def _near(runs: list[RunFolder], reference: str) -> str:
    words = dict.fromkeys(word for run in runs for word in (run.short_id, run.title, run.id))
    near = difflib.get_close_matches(clean(reference, 80), words, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"the newest is {_described(runs[0])}"
