"""Who may write to a run: whoever can, steers it and decides what it names."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from metarl_tui.runs.files import RunError, reason, shown
from metarl_tui.text import clean


def check_private(folder: Path, parts: Iterable[Path]) -> None:
    """Raises :class:`RunError`, with what mends it, when others may write to a run's ``folder``.

    They may where it or one of its ``parts`` is theirs, unless that is root, or where the mode lets its group
    or everybody. Parts that are missing are passed over.
    """
    for path in (folder, *parts):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"{shown(path)}: {reason(error)}") from error
        if status.st_uid not in (os.geteuid(), 0):
            raise RunError(
                f"{shown(path)} belongs to {_user(status.st_uid)}, who could then steer the run; work on a "
                f"copy (cp -r), or as root mend it with: chown -R {os.geteuid()} {shlex.quote(shown(folder))}"
            )
        if status.st_mode & 0o022:
            who = "everyone" if status.st_mode & 0o002 else "its group"
            raise RunError(
                f"{shown(path)} may be written by {who}, who could then steer the run; "
                f"mend it with: chmod go-w {shlex.quote(shown(path))}"
            )


def check_own_files(folder: Path, written_in_place: Iterable[Path]) -> None:
    """Raises :class:`RunError`, with what mends it, where a file of a run's ``folder`` has another name too.

    What a worker writes ``in place`` would be written into the file of that name, which may lie anywhere: an
    archive may bring hard links to files of who unpacks it.
    """
    for path in written_in_place:
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise RunError(
                f"{shown(path)} has another name elsewhere (a hard link), and what the run writes would be "
                f"written there too; work on a copy: cp -r {shlex.quote(shown(folder))} COPY"
            )


def _user(number: int) -> str:
    try:
        return clean(pwd.getpwuid(number).pw_name, 60)
    except KeyError:  # of another machine
        return f"user {number}"
