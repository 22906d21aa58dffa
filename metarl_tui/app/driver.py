"""Textual's terminal, made to outlive the closing of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class _Forgiving:
    """A file that drops what can't be written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return int(self._file.write(text))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class TerminalDriver(LinuxDriver):
    """A driver whose output may go nowhere.

    What the app shows is written by a thread. An error would end that thread: the queue before it fills
    up, the app waits for room in it for ever, and a terminal that was closed leaves a process behind.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._file: Any = _Forgiving(self._file)
