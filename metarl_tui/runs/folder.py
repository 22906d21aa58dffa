"""A run's folder: its name, its configuration and where its files are."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import orjson

from metarl_tui.runs.files import (
    RunError,
    make_folder,
    make_folders,
    read_bounded,
    reason,
    shown,
    sync_folder,
    write_atomically,
)
from metarl_tui.runs.lock import Lock, RunBusy, take
from metarl_tui.runs.privacy import check_own_files, check_private
from metarl_tui.runs.run_config import RunConfig
from metarl_tui.runs.trust import in_words, is_marked, mark
from metarl_tui.text import clean

__all__ = [
    "NotTrusted",
    "RunBusy",
    "RunConfig",
    "RunError",
    "RunFolder",
    "acquire_lock",
    "default_runs_folder",
    "delete",
    "write_atomically",
]

CONFIG_FILE = "run.json"
RUNS_DIR_VARIABLE = "METARL_RUNS_DIR"

_LARGEST_CONFIG = 1 << 20
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without what is easily mistaken for something else
_ID = re.compile(r"\d{8}-\d{6}-[a-z0-9-]+")


class NotTrusted(RunError):
    """A run that was begun by somebody else, and names code that nobody has agreed to run."""


class RunFolder:
    """A run on disk. Making one of these reads nothing; the configuration is read when asked for.

    ``trusted`` is the ``trusted_digest`` of a configuration whose code whoever makes this one knows: it holds
    for those bytes and no others, whatever is written into the folder meanwhile.
    """

    def __init__(self, path: Path | str, *, trusted: str = "") -> None:
        self.path = Path(path)
        self._trusted = trusted
        self._naming_code = b""  # the configuration as it was read, where it names code

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def id(self) -> str:
        """The folder's name, fit to be shown."""
        return clean(self.path.name or self.path.resolve().name, 120)

    @property
    def short_id(self) -> str:
        """The last part of the id: ``k3f9``."""
        return self.id.rpartition("-")[2]

    @cached_property
    def config(self) -> RunConfig:
        """What the run was started with. Raises :class:`RunError` naming the file and what is wrong in it."""
        path = self.path / CONFIG_FILE
        try:
            data = read_bounded(path, _LARGEST_CONFIG)
            config = RunConfig.from_json(data)
        except FileNotFoundError:
            raise RunError(f"{shown(self.path)} is not a run: it has no {CONFIG_FILE}") from None
        except OSError as error:
            raise RunError(f"{shown(path)}: {reason(error)}") from None
        except ValueError as error:
            raise RunError(f"{shown(path)}: {error}") from None
        if config.trusted:
            return config
        self._naming_code = data
        if self._trusted == _digest(data) or is_marked(self.path, data):
            return replace(config, trusted=True)
        return config

    @property
    def trusted_digest(self) -> str:
        """SHA-256 of a configuration that names code and is trusted, for a process that reads it again.

        Empty where the run names no code or is not trusted.
        """
        return _digest(self._naming_code) if self.config.trusted and self._naming_code else ""

    @property
    def title(self) -> str:
        """The name a person gave, or the short id. Never raises."""
        try:
            return self.config.name or self.short_id
        except RunError:
            return self.short_id

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def requests(self) -> Path:
        return self.path / "requests"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat"

    @property
    def worker(self) -> Path:
        return self.path / "worker.json"

    @property
    def launched(self) -> Path:
        return self.path / "launched.json"

    @property
    def log(self) -> Path:
        return self.path / "worker.log"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @classmethod
    def create(cls, runs_dir: Path, config: RunConfig) -> RunFolder:
        """Make the folder of a new run. Raises :class:`RunError` where it can't be written."""
        path = None
        try:
            make_folders(runs_dir)
            path = runs_dir / _new_id(runs_dir, config)
            path.mkdir(0o700)
            path.chmod(0o700)  # the umask may have taken bits away
            data = config.to_json()
            folder = cls(path, trusted=_digest(data) if config.trusted else "")
            make_folder(folder.requests)
            make_folder(folder.checkpoints)
            write_atomically(path / CONFIG_FILE, data)
            if config.trusted and config.names_code:
                _remember(path, data)
            sync_folder(runs_dir)
        except BaseException as error:
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, OSError):
                raise RunError(
                    f"runs folder {shown(runs_dir)}: {reason(error)}; choose another with --runs-dir"
                ) from error
            raise
        return folder

    def trust(self) -> None:
        """Agree to the code that the configuration named when it was read; remembered if there is a key."""
        if not self.config.trusted:
            self.config = replace(self.config, trusted=True)
            _remember(self.path, self._naming_code)

    def check_trusted(self) -> None:
        """Raises :class:`NotTrusted` where the run names code that nobody has agreed to run."""
        if not self.config.trusted:
            raise NotTrusted(
                f"run {self.short_id} was not begun by you here, and would run {self.code_in_words}; "
                "if you trust whoever it came from, add --trust"
            )

    @property
    def code_in_words(self) -> str:
        """What the run names that would be imported, and where it is looked for."""
        return in_words(self.config.setup, self.config.parent, self.config.working_folder)

    def check_private(self) -> None:
        """Raises :class:`RunError`, with what mends it, when others may write to it."""
        parts = (self.path / CONFIG_FILE, self.requests, self.journal, self.checkpoints)
        check_private(self.path, parts)

    def check_before_training(self) -> None:
        """As :meth:`check_private`, and :class:`RunError` where a worker would write into files elsewhere."""
        self.check_private()
        check_own_files(self.path, (self.journal, self.heartbeat, self.log))


def _remember(folder: Path, config: bytes) -> None:
    with suppress(OSError):
        mark(folder, config)


def _digest(config: bytes) -> str:
    return hashlib.sha256(config).hexdigest()


def _new_id(runs_dir: Path, config: RunConfig) -> str:
    taken = {entry.name.rpartition("-")[2] for entry in runs_dir.iterdir()}
    while (last := "".join(secrets.choice(_ALPHABET) for _ in range(4))) in taken:
        pass
    # In UTC, so that ids are in the order in which runs were begun, whatever a clock's zone does.
    parts = [time.strftime("%Y%m%d-%H%M%S", time.gmtime(config.created)), _slug(config.trainer)]
    subject = re.sub(r"-v\d+$", "", config.subject.rpartition(":")[2])
    return "-".join(part for part in [*parts, _slug(subject), last] if part)


def _slug(text: str, limit: int = 24) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:limit].strip("-")


def default_runs_folder(explicit: Path | None = None) -> Path:
    """Where runs go: ``explicit``, else ``$METARL_RUNS_DIR``, ``./saved_runs`` if there, the user's data."""
    if explicit is not None:
        return explicit.expanduser()
    if named := os.environ.get(RUNS_DIR_VARIABLE):
        return Path(named).expanduser()
    here = Path("saved_runs")
    if here.is_dir():
        return here
    import platformdirs

    return platformdirs.user_data_path("metarl-tui", appauthor=False) / "runs"


def acquire_lock(folder: RunFolder) -> Lock:
    """Become the one writer of ``folder``; released on :meth:`Lock.release` or with the process.

    Raises :class:`RunBusy`, naming who holds it where that is known, and :class:`RunError` where the file
    can't be made or locked.
    """
    return take(folder.lock, lambda: f"run {folder.short_id} is being trained by {_holder(folder)}")


def _holder(folder: RunFolder) -> str:
    try:
        worker = orjson.loads(read_bounded(folder.worker, 1 << 14))
        return f"process {int(worker['pid'])} on {clean(worker['host'], 60)}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"


def delete(folder: RunFolder) -> None:
    """Remove a run and all that is in its folder; of links only the links.

    Raises :class:`RunBusy` while it is being trained, and :class:`RunError` for what is not a run's own
    folder or can't be removed. The configuration goes last, so that a removal that was cut short shows.
    """
    if folder.path.is_symlink():
        raise RunError(f"{shown(folder.path)} is a link; delete the folder it points to")
    folder = RunFolder(folder.path.resolve())  # a folder can't be removed by the name "."
    if not (folder.path / CONFIG_FILE).is_file():
        raise RunError(f"{shown(folder.path)} is not a run: it has no {CONFIG_FILE}")
    if not _ID.fullmatch(folder.path.name):
        _ = folder.config  # a folder with another name and a run.json of some other program is not ours
    try:
        with acquire_lock(folder):
            last = (CONFIG_FILE, folder.lock.name)
            for entry in sorted(os.scandir(folder.path), key=lambda entry: entry.name in last):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    Path(entry.path).unlink()
        folder.path.rmdir()
    except OSError as error:
        raise RunError(f"{shown(folder.path)} can't be removed whole: {reason(error)}") from error
