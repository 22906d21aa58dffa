"""Files of a run: private from their creation, replaced atomically, and read without trust.

A run may have come from someone else, so nothing here follows a link in a file's place, waits on a pipe
or reads more than it was told to.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from metarl_tui.text import clean
from trainers.reading import open_existing, read_bounded, read_exactly, regular

__all__ = [
    "RunError",
    "is_own_folder",
    "make_folder",
    "make_folders",
    "open_existing",
    "open_private",
    "read_bounded",
    "read_exactly",
    "reason",
    "shown",
    "sync_folder",
    "write_all",
    "write_atomically",
    "write_new",
]

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


class RunError(Exception):
    """Something about a run is not as it must be. The message is for people and says what to do."""


def shown(path: Path | str) -> str:
    """A path as it is shown in a message."""
    return clean(path, 300)


def reason(error: OSError) -> str:
    """What the system says, in words: ``No space left on device``."""
    return clean(error.strerror or error)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the regular file at ``path``, made with mode 0600 (whatever the umask) if missing.

    Raises :class:`OSError`; a link or a special file in its place counts as one.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except FileExistsError:
        return regular(os.open(path, flags))
    os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, however many calls it takes. Raises :class:`OSError`."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_new(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make a private file that must not exist yet. Raises :class:`OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, PRIVATE_FILE)
    try:
        os.fchmod(descriptor, PRIVATE_FILE)
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)  # of a descriptor the system names none
        raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file at ``path``: whoever reads it finds the old content or the new, never a part.

    ``durable`` makes sure that it outlives a power cut. Raises :class:`OSError`; nothing is left behind.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        write_new(temporary, data, durable=durable)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folders(path: Path) -> None:
    """Make a private folder, and those above it that are missing; raises as :func:`make_folder` does.

    One that is there, or a link to one, stays as it is.
    """
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folders(path.parent)
    make_folder(path)


def make_folder(path: Path) -> None:
    """Make a private folder in one that is there. Raises :class:`OSError`.

    A link in the folder's place counts as an error: what is written into a run stays inside it. So does a
    folder above it that is gone: a run that was removed does not come back in part.
    """
    try:
        path.mkdir(PRIVATE_FOLDER)
        path.chmod(PRIVATE_FOLDER)  # the umask may have taken bits away
    except FileExistsError:
        if not is_own_folder(path):
            raise NotADirectoryError(20, "Not a folder of its own", str(path)) from None
    except FileNotFoundError:
        raise FileNotFoundError(2, "the folder that it is in was removed", str(path)) from None


def is_own_folder(path: Path) -> bool:
    """Whether ``path`` is a folder and no link to one, which may lead out of a run. Never raises."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable. Raises :class:`OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
