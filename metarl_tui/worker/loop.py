"""The life of a worker: lock, journal, trainer; then iterate, steer, record and save until something ends it.

``train`` is all of it, whether in a process of its own or in the foreground.
"""

from __future__ import annotations

import errno
import os
import platform
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import Heart, RunBusy, acquire_lock, write_worker
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import pending
from metarl_tui.text import clean
from metarl_tui.worker.build import build_trainer, versions
from metarl_tui.worker.control import POLL_SECONDS, Control
from metarl_tui.worker.exact import Past, changes_after, find_past, read_history
from metarl_tui.worker.interruption import Interruption
from metarl_tui.worker.saving import Saver
from trainers.declarations import InvalidValue, make_settings
from trainers.hyperparameters import TRAINERS
from trainers.settings import LiveSettings
from trainers.trainer import Iteration, Trainer, TrainingError

COULD_NOT_START, FAILED, DONE = 2, 1, 0
_DISK = (errno.ENOSPC, errno.EDQUOT)

Observer = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class AskedAtStart:
    """Changes that came with the order to start, as one request of a person."""

    values: dict[str, Any]
    rebase: bool
    request: str
    by: str


@dataclass(frozen=True)
class Ending:
    """Why the loop ended, as the journal says it, and the process's exit code."""

    state: str
    why: str
    exit_code: int
    save: bool = True


def train(
    folder: RunFolder,
    interruption: Interruption,
    *,
    attended: bool = True,
    asked: AskedAtStart | None = None,
    observer: Observer | None = None,
) -> int:
    """Train the run in ``folder`` from its newest good checkpoint until it ends; the exit code.

    ``attended`` says that a person may be waited for; without it a fault or a full disk ends the run.
    ``observer`` sees every record after it is written. Raises :class:`RunBusy` when another worker has
    the run; everything else that goes wrong is journaled.
    """
    with acquire_lock(folder):
        stale = pending(folder)
        with Journal(folder.journal) as journal:
            writer = _Writer(journal, attended, observer)
            write_worker(folder)
            heart = Heart(folder)
            writer.heart = heart
            try:
                return _Worker(folder, interruption, writer, heart, attended).run(stale, asked)
            finally:
                heart.stop()
                interruption.give_up = None


class _Writer:
    """Appends records; on a full disk it waits for space where a person can make some."""

    def __init__(self, journal: Journal, attended: bool, observer: Observer | None) -> None:
        self._journal = journal
        self._attended = attended
        self._observer = observer
        self.heart: Heart | None = None

    def __call__(self, kind: str, iteration: int, /, **fields: Any) -> None:
        record = self.patiently(lambda: self._journal.append(kind, iteration, **fields))
        if kind != "metrics":
            self.patiently(self._journal.sync)
        if self._observer:
            self._observer(record)

    def patiently(self, write: Callable[[], Any]) -> Any:
        """Do ``write``; while the disk is full, say so in the heartbeat and try again each second."""
        while True:
            try:
                done = write()
            except OSError as error:
                if error.errno not in _DISK or not self._attended or self.heart is None:
                    raise
                self.heart.message = "waiting: no space left on the disk"
                time.sleep(1.0)
            else:
                if self.heart and self.heart.message:
                    self.heart.message = ""
                return done


class _Worker:
    """One start of one run."""

    def __init__(
        self, folder: RunFolder, interruption: Interruption, record: _Writer, heart: Heart, attended: bool
    ) -> None:
        self.folder = folder
        self.config: RunConfig = folder.config
        self.interruption = interruption
        self.record = record
        self.heart = heart
        self.attended = attended
        self.iteration = 0
        self._next_step = 0.0

    def run(self, stale: list[Any], asked: AskedAtStart | None) -> int:
        """Start, train, end. Every way out is journaled."""
        try:
            past = self._prepare()
            self._start(past, asked)
        except (RunError, InvalidValue, TrainingError) as refusal:
            self._refuse(stale)
            return self._could_not_start(str(refusal))
        except Exception as error:
            traceback.print_exc()
            self._refuse(stale)
            return self._could_not_start(f"{type(error).__name__}: {error}")
        try:
            self.control.reject(stale, "queued before the run was started again")
            ending = self._loop()
            if ending.save:
                self.record.patiently(lambda: self.saver.save("final"))
        except Exception as error:
            traceback.print_exc()
            ending = Ending("failed", _in_words(error), FAILED, save=False)
        finally:
            with suppress(Exception):
                self.trainer.close()
        return self._end(ending)

    def _prepare(self) -> Past:
        """Find where to go on and build the trainer; torch is imported here."""
        history = read_history(self.folder)
        past = find_past(self.folder)
        self.iteration = past.iteration
        self.record("status", past.iteration, state="starting")
        for note in past.notes:
            self.record("note", past.iteration, text=note)
        self.trainer: Trainer = build_trainer(self.config, history.decisions)
        inexact = self.trainer.restore(past.state) if past.state else None
        if history.records:
            checkpoints.set_aside_above(self.folder, past.iteration)
            self.record("resumed", past.iteration, **{"from": past.iteration})
        if inexact:
            self.record("note", past.iteration, text=inexact)
        options = make_settings(RunOptions, {**self.config.options, **past.worker.get("options", {})})
        self.options = LiveSettings(options)
        self.saver = Saver(
            self.folder, self.trainer, TRAINERS[self.config.trainer], self.record,
            lambda: {"options": {"pace": options.pace, "on_nan": options.on_nan}},
        )  # fmt: skip
        self.saver.restore(past.worker)
        self.control = Control(
            self.folder, self.trainer, self.options, self.record, self._save_when_possible,
            changes_after(past.iteration, self.config.changes, history),
        )  # fmt: skip
        if options.paused and not history.records:
            self.control.paused = "started paused"
        return past

    def _start(self, past: Past, asked: AskedAtStart | None) -> None:
        if asked and (
            why := self.control.apply_at_start(asked.values, asked.rebase, asked.request, asked.by)
        ):
            raise RunError(why)
        if past.iteration and (why := self.trainer.finished):
            raise RunError(f"nothing left to do: {why}; give it more, for example total_steps")
        self.interruption.give_up = self._give_up
        self.record(
            "status", self.iteration, state="started",
            decisions=self.trainer.decisions(), versions=versions(), device=str(self.config.setup.get("device", "cpu")),
            pid=os.getpid(), host=platform.node(),
        )  # fmt: skip
        self._say("paused" if self.control.paused else "running", self.control.paused or "")

    def _loop(self) -> Ending:
        control = self.control
        said = control.paused
        control.begin_iteration()
        while True:
            control.poll()
            if ending := self._why_end():
                return ending
            if control.paused != said:
                said = control.paused
                if said:
                    self._save_when_possible("pause")
                self._say("paused" if said else "running", said or "")
            wait = POLL_SECONDS if said else min(POLL_SECONDS, self._next_step - time.monotonic())
            if wait > 0:
                time.sleep(wait)
                self.heart.boundary(self.iteration)
                continue
            if ending := self._iterate():
                return ending
            control.begin_iteration()

    def _why_end(self) -> Ending | None:
        signal = self.interruption.signal
        if signal:
            return Ending("stopped", f"ended by {signal.name}", self.interruption.exit_code)
        if self.control.stopping:
            return Ending("stopped", self.control.stopping, DONE)
        if why := self.trainer.finished:
            return Ending("finished", why, DONE)
        return None

    def _iterate(self) -> Ending | None:
        pace = self.options.values.pace
        self._next_step = time.monotonic() + 1 / pace if pace else 0.0
        done: Iteration = self.trainer.step()
        self.iteration = done.number
        self.heart.boundary(done.number)
        self.record("metrics", done.number, values=done.metrics)
        for event in done.events:
            self.record("note", done.number, text=clean(event))
        if done.fault:
            self.record("note", done.number, text=clean(done.fault))
            if not self.attended or self.options.values.on_nan == "stop":
                return Ending("failed", clean(done.fault), FAILED)
            self.control.paused = clean(done.fault)
        self.record.patiently(lambda: self.saver.measured(done.metrics))
        return None

    def _save_when_possible(self, reason: str) -> str:
        return str(self.record.patiently(lambda: self.saver.save(reason)))

    def _say(self, state: str, why: str) -> None:
        self.record("status", self.iteration, state=state, **({"why": clean(why)} if why else {}))
        self.saver.status = (state, clean(why))
        self.heart.state = state
        self.heart.beat()
        self.record.patiently(self.saver.write_summary)

    def _end(self, ending: Ending) -> int:
        try:
            self.control.reject(pending(self.folder), f"the run has ended: {ending.why}")
            self._say(ending.state, ending.why)
        except OSError as error:
            print(f"error: the end of the run could not be recorded: {error}")
            return ending.exit_code or FAILED
        return ending.exit_code

    def _refuse(self, stale: list[Any]) -> None:
        if hasattr(self, "control"):
            self.control.reject(stale, "queued before the run was started again")

    def _could_not_start(self, why: str) -> int:
        self.record("status", self.iteration, state="failed", why=clean(why))
        return COULD_NOT_START

    def _give_up(self, why: str, exit_code: int) -> None:
        """From a timer's thread: the iteration takes too long, so leave with the newest checkpoint."""
        newest = self.saver.newest
        self.record(
            "status", self.iteration, state="stopped", why=f"{why}; newest checkpoint: {newest or 'none'}"
        )
        os._exit(exit_code)


def _in_words(error: Exception) -> str:
    text = clean(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


__all__ = ["AskedAtStart", "Observer", "RunBusy", "train"]
