"""Starting a run's worker, here or in the background, so that nothing stays behind when it does not start."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from metarl_tui.commands.common import CommandError, command_line, hint, require_terminal, say
from metarl_tui.runs.find import list_runs, means_id
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.groups import find_group
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.survival import why_it_ends
from metarl_tui.text import clean
from metarl_tui.worker.interruption import ending_signals
from trainers.declarations import InvalidValue

if TYPE_CHECKING:
    from metarl_tui.launch import Launch

Launched = TypeVar("Launched", bound="Launch")

COULD_NOT_START = 2
_END_SECONDS = 0.5
_TRAINED = ("running", "paused", "stopped")
"""States that a run has once it trains, a fork once it has come to where it leaves its parent."""


class Rejected(RunError):
    """The worker refused a value that came with the order to start."""


class _TrainsOn(SystemExit):
    """This program ends, by a signal or as nobody reads it any more, and the worker goes on."""


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


def create(runs_dir: Path, config: RunConfig) -> RunFolder:
    """Make the folder of a new run.

    Raises :class:`InvalidValue` where its name means something else already, and :class:`RunError` where it
    can't be made.
    """
    check_name_is_free(runs_dir, config.name)
    return RunFolder.create(runs_dir, config)


def check_name_is_free(runs_dir: Path, name: str) -> None:
    """Raises :class:`InvalidValue` where a group or the id of a run is meant by ``name``.

    Two runs may have the same: who names them is then asked which is meant.
    """
    if not name:
        return
    if find_group(runs_dir, name):
        raise InvalidValue("name", name, "a group of runs has this name; choose another")
    if hidden := [run for run in list_runs(runs_dir) if means_id(run, name)]:
        raise InvalidValue("name", name, f"means the run {hidden[0].id}; choose another")


def begin_new(make: Callable[[], RunFolder | None], where: Where) -> int | None:
    """Train the run that ``make`` makes; the exit code, or ``None`` where it makes none.

    A signal while it is made is heeded afterwards. It ends the program then, as every error does, with
    nothing left behind. Raises what ``make`` and :func:`begin` raise.
    """
    with signals_held() as let_signals_end:
        folder = make()
        if folder is None:
            return None
        try:
            let_signals_end()
            return begin(folder, where)
        except _TrainsOn:
            raise
        except BaseException:
            if not folder.launched.exists():  # else it is for those who have started a worker to say
                remove_untrained(folder)
            raise


def begin(folder: RunFolder, where: Where, *, is_new: bool = True) -> int:
    """Train the run in ``folder``; the exit code.

    Raises :class:`RunError` where it can't start. The folder of a run ``is_new`` is then removed.
    """
    if where.no_ui:
        return in_foreground(folder, is_new=is_new, json=where.json)
    if not where.detach:
        return _on_screen(folder, where, is_new)
    is_named = False

    def name_it() -> None:
        nonlocal is_named
        if is_named:
            return
        is_named = True
        page = {"id": folder.id, "path": str(folder.path.resolve())}
        try:
            sys.stdout.write((orjson.dumps(page).decode() if where.json else folder.id) + "\n")
            sys.stdout.flush()  # whoever reads it may outlive this program
        except OSError:
            say(f"{folder.short_id} trains; {_how_to_come_back(folder)}", err=True)
            raise

    in_background(folder, is_new=is_new, on_its_way=name_it, only_tells=True)
    name_it()
    hint(_how_to_come_back(folder))
    if ends := why_it_ends(folder):
        say(f"but {ends}", err=True)
    ignore_signals()
    return 0


def _how_to_come_back(folder: RunFolder) -> str:
    short = folder.short_id
    return f"{command_line('open', short)} shows it, {command_line('stop', short)} ends it"


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
    try:
        code = train_here(folder, json=json, asked=dict(changes or {}), rebase=rebase)
        if code == COULD_NOT_START:
            records = reader.read()
            statuses = [record for record in records if record["kind"] == "status"]
            raise _told_apart(why_not_started(statuses[-1] if statuses else {}), records)
    except BaseException:
        if is_new:
            remove_untrained(folder)
        raise
    return code


def in_background(
    folder: RunFolder,
    *,
    is_new: bool,
    changes: Mapping[str, Any] | None = None,
    rebase: bool = False,
    on_its_way: Callable[[], None] | None = None,
    only_tells: bool = False,
) -> Launch:
    """Start a worker and wait until it trains.

    Raises :class:`RunError` where it could not start. A signal meanwhile ends the worker and the program,
    by :class:`SystemExit` with 128 + its number. In both cases the folder of a run ``is_new`` is removed.
    A fork that has begun to train forward is left alone by a signal: ``on_its_way`` is then called.
    ``only_tells``: see :func:`until_started`.
    """
    reader = JournalReader(folder.journal)
    reader.seek_end()
    try:
        return until_started(
            lambda: start(folder, changes=changes, rebase=rebase),
            lambda launch: _end(launch, is_new),
            on_its_way,
            only_tells=only_tells,
        )
    except _TrainsOn:
        with suppress(OSError):  # the terminal may be what has gone
            say(f"{folder.short_id} trains on; {_how_to_come_back(folder)}", err=True)
        raise
    except BaseException as error:
        told_apart = _told_apart(str(error), reader.read()) if isinstance(error, RunError) else None
        if is_new:
            remove(folder)
        if told_apart:
            raise told_apart from None
        raise


def _end(launch: Launch, is_new: bool) -> None:
    if is_new:
        launch.end(timeout=_END_SECONDS)
    else:
        launch.terminate()  # it says in the journal how it ended
        launch.end()


def until_started(
    begin: Callable[[], Launched],
    end: Callable[[Launched], None],
    on_its_way: Callable[[], None] | None = None,
    *,
    only_tells: bool = False,
) -> Launched:
    """Start a process with ``begin`` and wait until it trains; ``end`` ends it where that fails.

    Also where a signal comes meanwhile: nobody has learned that it runs, so nobody could stop it. The signal
    then ends the program, by :class:`SystemExit` with 128 + its number. Of a fork that has begun to train
    forward ``on_its_way`` tells, and a signal leaves it alone. A program that then ``only_tells`` of what it
    has started, and leaves, is ended by no signal any more. Raises :class:`RunError`.
    """
    with signals_held() as let_signals_end:
        launch = begin()
        try:
            let_signals_end()
            launch.wait(on_its_way=on_its_way)
            if only_tells:
                for number in ending_signals():
                    signal.signal(number, _too_late)
        except BaseException as error:
            if not isinstance(error, RunError) and launch.goes_forward:
                raise _TrainsOn(getattr(error, "code", 1)) from error
            end(launch)
            raise
    return launch


def _too_late(number: int, frame: FrameType | None) -> None:
    """A signal when all is done."""


def ignore_signals() -> None:
    """To be called when all is said, and nothing will be started any more.

    While Python ends it heeds no handler of ours: a signal would then end it as if nothing had been started.
    """
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)


def start(folder: RunFolder, *, changes: Mapping[str, Any] | None = None, rebase: bool = False) -> Launch:
    """Start a worker and don't wait. Raises :class:`RunError`."""
    from metarl_tui.launch import start as start_worker

    return start_worker(folder, changes=changes, rebase=rebase)


def remove(folder: RunFolder) -> None:
    """Remove the folder of a run that nobody has learned of."""
    shutil.rmtree(folder.path, ignore_errors=True)


def remove_untrained(folder: RunFolder) -> None:
    """Remove the folder of a run, unless it has trained: then it stays, whatever went wrong later."""
    reader = JournalReader(folder.journal)
    while (records := reader.read()) or not reader.at_end:
        if any(record["kind"] == "metrics" or record.get("state") in _TRAINED for record in records):
            return
    if not reader.problem:  # what can't be read may have trained
        remove(folder)


def _told_apart(why: str, records: list[Record]) -> RunError:
    """The error that says ``why``: a value was refused, or else the start itself failed."""
    refusals = [
        record for record in records if record["kind"] == "control" and record["result"] == "rejected"
    ]
    refused = any(clean(record["why"]) == clean(why) for record in refusals)
    return Rejected(why) if refused else RunError(why)


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold the signals that end a program until what is yielded is called: from then on they end it.

    A process just started would outlive one that a signal ended before its handle was stored, and a folder
    just made would stay.
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

    before = {number: signal.signal(number, received) for number in ending_signals()}
    try:
        yield let_signals_end
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is received:  # whoever took its place meanwhile has said what follows
                signal.signal(number, handler)
