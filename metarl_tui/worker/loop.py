"""The life of a worker: lock, journal, trainer; then iterate, steer, record and save until something ends it.

``train`` is all of it, whether in a process of its own or in the foreground.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from metarl_tui.runs import checkpoints
from metarl_tui.runs.files import reason, shown
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.heartbeat import last_journaled
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import Heart, acquire_lock, longest_iteration
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.process import check_no_other_trains, write_worker
from metarl_tui.runs.requests import TOO_EARLY, Request, discard, pending
from metarl_tui.text import clean
from metarl_tui.worker import forked
from metarl_tui.worker.build import build_trainer, machine, versions
from metarl_tui.worker.control import POLL_SECONDS, Control
from metarl_tui.worker.exact import changes_after, find_past, read_history, repeating
from metarl_tui.worker.failures import in_words, log_traceback, taking_over, with_place
from metarl_tui.worker.forked import ParentRows, forked_at, former, measures_another
from metarl_tui.worker.interruption import Interruption
from metarl_tui.worker.saving import Saver
from metarl_tui.worker.writer import Observer, Writer
from trainers.declarations import InvalidValue, make_settings
from trainers.hyperparameters import TRAINERS
from trainers.settings import LiveSettings
from trainers.trainer import Iteration, State, Trainer, TrainingError

COULD_NOT_START, FAILED, DONE = 2, 1, 0


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
    ``observer`` sees every record after it is written, and must not raise. Raises :class:`RunError` when
    another worker has the run, its folder can't be written or names code that is not trusted; everything
    later is journaled.
    """
    folder.check_trusted()
    interruption.heed(str(folder.config.options.get("stop_signal", RunOptions.stop_signal)))
    with acquire_lock(folder):
        check_no_other_trains(folder)
        stale = pending(folder, most=None)
        try:
            journal = Journal(folder.journal, at_least=last_journaled(folder))
        except OSError as error:
            raise RunError(f"{shown(folder.journal)}: {reason(error)}") from error
        with journal:
            writer = Writer(journal, attended, observer)
            write_worker(folder)
            writer.heart = heart = Heart(folder, journaled=journal.seq)
            heart.before = interruption.keep = writer.keep
            if journal.missing:
                writer("note", 0, text=f"the journal has lost its last {journal.missing} records")
            try:
                return _Worker(folder, interruption, writer, heart, attended).run(stale, asked)
            finally:
                heart.stop()
                interruption.give_up = interruption.keep = None


class _Worker:
    """One start of one run."""

    def __init__(
        self, folder: RunFolder, interruption: Interruption, record: Writer, heart: Heart, attended: bool
    ) -> None:
        self.folder = folder
        self.config: RunConfig = folder.config
        self.interruption = interruption
        self.record = record
        self.heart = heart
        self.attended = attended
        self.iteration = 0
        self._step_began = 0.0

    def run(self, stale: list[Request], asked: AskedAtStart | None) -> int:
        """Start, train, end. Every way out is journaled."""
        try:
            self._prepare()
            later = asked if self.iteration < forked_at(self.config) else None
            self._start(None if later else asked)
        except (RunError, InvalidValue, TrainingError) as refusal:
            return self._could_not_start(str(refusal), stale)
        except BaseException as error:  # an environment's module may even call sys.exit
            log_traceback(self.folder)
            return self._could_not_start(with_place(error), stale)
        try:
            self.control.reject(stale, TOO_EARLY)
            ending = self._catch_up() or self._refuse(later) or self._loop()
            if ending.save:
                self._save("final")
        except BaseException as error:
            ending = self._failed(error)
        finally:
            with suppress(Exception):
                self.trainer.close()
        return self._end(ending)

    def _failed(self, error: BaseException) -> Ending:
        on_its_way = self.iteration < forked_at(self.config)
        if on_its_way and isinstance(error, RunError):
            return Ending("failed", str(error), COULD_NOT_START, save=False)
        log_traceback(self.folder)
        if on_its_way:  # the log goes with the fork
            return Ending("failed", with_place(error), COULD_NOT_START, save=False)
        return Ending("failed", in_words(error), FAILED, save=False)

    def _prepare(self) -> None:
        """Find where to go on and build the trainer; torch is imported here."""
        self.history = read_history(self.folder)
        self.record("status", self.iteration, state="starting")
        if self.config.parent:
            forked.check_complete(self.folder, self.history)
        past = find_past(self.folder)
        self.iteration = past.iteration
        for note in past.notes:
            self.record("note", past.iteration, text=note)
        self.trainer: Trainer = build_trainer(self.config, self.history.decisions)
        self.decisions = self.trainer.decisions()
        if self.config.parent:
            self._check_fork(past.state, is_former=past.iteration < forked_at(self.config))
        self._restore(past.state, past.iteration)
        options = make_settings(RunOptions, {**self.config.options, **past.worker.get("options", {})})
        self.options = LiveSettings(options)
        self.saver = Saver(
            self.folder,
            self.trainer,
            TRAINERS[self.config.trainer],
            self.record,
            lambda: {"options": {"pace": options.pace, "on_nan": options.on_nan}},
        )
        self.saver.restore(past.worker)
        if past.iteration == forked_at(self.config) and measures_another(self.config):
            self.saver.begin_anew()
        self.control = Control(
            self.folder,
            self.trainer,
            self.options,
            self.record,
            self._save,
            changes_after(past.iteration, self.config.changes, self.history),
            before_change=self.saver.hold_unchanged,
            answered=self.history.answered,
        )
        if options.paused and not self.history.records:
            self.control.paused = "started paused"

    def _check_fork(self, state: State | None, *, is_former: bool) -> None:
        """Compare the fork's spaces with its parent's; on its way to the parent's iteration be that one."""
        own = self.trainer.state()
        if is_former and former(self.config) != self.config:
            self.trainer.close()
            self.trainer = build_trainer(former(self.config))
        forked.check_spaces(self.config, own, state or self.trainer.state())

    def _restore(self, state: State | None, iteration: int) -> None:
        """Let the trainer go on from ``state``; journal what is not exact about that."""
        if state is None:
            return
        leaving = bool(self.config.parent) and iteration == forked_at(self.config)
        with taking_over(self.folder, iteration):
            inexact = self.trainer.restore(forked.fitted(self.config, state) if leaving else state)
        if inexact and iteration < forked_at(self.config):
            raise RunError(forked.why_not_forward(iteration, inexact))
        if inexact:
            self.record("note", iteration, text=forked.in_fork(inexact) if leaving else inexact)

    def _start(self, asked: AskedAtStart | None) -> None:
        if why := self._why_refused(asked):
            raise RunError(why)
        is_fork = self.config.parent is not None
        more_to_come = self.iteration < forked_at(self.config) or self.control.is_due
        if self.iteration and not more_to_come and (why := self.trainer.finished):
            raise RunError(f"nothing left to do: {why}")
        if self.history.records and (self.history.started or not is_fork):
            checkpoints.set_aside_above(self.folder, self.iteration)
            self.record("resumed", self.iteration, **{"from": self.iteration})
        self.interruption.give_up = self._give_up
        self.heart.watch = self._stop_if_stalled
        self.record(
            "status",
            self.iteration,
            state="started",
            decisions=self.decisions,
            versions=versions(),
            device=str(self.config.setup.get("device", "cpu")),
            pid=os.getpid(),
            host=platform.node(),
            **({"forward_to": goal} if (goal := forked_at(self.config)) > self.iteration else {}),
        )
        if not self.history.records:
            for remark in self.trainer.remarks():
                self.record("note", self.iteration, text=clean(remark))
        if self.iteration >= goal:
            self._say("paused" if self.control.paused else "running", self.control.paused or "")

    def _why_refused(self, asked: AskedAtStart | None) -> str | None:
        if asked is None:
            return None
        return self.control.apply_at_start(asked.values, asked.rebase, asked.request, asked.by)

    def _refuse(self, asked: AskedAtStart | None) -> Ending | None:
        """Apply what was asked at the start of a fork only now that it has arrived; its refusal ends it."""
        why = self._why_refused(asked)
        return Ending("stopped", why, COULD_NOT_START, save=False) if why else None

    def _catch_up(self) -> Ending | None:
        """Train a fork forward to where it leaves its parent, by the steering its journal begins with."""
        start, goal = self.iteration, forked_at(self.config)
        if start >= goal:
            return None
        due = self.control.due
        self._say("starting", f"training forward from iteration {start} to {goal}, as the parent did")
        repeat = repeating(self.folder, self.trainer, self.options, due)
        parent = ParentRows(self.folder, start)
        while self.trainer.iteration < goal:
            self.control.poll_for_stop()
            if ending := self._told_to_end():
                return replace(ending, save=False)
            repeat.begin_iteration()
            done = self.trainer.step()
            if why := parent.why_another(done, machine):
                return Ending("failed", why, COULD_NOT_START, save=False)
            self.saver.measured(done.metrics)
            self.heart.message = f"training forward as the parent did: iteration {done.number} of {goal}"
            self.heart.boundary(done.number)
        self.heart.message = ""
        if former(self.config) != self.config:
            state = self.trainer.state()
            self.trainer.close()
            self.trainer = build_trainer(self.config, self.decisions)
            self.control.trainer = self.saver.trainer = self.trainer
            self._restore(state, goal)
            self.saver.leave_held()
        if measures_another(self.config):
            self.saver.begin_anew()
        self.record("note", goal, text=parent.outcome(goal))
        self._save("forked")
        self.iteration = goal  # until here it can be taken back
        self._say("running", "")
        return None

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
                    self._save("pause")
                self._say("paused" if said else "running", said or "")
            wait = POLL_SECONDS if said else min(POLL_SECONDS, self._until_next_step())
            if wait > 0:
                self.record.flush()
                time.sleep(wait)
                self.heart.boundary(self.iteration)
                continue
            if ending := self._iterate():
                return ending
            control.begin_iteration()

    def _told_to_end(self) -> Ending | None:
        signal = self.interruption.signal
        if signal:
            return Ending("stopped", f"ended by {signal.name}", self.interruption.exit_code)
        if self.control.stopping:
            return Ending("stopped", self.control.stopping, DONE)
        return None

    def _why_end(self) -> Ending | None:
        if ending := self._told_to_end():
            return ending
        if why := self.trainer.finished:
            return Ending("finished", why, DONE)
        return None

    def _until_next_step(self) -> float:
        """Seconds that the pace in force asks to wait."""
        pace = self.options.values.pace
        return self._step_began + 1 / pace - time.monotonic() if pace else 0.0

    def _iterate(self) -> Ending | None:
        self._step_began = time.monotonic()
        done: Iteration = self.trainer.step()
        self.iteration = done.number
        self.heart.boundary(done.number)
        self.record.row(done.number, done.metrics)
        for event in done.events:
            self.record("note", done.number, text=clean(event))
        for picture in done.pictures:
            self.record("picture", done.number, picture=picture)
        if done.fault:
            self.record("note", done.number, text=clean(done.fault))
            if not self.attended or self.options.values.on_nan == "stop":
                return Ending("failed", clean(done.fault), FAILED)
            self.control.paused = clean(done.fault)
        if why := self.saver.measured(done.metrics):
            self._save(why)
        return None

    def _save(self, why: str) -> str:
        self.record.flush()  # after a kill the journal must hold every iteration before a checkpoint
        return str(self.record.patiently(lambda: self.saver.save(why)))

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
            what = f"the end of the run could not be recorded: {in_words(error)}"
            print(f"error: {what} ({ending.state}: {ending.why})", file=sys.stderr)
            return ending.exit_code or FAILED
        return ending.exit_code

    def _could_not_start(self, why: str, stale: list[Request]) -> int:
        """A run that had ended stays as it had; one that never started has failed."""
        if hasattr(self, "control"):
            self.control.reject(stale, TOO_EARLY)
        before = self.history.ended if hasattr(self, "history") else None
        if before:
            fields = {"state": before["state"], "why": before.get("why", ""), "refused": clean(why, 2_000)}
        else:
            fields = {"state": "failed", "why": clean(why)}
        self.record("status", self.iteration, **fields)
        return COULD_NOT_START

    def _give_up(self, why: str, exit_code: int) -> None:
        """From a timer's thread: what goes on takes too long, so leave with the newest checkpoint."""
        if self.heart.message:
            why = f"{why.partition(';')[0]} while {self.heart.message}"
        why = f"{why}; newest checkpoint: {self.saver.newest or 'as before the start'}"
        self.record.once("status", self.iteration, state="stopped", why=why)
        self.saver.status = ("stopped", clean(why))
        with suppress(OSError):
            self.saver.write_summary()
        os._exit(exit_code)

    def _stop_if_stalled(self) -> None:
        """From the heartbeat's thread: an iteration that hangs is given up when a person asks to stop."""
        if self.heart.since_boundary <= longest_iteration(self.heart.median_iteration):
            return
        if not self.control.may_be_steered:
            return
        for request in pending(self.folder, only_look=True):
            if request.action != "stop":
                continue
            fields = {"request": request.id, "action": "stop", "by": request.by, "result": "applied"}
            if self.record.once("control", self.iteration + 1, **fields, changes={}):
                discard(self.folder, request)
            self._give_up(f"asked by {request.by}; the unfinished iteration was given up", DONE)
