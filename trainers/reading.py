"""Reading files that may have come from somebody else.

Nothing here follows a link in a file's place, waits on a pipe or reads more than it was told to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST_OF_A_CHECKPOINT = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
"""Bytes that one file of a checkpoint may have: loaded it is bytes, arrays, tensors and a network at once."""
MOST_OF_A_DESCRIPTION = 1 << 20
"""Bytes that a run's configuration or a checkpoint's manifest may have."""

_SPARSE = 1 << 30


def open_existing(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the regular file at ``path``. Raises :class:`OSError`, also for links and pipes."""
    return regular(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))


def regular(descriptor: int) -> int:
    """``descriptor``, if it is one of a regular file; otherwise it is closed. Raises :class:`OSError`.

    A file of gigabytes that are hardly there on the disk would take hours to read: it counts as none.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    on_disk = 512 * status.st_blocks
    if status.st_size > max(_SPARSE, 100 * on_disk) and _has_hole(descriptor, status.st_size):
        os.close(descriptor)
        raise OSError(f"a sparse file of {status.st_size} bytes, of which {on_disk} are there")
    return descriptor


def _has_hole(descriptor: int, size: int) -> bool:
    """Not told by the blocks alone: some file systems don't count them, or compress."""
    return hasattr(os, "SEEK_HOLE") and os.lseek(descriptor, 0, os.SEEK_HOLE) < size


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of the regular file at ``path``. Raises :class:`OSError`, also for more than ``most``."""
    descriptor = open_existing(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise OSError(f"{size} bytes, at most {most} are allowed")
        return read_exactly(descriptor, size)
    finally:
        os.close(descriptor)


def read_exactly(descriptor: int, size: int, offset: int = 0) -> bytes:
    """``size`` bytes from ``offset``, fewer where the file ends earlier."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
