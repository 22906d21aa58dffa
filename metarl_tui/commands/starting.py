"""Starting a run's worker, here or in the background, so that nothing stays behind when it does not start."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from metarl_tui.commands.common import CommandError, command_line, hint, require_terminal, say
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.survival import why_it_ends
from metarl_tui.text import clean

if TYPE_CHECKING:
    from metarl_tui.launch import Launch

Launched = TypeVar("Launched", bound="Launch")

COULD_NOT_START = 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END_SECONDS = 0.5


class Rejected(RunError):
    """The worker refused a value that came with the order to start."""


@dataclass(frozen=True)
class Where:
    """Where a run is trained, as asked on the command line: on the screen, here without it, or behind it.

    ``screen`` holds the screen's options.
    """

    runs_dir: Path
    screen: Mapping[str, Any]
    no_ui: bool = False
    json: bool = False
    detach: bool = False

    def check(self, *without: str) -> None:
        """Raises :class:`CommandError` for options that don't fit each other or the terminal.

        ``without`` are the words of a command that does the same without a terminal.
        """
        if self.no_ui and self.detach:
            raise CommandError("--no-ui trains in the foreground and --detach in the background: choose one")
        if self.json and not (self.no_ui or self.detach):
            raise CommandError("--json needs --no-ui or --detach")
        if not (self.no_ui or self.detach):
            require_terminal(f"{command_line(*without)} trains without it")


def begin(folder: RunFolder, where: Where, *, is_new: bool = True) -> int:
    """Train the run in ``folder``; the exit code.

    Raises :class:`RunError` where it can't start. The folder of a run ``is_new`` is then removed.
    """
    if where.no_ui:
        return in_foreground(folder, is_new=is_new, json=where.json)
    if not where.detach:
        return _on_screen(folder, where, is_new)
    in_background(folder, is_new=is_new)
    if where.json:
        path = str(folder.path.resolve())
        sys.stdout.write(orjson.dumps({"id": folder.id, "path": path}).decode() + "\n")
    else:
        say(folder.id)
    hint(f"{command_line('open', folder.short_id)} shows it, {command_line('stop', folder.short_id)} ends it")
    if ends := why_it_ends(folder):
        say(f"but {ends}", err=True)
    return 0


def _on_screen(folder: RunFolder, where: Where, is_new: bool) -> int:
    from metarl_tui.commands.screens import show_screen

    code = show_screen(where.runs_dir, run=folder, is_new=True, **where.screen)
    if is_new and (code == COULD_NOT_START or not folder.log.exists()):  # left before it was to start
        remove(folder)
    return code


def in_foreground(
    folder: RunFolder,
    *,
    is_new: bool,
    json: bool = False,
    changes: Mapping[str, Any] | None = None,
    rebase: bool = False,
) -> int:
    """Train in this process until the run ends; the exit code.

    Raises :class:`RunError` where it could not start. The folder of a run ``is_new`` is then removed.
    """
    from metarl_tui.headless import train_here
    from metarl_tui.launch import why_not_started

    reader = JournalReader(folder.journal)
    reader.seek_end()
    with _nothing_left_behind(folder, is_new):
        code = train_here(folder, json=json, asked=dict(changes or {}), rebase=rebase)
        if code == COULD_NOT_START:
            records = reader.read()
            statuses = [record for record in records if record["kind"] == "status"]
            raise _told_apart(why_not_started(statuses[-1]), records)
    return code


def in_background(
    folder: RunFolder, *, is_new: bool, changes: Mapping[str, Any] | None = None, rebase: bool = False
) -> Launch:
    """Start a worker and wait until it trains.

    Raises :class:`RunError` where it could not start. A signal meanwhile ends the worker and the program,
    by :class:`SystemExit` with 128 + its number. In both cases the folder of a run ``is_new`` is removed.
    """
    reader = JournalReader(folder.journal)
    reader.seek_end()
    with _nothing_left_behind(folder, is_new):
        try:
            return until_started(
                lambda: start(folder, changes=changes, rebase=rebase),
                lambda launch: launch.end(timeout=_END_SECONDS),
            )
        except RunError as error:
            raise _told_apart(str(error), reader.read()) from None


def until_started(begin: Callable[[], Launched], end: Callable[[Launched], None]) -> Launched:
    """Start a process with ``begin`` and wait until it trains; ``end`` ends it where that fails.

    Also where a signal comes meanwhile: nobody has learned that it runs, so nobody could stop it. The signal
    then ends the program, by :class:`SystemExit` with 128 + its number. Raises :class:`RunError`.
    """
    with _signals_held() as let_signals_end:
        launch = begin()
        try:
            let_signals_end()
            launch.wait()
        except BaseException:
            end(launch)
            raise
    return launch


def start(folder: RunFolder, *, changes: Mapping[str, Any] | None = None, rebase: bool = False) -> Launch:
    """Start a worker and don't wait. Raises :class:`RunError`."""
    from metarl_tui.launch import start as start_worker

    return start_worker(folder, changes=changes, rebase=rebase)


def remove(folder: RunFolder) -> None:
    """Remove the folder of a run that never trained."""
    shutil.rmtree(folder.path, ignore_errors=True)


@contextmanager
def _nothing_left_behind(folder: RunFolder, is_new: bool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if is_new:
            remove(folder)
        raise


def _told_apart(why: str, records: list[Record]) -> RunError:
    """The error that says ``why``: a value was refused, or else the start itself failed."""
    refusals = [
        record for record in records if record["kind"] == "control" and record["result"] == "rejected"
    ]
    refused = any(clean(record["why"]) == clean(why) for record in refusals)
    return Rejected(why) if refused else RunError(why)


@contextmanager
def _signals_held() -> Iterator[Callable[[], None]]:
    """Hold the signals that end a program until what is yielded is called: from then on they end it.

    A process just started would outlive one that a signal ended before its handle was stored.
    """
    came: list[int] = []
    ends = False

    def received(number: int, frame: FrameType | None = None) -> None:
        nonlocal ends
        came.append(number)
        if ends:
            ends = False  # a second one must not break off the cleaning up
            raise SystemExit(128 + number)

    def let_signals_end() -> None:
        nonlocal ends
        ends = True
        if came:
            received(came[0])

    # nohup has SIGHUP ignored, and a shell without job control SIGINT: so it stays.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, received) for number in heeded}
    try:
        yield let_signals_end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
