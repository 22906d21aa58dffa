"""Start a run's worker in a session of its own, and learn whether it started or why it did not.

The worker outlives whoever started it: it has no terminal, its output goes to ``worker.log``, and what
became of the start is read from the journal like everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson

from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.text import clean


class StartFailed(RunError):
    """The worker ended before it had started; the message says why."""


def start(folder: RunFolder, *, changes: Mapping[str, Any] | None = None, rebase: bool = False) -> Launch:
    """Start the worker of ``folder``, from its newest good checkpoint if there is one.

    ``changes`` are applied before the first iteration, as a person's request. Raises :class:`RunError`
    when the folder may be written by others or a process can't be started.
    """
    folder.check_private()
    reader = JournalReader(folder.journal)
    reader.seek_end()
    command = [sys.executable, "-P", "-m", "metarl_tui.worker", str(folder.path.resolve())]
    if changes:
        command += ["--changes", orjson.dumps({"values": dict(changes), "rebase": rebase}).decode()]
    working_folder = Path(folder.config.working_folder)
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            cwd=working_folder if working_folder.is_dir() else None,
        )
    except OSError as error:
        raise StartFailed(f"the worker could not be started: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    return Launch(folder, process, reader)


class Launch:
    """A worker on its way. ``check`` never blocks, ``wait`` does."""

    def __init__(self, folder: RunFolder, process: subprocess.Popen[bytes], reader: JournalReader) -> None:
        self.folder = folder
        self._process = process
        self._reader = reader
        self._started = False
        self.resumed_from: int | None = None

    def check(self) -> Literal["starting", "started"]:
        """How far the worker is. Raises :class:`StartFailed` with the reason when it gave up."""
        if self._started:
            return "started"
        exit_code = self._process.poll()
        for record in self._reader.read():
            if record["kind"] == "resumed":
                self.resumed_from = record.get("from")
            if record["kind"] != "status":
                continue
            if record.get("state") == "started":
                self._started = True
                return "started"
            if record.get("state") in ("failed", "stopped"):
                raise StartFailed(clean(record.get("why") or f"the worker {record['state']} before it began"))
        if exit_code is not None:
            raise StartFailed(self._last_words() or f"the worker ended with exit code {exit_code}")
        return "starting"

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until the worker has started. Raises :class:`StartFailed`."""
        end = time.monotonic() + timeout
        while self.check() == "starting":
            if time.monotonic() > end:
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
            lines = self.folder.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return clean(next((line for line in reversed(lines) if line.strip()), "")).removeprefix("error: ")
