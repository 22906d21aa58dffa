"""Code that a run names: whose word it is, the reader's own or that of whoever the run came from.

A run is data. Only what trains or plays its environments imports what it names, and a run that was begun by
somebody else may name anything. So a run that its reader began, or was asked about and agreed to, carries a
mark: the HMAC of its configuration under a key that never leaves the reader's account. A run that was
received has none that fits, and neither has one whose configuration was changed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metarl_tui.runs.files import (
    make_folders,
    open_existing,
    read_bounded,
    read_exactly,
    shown,
    write_atomically,
    write_new,
)
from metarl_tui.text import clean

MARK_FILE = "trusted"

_KEY_BYTES = 32
_HARMLESS = ("data", "device")  # a colon in a file's name or in cuda:1 names no module


def names_code(setup: Mapping[str, Any], parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What of a set-up is more than a registered name: ``package.module:Class``, arguments for a constructor.

    An id that an installed package has registered, and a distribution that comes with the trainers, run
    nothing that the reader has not installed. ``parent`` is a fork's, with the values it replaced.
    """
    found = {name: value for name, value in setup.items() if _may_name_code(name, value)}
    replaced = (parent or {}).get("replaced")
    for name, value in replaced.items() if isinstance(replaced, dict) else ():
        if _may_name_code(name, value):
            found[f"the parent's {name}"] = value
    return found


def in_words(setup: Mapping[str, Any], parent: Mapping[str, Any] | None, working_folder: str) -> str:
    """What a run names that would be imported or given to it, and where it is looked for."""
    named = names_code(setup, parent)
    if data := setup.get("data"):
        named["data"] = data
    what = ", ".join(f"{name} = {clean(value, 200)}" for name, value in named.items())
    return f"{what} from the installed packages" + (f" or {shown(working_folder)}" if working_folder else "")


def _may_name_code(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return ":" in value and name not in _HARMLESS
    return isinstance(value, dict) and bool(value)


def mark(folder: Path, config: bytes) -> None:
    """Remember that the configuration ``config`` of the run in ``folder`` is trusted.

    Raises :class:`OSError` where there can be no key or the folder can't be written.
    """
    write_atomically(folder / MARK_FILE, _mark_of(config, _made_key()))


def is_marked(folder: Path, config: bytes) -> bool:
    """Whether the run in ``folder`` carries this reader's mark for ``config``. Never raises."""
    try:
        found = read_bounded(folder / MARK_FILE, 1 << 10)
        return hmac.compare_digest(found, _mark_of(config, _read_key()))
    except OSError:
        return False


def _mark_of(config: bytes, key: bytes) -> bytes:
    return hmac.new(key, config, hashlib.sha256).hexdigest().encode() + b"\n"


def _key_file() -> Path:
    import platformdirs

    return platformdirs.user_state_path("metarl-tui", appauthor=False) / "key"


def _made_key() -> bytes:
    path = _key_file()
    if not path.exists():
        make_folders(path.parent)
        whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            write_new(whole, secrets.token_bytes(_KEY_BYTES))
            # Not renamed: another process may have made one meanwhile, under which there are marks already.
            with suppress(FileExistsError):
                path.hardlink_to(whole)
        finally:
            whole.unlink(missing_ok=True)
    return _read_key()


def _read_key() -> bytes:
    descriptor = open_existing(_key_file())
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError("the key is not private")
        key = read_exactly(descriptor, _KEY_BYTES)
    finally:
        os.close(descriptor)
    if len(key) != _KEY_BYTES:
        raise OSError("not a key")
    return key
