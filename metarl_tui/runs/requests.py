"""Requests: what people ask of a run, one file each, in the order in which they were sent.

Sending is writing a file; what became of it stands in the journal as a ``control`` record with the
request's id. A file may also be written by hand, under any other name that ends in ``.json`` (then renamed
into place): ``{"id": "mine-1", "time": 0, "action": "set", "changes": {"gamma": 0.9}}``. An id stands for one
request of a run: a second one with it is rejected.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import orjson

from metarl_tui.runs.files import (
    RunError,
    is_own_folder,
    make_folder,
    read_bounded,
    reason,
    shown,
    write_atomically,
)
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.runs.liveness import Observer, Standing
from metarl_tui.runs.records import is_moment, seal, sealed, tidy
from metarl_tui.runs.states import ENDED
from metarl_tui.text import clean

TOO_EARLY = "queued before the run was started again"
"""Why a worker rejects what it finds when it comes to life: it was asked of another start."""

Action: TypeAlias = Literal["set", "pause", "resume", "save", "stop"]

_ACTIONS = get_args(Action)
_LARGEST = 1 << 16
_MOST_AT_ONCE = 1_000
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SENT_NAME = re.compile(r"\d{20}-[0-9a-f]{10}\.json")
_LOOK_BACK = 1 << 20  # bytes of journal in which the answer to a request that was just sent must lie
_GONE_CHECK_SECONDS = 0.5

_answered: set[Path] = set()  # files of answered requests that could not be removed


class WorkerGone(RunError):
    """Nobody is there to answer. ``standing`` tells what became of the run."""

    def __init__(self, message: str, standing: Standing) -> None:
        super().__init__(message)
        self.standing = standing


@dataclass(frozen=True)
class Request:
    """One wish: ``changes`` are values by name; ``rebase`` scales what remains of a schedule."""

    id: str
    time: float
    by: str
    action: Action
    changes: dict[str, Any] = field(default_factory=dict)
    rebase: bool = False
    file: str = field(default="", compare=False)
    """Its file's name in the requests folder."""


def send(
    folder: RunFolder, action: Action, changes: Mapping[str, Any] | None = None, *, rebase: bool = False
) -> Request:
    """Queue a request. Raises :class:`RunError` where others may write to the run, or it can't be written."""
    folder.check_private()
    now = time.time_ns()
    request_id = secrets.token_hex(5)
    request = Request(
        id=request_id,
        time=now / 1e9,
        by=sender(),
        action=action,
        changes=tidy(dict(changes or {})),
        rebase=rebase,
        file=f"{now:020}-{request_id}.json",
    )
    fields = {name: getattr(request, name) for name in ("id", "time", "by", "action", "changes", "rebase")}
    try:
        make_folder(folder.requests)
        write_atomically(folder.requests / request.file, seal(orjson.dumps(fields)), durable=False)
    except FileNotFoundError:
        gone = f"{shown(folder.path)}: the run's folder was removed"
        raise RunError(f"{gone}; the request was not sent") from None
    except OSError as error:
        raise RunError(f"{shown(folder.requests)}: {reason(error)}; the request was not sent") from error
    return request


def sender() -> str:
    """Who asks: ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no entry for this user, no variable that names one
        user = str(os.getuid())
    return clean(f"{user}@{os.uname().nodename}", 120)


def pending(
    folder: RunFolder,
    bad: list[str] | None = None,
    *,
    most: int | None = _MOST_AT_ONCE,
    only_look: bool = False,
) -> list[Request]:
    """The queued requests in order, at most the ``most`` oldest; ``None`` for all there are.

    A malformed file is moved aside, to its name with ``.bad``, and its name is added to ``bad``; with
    ``only_look``, for who is not the worker, it is passed over and stays. Raises nothing for a folder
    that is missing, can't be read or is a link to another, whose files are not ours: then there are none.
    """
    try:
        with os.scandir(folder.requests) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".json") and entry.name[0] != "."]
    except OSError:
        return []
    if not names or not is_own_folder(folder.requests):
        return []
    requests = []
    for name in sorted(names)[:most]:
        path = folder.requests / name
        if path in _answered:
            continue
        try:
            requests.append(_read(path))
        except FileNotFoundError:  # withdrawn by its sender
            continue
        except (OSError, ValueError):
            if bad is not None:
                bad.append(clean(name, 120))
            if not only_look:
                _move_aside(path)
    return requests


def moved_aside(folder: RunFolder) -> int:
    """How many malformed requests were moved aside."""
    try:
        return sum(entry.name.endswith(".bad") for entry in folder.requests.iterdir())
    except OSError:
        return 0


def discard(folder: RunFolder, request: Request) -> None:
    """Remove an answered or withdrawn request's file.

    Never raises: a file that can't be removed is not handed out again in this process.
    """
    path = folder.requests / request.file
    try:
        path.unlink(missing_ok=True)
    except OSError:
        _answered.add(path)


def wait_for(
    folder: RunFolder, request: Request, timeout: float | None = None, poll: float = 0.05
) -> Record | None:
    """The ``control`` record that answers ``request``; ``None`` when none came within ``timeout`` seconds.

    Raises :class:`WorkerGone` (and withdraws the request) when nobody is there to answer, and
    :class:`RunError` when the worker has put the request aside as malformed.
    """
    reader = JournalReader(folder.journal)
    reader.seek_tail(_LOOK_BACK)
    observer = Observer(folder)
    began = next_check = time.monotonic()
    while True:
        now = time.monotonic()
        # Whether the worker lives is looked at before its journal is: an answer is never overlooked.
        standing = observer.observe() if now >= next_check else None
        if (answer := _answer(reader, request)) is not None:
            return answer
        if standing is not None:
            next_check = now + _GONE_CHECK_SECONDS
            _check_still_queued(folder, request, standing, observer)
        if timeout is not None and now - began >= timeout:
            return None
        time.sleep(poll)


def _answer(reader: JournalReader, request: Request) -> Record | None:
    while True:
        for record in reader.read():
            if record["kind"] == "control" and record["request"] == request.id:
                return record
        if reader.at_end:
            return None


def _check_still_queued(folder: RunFolder, request: Request, standing: Standing, observer: Observer) -> None:
    if (folder.requests / f"{request.file}.bad").exists():
        raise RunError(f"the worker of run {folder.short_id} could not read the request")
    if standing.state == "starting" or (standing.alive and standing.state not in ENDED):
        return
    if standing.state == "unknown" and not observer.is_over(standing):
        return
    discard(folder, request)
    why = f": {standing.why}" if standing.why else ""
    raise WorkerGone(f"nobody answers: run {folder.short_id} is {standing.state}{why}", standing)


def _read(path: Path) -> Request:
    """Raises :class:`OSError` or :class:`ValueError` for what is no request."""
    data = read_bounded(path, _LARGEST).strip()
    intact = sealed(data)
    if intact is False or (intact is None and _SENT_NAME.fullmatch(path.name)):
        raise ValueError("wrong checksum")
    found = tidy(orjson.loads(data))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    request_id, action = found.get("id"), cast(Action, found.get("action"))
    moment: Any = found.get("time")
    changes, rebase = found.get("changes", {}), found.get("rebase", False)
    if not isinstance(request_id, str) or not _ID.fullmatch(request_id):
        raise ValueError("id")
    if not is_moment(moment) or action not in _ACTIONS:
        raise ValueError("time or action")
    if not isinstance(changes, dict) or not isinstance(rebase, bool):
        raise ValueError("changes or rebase")
    by = clean(found.get("by", ""), 120)
    return Request(request_id, float(moment), by, action, changes, rebase, path.name)


def _move_aside(path: Path) -> None:
    try:
        path.rename(path.with_name(path.name + ".bad"))
    except OSError:
        return  # it stays, and is found malformed again; it is never carried out
