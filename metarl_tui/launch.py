"""Start a run's worker in a session of its own, and learn whether it started or why it did not.

The worker outlives whoever started it: it has no terminal, its output goes to ``worker.log``, and what
became of the start is read from the journal like everything else.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import orjson

from metarl_tui.runs.files import open_existing, open_private, read_exactly, reason, shown
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.process import write_launched
from metarl_tui.runs.states import ENDED
from metarl_tui.text import clean

_LEAST_BYTES = 1 << 14  # that a disk must have for a last word
_TAIL_BYTES = 1 << 14


class StartFailed(RunError):
    """The worker ended before it had started; the message says why."""


def start(
    folder: RunFolder,
    *,
    changes: Mapping[str, Any] | None = None,
    rebase: bool = False,
    attended: bool = True,
) -> Launch:
    """Start the worker of ``folder``, from its newest good checkpoint if there is one.

    ``changes`` are applied before the first iteration, as a person's request; ``attended`` says that there is
    a person, for whom it may wait. Raises :class:`RunError`
    when the folder may be written by others, names code that is not trusted, or a process can't be started.
    """
    folder.check_before_training()
    folder.check_trusted()
    reader = JournalReader(folder.journal)
    reader.seek_end()
    command = [sys.executable, "-P", "-m", "metarl_tui.worker", str(folder.path.resolve())]
    if not attended:
        command.append("--unattended")
    if changes:
        command += ["--changes", orjson.dumps({"values": dict(changes), "rebase": rebase}).decode()]
    # Whoever starts it has been asked, and what was answered could perhaps not be remembered.
    command += ["--trusted", folder.trusted_digest] if folder.trusted_digest else []
    working_folder = Path(folder.config.working_folder) if folder.config.names_code else None
    process = _spawn(command, folder, working_folder)
    with suppress(OSError):  # it only tells others sooner that somebody is on the way
        write_launched(folder, process.pid)
    return Launch(folder, process, reader)


def start_group(members: Sequence[RunFolder], most: int) -> GroupLaunch:
    """Start a supervisor that trains ``members``, at most ``most`` at a time.

    Raises :class:`RunError` where its process can't be started.
    """
    command = [sys.executable, "-P", "-m", "metarl_tui.supervisor", "--most", str(most)]
    for folder in members:
        command += ["--run", str(folder.path.resolve()), folder.trusted_digest]
    readers = [JournalReader(folder.journal) for folder in members]
    for reader in readers:
        reader.seek_end()
    return GroupLaunch(members[0], _spawn(command, members[0]), readers)


def _spawn(
    command: list[str], folder: RunFolder, working_folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """A process in a session of its own whose output goes to the log of ``folder``."""
    try:
        descriptor = open_private(folder.log, os.O_WRONLY | os.O_APPEND)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                cwd=working_folder if working_folder and working_folder.is_dir() else None,
            )
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartFailed(
            f"the worker of {shown(folder.path)} could not be started: {reason(error)}"
        ) from error


def why_not_started(status: Mapping[str, Any]) -> str:
    """Why a worker ended before it had started, from the status with which it ended."""
    state = status.get("state")
    if state not in ENDED:  # it could not say how it ended
        return "the worker ended before it began"
    why = status.get("refused") or status.get("why") or f"the worker {state} before it began"
    return clean(why, 2_000)


class Launch:
    """A worker on its way. ``check`` never blocks, ``wait`` does.

    A fork that is trained forward first has started when it has come to where it leaves its parent: until
    then it may be found to be another.
    """

    def __init__(self, folder: RunFolder, process: subprocess.Popen[bytes], reader: JournalReader) -> None:
        self.folder = folder
        self._process = process
        self._reader = reader
        self._started = False
        self.goes_forward = False
        """Whether it is a fork, and has begun to train forward: from then on its folder is worth keeping."""
        self.resumed_from: int | None = None

    def check(self) -> Literal["starting", "started"]:
        """How far the worker is. Raises :class:`StartFailed` with the reason when it gave up."""
        if self._started:
            return "started"
        exit_code = self._process.poll()
        for record in self._reader.read():
            if record["kind"] == "resumed":
                self.resumed_from = record.get("from")
            if record["kind"] == "status" and self._has_begun(record):
                self._started = True
                return "started"
        if exit_code is not None:
            raise StartFailed(self._last_words() or self._silence("worker", exit_code))
        return "starting"

    def _has_begun(self, status: Mapping[str, Any]) -> bool:
        """Whether ``status`` says that the run trains. Raises :class:`StartFailed`."""
        state = status.get("state")
        if state == "started":
            self.goes_forward = "forward_to" in status
            return not self.goes_forward
        if self.goes_forward and state in ("running", "paused", "stopped"):
            return True  # also where somebody has stopped it on the way: it goes on from there
        if state in ENDED:
            raise StartFailed(why_not_started(status))
        return False

    @property
    def exit_code(self) -> int | None:
        """The worker's exit code; ``None`` while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Tell the worker to save and end."""
        self._process.terminate()

    def interrupt(self) -> None:
        """Tell the worker, which was told to end, to leave at once."""
        self._process.send_signal(signal.SIGINT)

    def wait(self, timeout: float = 120.0, on_its_way: Callable[[], None] | None = None) -> None:
        """Wait until the worker has started, a fork however long its way. Raises :class:`StartFailed`.

        ``on_its_way`` is called once for a fork that has begun to train forward.
        """
        end = time.monotonic() + timeout
        while self.check() == "starting":
            if self.goes_forward and on_its_way:
                on_its_way()
                on_its_way = None
            if time.monotonic() > end and not self.goes_forward:
                raise StartFailed(f"the worker has not started within {timeout:g} s; see {self.folder.log}")
            time.sleep(0.02)

    def end(self, timeout: float = 10.0) -> None:
        """Wait for a worker that failed to start to be gone, so that its folder can be removed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        try:
            descriptor = open_existing(self.folder.log)
        except OSError:
            return ""
        try:
            size = os.fstat(descriptor).st_size
            tail = read_exactly(descriptor, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
        finally:
            os.close(descriptor)
        lines = tail.decode("utf-8", "replace").splitlines()
        return clean(next((line for line in reversed(lines) if line.strip()), "")).removeprefix("error: ")

    def _silence(self, who: str, exit_code: int) -> str:
        """Of who has ended without a word; where the disk is full, nothing could be written of it."""
        ended = f"the {who} ended with exit code {exit_code}"
        try:
            disk = os.statvfs(self.folder.path)
        except OSError as error:
            return f"{ended}; {shown(self.folder.path)}: {reason(error)}"
        if disk.f_bavail * disk.f_frsize < _LEAST_BYTES:
            return f"{ended}; {shown(self.folder.path)}: {os.strerror(errno.ENOSPC)}"
        return ended


class GroupLaunch(Launch):
    """A supervisor on its way: it has started when one of its members has."""

    def __init__(
        self, folder: RunFolder, process: subprocess.Popen[bytes], readers: Sequence[JournalReader]
    ) -> None:
        super().__init__(folder, process, readers[0])
        self._readers = readers

    def check(self) -> Literal["starting", "started"]:
        """As :meth:`Launch.check`; it has given up when its process has ended and none has started."""
        exit_code = self.exit_code
        records = (record for reader in self._readers for record in reader.read())
        if any(record["kind"] == "status" and record.get("state") == "started" for record in records):
            self._started = True
        if self._started:
            return "started"
        if exit_code is not None:
            raise StartFailed(self._last_words() or self._silence("supervisor", exit_code))
        return "starting"
