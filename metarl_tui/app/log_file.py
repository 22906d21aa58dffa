"""A log file as lines, followed as it grows; only its end is kept."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from metarl_tui.runs.files import open_existing
from metarl_tui.text import clean_lines

KEPT_LINES = 10_000
TAIL_BYTES = 1 << 20


class LogFile:
    """Cleaned lines of the file at ``path``, oldest first. A file that shrank is read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.dropped = 0
        """Lines that were read and are no longer kept."""
        self.unfinished = ""
        """What follows the last newline."""
        self.trouble = ""
        self._offset: int | None = None

    def read(self) -> bool:
        """Take what was added, at most ``TAIL_BYTES``. Whether anything changed."""
        try:
            descriptor = open_existing(self.path)
            try:
                added = self._read(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            trouble = f"no log: {error.strerror or error}"
            changed, self.trouble = trouble != self.trouble, trouble
            return changed
        self.trouble = ""
        if not added:
            return False
        *whole, rest = (self.unfinished + added.decode("utf-8", "replace")).split("\n")
        self.unfinished = rest[-TAIL_BYTES:]
        lines = [line for part in whole for line in (clean_lines(part) or [""])[-1:]]
        self.dropped += max(len(self.lines) + len(lines) - KEPT_LINES, 0)
        self.lines.extend(lines)
        return True

    def _read(self, descriptor: int) -> bytes:
        size = os.fstat(descriptor).st_size
        if self._offset is None or size < self._offset:
            self.lines.clear()
            self.unfinished = ""
            self._offset = max(size - TAIL_BYTES, 0)
            skip_first = self._offset > 0
        else:
            skip_first = False
        added = os.pread(descriptor, TAIL_BYTES, self._offset)
        self._offset += len(added)
        return added[added.find(b"\n") + 1 :] if skip_first else added
