"""Whether a worker in the background outlives the login or the job that began it; some systems end it."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.process import is_alive, read_launched, read_worker
from metarl_tui.text import clean

_LARGEST = 1 << 16
_JOB = re.compile(rb"\0SLURM_JOB_ID=([^\0]+)")
_SESSION = re.compile(rb"/session-[^/\s]+\.scope")
_SETTING = re.compile(r"^\s*(#?)\s*(KillUserProcesses|KillOnlyUsers|KillExcludeUsers)\s*=(.*)$", re.MULTILINE)


def why_it_ends(folder: RunFolder, root: Path = Path("/")) -> str:
    """Why the worker of a run ends with its login or job, and what to do; empty where it goes on.

    ``root`` is where the system's files are found. What can't be read says nothing.
    """
    for worker in (read_worker(folder), read_launched(folder)):
        if worker is not None and is_alive(worker.identity):
            return _why_it_ends(root / f"proc/{worker.identity.pid}", root)
    return ""


def _why_it_ends(process: Path, root: Path) -> str:
    if job := _JOB.search(b"\0" + _read(process / "environ")):
        number = clean(job[1].decode("utf-8", "replace"), 20)
        return f"Slurm ends it with job {number}; in a batch script train with --no-ui"
    if _SESSION.search(_read(process / "cgroup")) and _logind_kills(root):
        return (
            "logind ends it when you log out (KillUserProcesses=yes); after loginctl enable-linger, "
            "start it with systemd-run --user --scope"
        )
    return ""


def _logind_kills(root: Path) -> bool:
    """Whether logind is configured to end this user's processes; see logind.conf(5)."""
    found = {"KillUserProcesses": "no", "KillOnlyUsers": "", "KillExcludeUsers": "root"}
    for path in _settings_files(root):
        for comment, name, value in _SETTING.findall(_read(path).decode("utf-8", "replace")):
            # What is shown as a comment is what this systemd was built with; drop-ins have no such lines.
            if not comment or path.name == "logind.conf":
                found[name] = value.strip()
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return False
    if user in found["KillExcludeUsers"].split():
        return False
    only = found["KillOnlyUsers"].split()
    kills = found["KillUserProcesses"].lower() in ("yes", "true", "on", "1")
    return kills and (not only or user in only)


def _settings_files(root: Path) -> Iterator[Path]:
    """The files that set up logind, those that count most last."""
    for folder in ("usr/lib", "etc"):
        yield root / folder / "systemd/logind.conf"
    drop_ins = {
        path.name: path
        for folder in ("usr/lib", "run", "etc")
        for path in (root / folder / "systemd/logind.conf.d").glob("*.conf")
    }
    yield from (drop_ins[name] for name in sorted(drop_ins))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""
