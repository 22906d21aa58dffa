"""Which process trains a run, so that it is never taken for another with the same number.

A process is known by host, boot, number and start time. Its number means something only where its number
space is seen: on the same host, in the same PID namespace.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from metarl_tui.runs.files import RunError, read_bounded, reason, shown, write_atomically
from metarl_tui.runs.folder import RunBusy, RunFolder
from metarl_tui.runs.journal import last_records, newest
from metarl_tui.runs.states import ENDED
from metarl_tui.text import clean

_LARGEST = 1 << 14
_START_TOLERANCE = 1.0  # seconds, where the start time is read from a clock rather than in ticks


@dataclass(frozen=True)
class Identity:
    """A process. ``start_time`` is in clock ticks since boot on Linux, else in unix seconds.

    ``boot_id`` and ``namespace`` are empty where the system has none.
    """

    host: str
    boot_id: str
    pid: int
    start_time: float
    namespace: str = ""


@dataclass(frozen=True)
class Worker:
    """The newest worker of a run; journal records up to number ``seq`` are those of earlier ones.

    ``waits`` says of a process that is to become the worker that it first lets other runs have their turn.
    """

    identity: Identity
    seq: int = 0
    waits: bool = False


def own_identity() -> Identity:
    """This process."""
    return _identity(os.getpid())


def _identity(pid: int) -> Identity:
    return Identity(_host(), _boot_id(), pid, start_time(pid) or 0.0, _namespace())


def start_time(pid: int) -> float | None:
    """When the running process ``pid`` started; ``None`` where there is none, or it has ended as a zombie."""
    if sys.platform != "linux":
        return _start_time_elsewhere(pid)
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field, the name in parentheses, may hold anything, also parentheses.
    fields = status[status.rfind(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X", b"x") else float(fields[19])


def _start_time_elsewhere(pid: int) -> float | None:
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def is_alive(identity: Identity) -> bool | None:
    """Whether that very process runs; ``None`` where it can't be known from here (another host)."""
    if identity.host != _host():
        return None
    if identity.boot_id != _boot_id():
        return False
    if identity.namespace != _namespace():
        return None
    started = start_time(identity.pid)
    tolerance = 0.0 if sys.platform == "linux" else _START_TOLERANCE
    return started is not None and abs(started - identity.start_time) <= tolerance


def check_no_other_trains(folder: RunFolder) -> None:
    """Raises :class:`RunBusy` where another process does, though the lock is ours: its file was removed."""
    former = read_worker(folder)
    if former and former.identity != own_identity() and is_alive(former.identity):
        status = newest(folder.journal, "status")
        if status is None or status["seq"] <= former.seq or status["state"] not in ENDED:
            raise RunBusy(f"run {folder.short_id} is being trained by process {former.identity.pid}")


def write_worker(folder: RunFolder) -> Identity:
    """Say that this process is the run's worker from now on; to be called with the lock held.

    Raises :class:`RunError` where it can't be written.
    """
    identity = own_identity()
    try:
        _write(folder.worker, identity, folder)
    except OSError as error:
        raise RunError(f"{shown(folder.worker)}: {reason(error)}") from error
    return identity


def write_launched(folder: RunFolder, pid: int, *, waits: bool = False) -> None:
    """Say that process ``pid`` was just started to become the run's worker; it has no lock yet.

    With ``waits`` it is one that will start the worker when other runs have had their turn. Raises
    :class:`OSError`.
    """
    _write(folder.launched, _identity(pid), folder, waits=waits)


def _write(path: Path, identity: Identity, folder: RunFolder, **more: bool) -> None:
    records = last_records(folder.journal)
    fields = {**asdict(identity), "seq": records[-1]["seq"] if records else 0, **more}
    write_atomically(path, orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))


def read_worker(folder: RunFolder) -> Worker | None:
    """The newest worker, or ``None`` where none is recorded or the record is damaged. Never raises."""
    return _read(folder.worker)


def read_launched(folder: RunFolder) -> Worker | None:
    """The process that was last started to become the worker, as :func:`read_worker`."""
    return _read(folder.launched)


def _read(path: Path) -> Worker | None:
    try:
        found: Any = orjson.loads(read_bounded(path, _LARGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    host, boot_id, namespace = (found.get(name, "") for name in ("host", "boot_id", "namespace"))
    pid, started, seq = found.get("pid"), found.get("start_time"), found.get("seq", 0)
    if not (isinstance(host, str) and isinstance(boot_id, str) and isinstance(namespace, str)):
        return None
    if type(pid) is not int or not 0 < pid < 1 << 31 or type(seq) is not int:
        return None
    if not isinstance(started, int | float):
        return None
    identity = Identity(clean(host, 120), clean(boot_id, 120), pid, float(started), clean(namespace, 120))
    return Worker(identity, seq, found.get("waits") is True)


def _host() -> str:
    return clean(os.uname().nodename, 120)


@cache
def _boot_id() -> str:
    try:
        return clean(Path("/proc/sys/kernel/random/boot_id").read_text().strip(), 120)
    except OSError:
        return ""


@cache
def _namespace() -> str:
    try:
        return clean(Path("/proc/self/ns/pid").readlink(), 120)
    except OSError:
        return ""
