"""One writer per run: an advisory lock on a file that ends with the process that holds it.

A POSIX record lock is not inherited by a forked child, so environment processes that outlive a killed
worker hold nothing. It ends when the process closes *any* descriptor of the file; so a process opens the
lock file only to take the lock, and remembers which ones it holds.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from metarl_tui.runs.files import RunError, open_private, reason, shown

_held: dict[tuple[int, int], int] = {}  # device and inode of a lock file → the process that holds it here


class RunBusy(RunError):
    """Another process is training this run."""


class Lock:
    """A lock that is held; as a context manager it is released at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner = os.getpid()
        self._key = _key(os.fstat(descriptor))
        _held[self._key] = self._owner

    def release(self) -> None:
        """Let others have it; may be called twice. In a forked child this changes nothing for the parent."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if self._owner == os.getpid():
            _held.pop(self._key, None)
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(path: Path, busy: Callable[[], str]) -> Lock:
    """Take the lock on the file at ``path`` without waiting.

    Raises :class:`RunBusy` with the message of ``busy`` while someone holds it, and :class:`RunError` where
    the file system has no locks or the file can't be made.
    """
    try:
        if _held.get(_key(path.lstat())) == os.getpid():
            raise RunBusy(busy())
    except OSError:
        pass  # opening it tells
    try:
        descriptor = open_private(path, os.O_RDWR)
    except OSError as error:
        raise RunError(f"{shown(path)}: {reason(error)}; the run's folder must be writable") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_nlink == 0 or _key(path.stat()) != _key(os.fstat(descriptor)):
            raise FileNotFoundError(errno.ENOENT, "the lock file was replaced", str(path))
        return Lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise RunBusy(busy()) from None
        raise RunError(f"{shown(path)} can't be locked: {reason(error)}") from error


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
