"""Making a fork: a new run that leaves another after an iteration of it.

The fork's folder gets all that this takes: the parent's nearest checkpoint at or before that iteration, the
rows that the parent measured from there on and, in its journal, the changes by which the parent was steered.
So the parent may be deleted. The fork's own worker trains the checkpoint forward under those changes,
compares every row with the parent's, and then goes its way.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl_tui.changes import check_fork_changes, in_json
from metarl_tui.runs import checkpoints
from metarl_tui.runs.checkpoints import Checkpoint, Contents
from metarl_tui.runs.files import reason, shown
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder, acquire_lock
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.records import is_count
from metarl_tui.runs.trust import names_code
from metarl_tui.worker.exact import History, changes_after, read_history, rows_that_count, why_inexact
from metarl_tui.worker.forked import COMPLETE, forked_at, parent_rows
from trainers.declarations import Value, as_json, make_settings
from trainers.hyperparameters import TRAINERS, TrainerEntry


@dataclass(frozen=True)
class Fork:
    """A new fork, and the parent's checkpoint that it begins with."""

    folder: RunFolder
    checkpoint: int


@dataclass(frozen=True)
class Plan:
    """A fork that can be made: nothing of it is written yet."""

    parent: RunFolder
    history: History
    config: RunConfig
    start: int
    """The iteration of the parent's checkpoint that it begins with; 0 for the parent's seed."""
    contents: Contents | None
    remarks: tuple[str, ...]
    """What of the parent is not as it should be: damaged checkpoints, a folder that others may write."""

    @property
    def done(self) -> int | None:
        """What the parent had done there of its budget; ``None`` where only training forward will tell."""
        if "iterations" in self.config.hyperparameters:
            return forked_at(self.config)
        steps = self.contents.numbers.get("steps") if self.contents else None
        return steps if self.start == forked_at(self.config) and is_count(steps) else None

    def make(self, runs_dir: Path) -> Fork:
        """Write the fork's folder into ``runs_dir``. Raises :class:`RunError` where that can't be."""
        at = forked_at(self.config)
        folder = RunFolder.create(runs_dir, self.config)
        try:
            with acquire_lock(folder), Journal(folder.journal) as journal:
                if self.contents is not None:
                    checkpoints.save(folder, self.start, self.contents, "forked")
                if self.start < at:
                    self._copy_rows(folder, at)
                for record in steering(self.history, at):
                    journal.append("control", record["iteration"], **record["fields"])
                for remark in self.remarks:
                    journal.append("note", at, text=remark)
                journal.append("note", at, text=f"{COMPLETE} {self.parent.id} after iteration {at}")
                journal.sync()
        except BaseException as error:
            shutil.rmtree(folder.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise RunError(f"{shown(folder.path)}: {reason(error)}") from error
            raise
        return Fork(folder, self.start)

    def _copy_rows(self, folder: RunFolder, at: int) -> None:
        """What the parent ran on and measured between its checkpoint and ``at``."""
        with Journal(parent_rows(folder)) as rows:
            for started in self.history.started:
                said = {name: started[name] for name in ("versions", "host") if name in started}
                rows.append("status", started["iteration"], state="started", **said)
            for row in rows_that_count(self.parent, self.history.resumes):
                if self.start < row["iteration"] <= at:
                    rows.append("metrics", row["iteration"], values=row["values"])


def plan_fork(
    parent: RunFolder, at: int | None = None, changes: Mapping[str, Value] | None = None, *, name: str = ""
) -> Plan:
    """A fork that leaves ``parent`` after iteration ``at``, or the newest.

    ``changes`` are the fork's own values. What may change in mid-run is planned for its first iteration;
    everything else holds from its start, and the rest is as in the parent. Raises :class:`RunError` where
    there is no such iteration, or no exact way to it, and :class:`InvalidValue` for values that a fork does
    not take.
    """
    history, entry = read_history(parent), TRAINERS.get(parent.config.trainer)
    if entry is None:
        raise RunError(f"trainer = {parent.config.trainer}: this version knows {', '.join(TRAINERS)}")
    at = _checked_iteration(parent, at, history)
    start, contents, remarks = _nearest_checkpoint(parent, at, history)
    config = _configure(entry, parent, history, at, dict(changes or {}), start, name)
    return Plan(parent, history, config, start, contents, (*remarks, *_why_not_private(parent)))


def make_fork(
    parent: RunFolder,
    runs_dir: Path,
    at: int | None = None,
    changes: Mapping[str, Value] | None = None,
    *,
    name: str = "",
) -> Fork:
    """Plan a fork and write it into ``runs_dir``; raises what :func:`plan_fork` and :meth:`Plan.make` do."""
    return plan_fork(parent, at, changes, name=name).make(runs_dir)


def steering(history: History, until: int) -> list[dict[str, Any]]:
    """The changes that made the run what it is at iteration ``until``, each once, in their order.

    Those that a resume took back, because somebody asked anew before they came again, are left out.
    """
    asked = {change.request: change.values for change in history.changes}
    seen: set[Any] = set()
    found = []
    for record in history.applied:
        changes, request = record["changes"], record["request"]
        key = request or (record["iteration"], tuple(changes))
        if request:
            changes = {name: pair for name, pair in changes.items() if name in asked.get(request, ())}
        if key in seen or not changes or record["iteration"] > until:
            continue
        seen.add(key)
        kept = ("request", "action", "by", "rebase", "result")
        fields = {name: record[name] for name in kept if name in record}
        found.append({"iteration": record["iteration"], "fields": {**fields, "changes": changes}})
    return sorted(found, key=lambda one: int(one["iteration"]))


def _checked_iteration(parent: RunFolder, at: int | None, history: History) -> int:
    begun = forked_at(parent.config)
    newest = max(history.last, begun)
    if at is None:
        at = newest
        if why_inexact(parent.config, history) and (saved := checkpoints.listed(parent)):
            at = saved[-1].iteration
    if at > newest:
        raise RunError(f"at = {at}: run {parent.short_id} has come to iteration {newest}")
    if at < begun and parent.config.parent:
        raise RunError(
            f"at = {at}: run {parent.short_id} is a fork itself and began after iteration {begun}; "
            f"fork its parent {parent.config.parent['run']}"
        )
    return at


def _nearest_checkpoint(
    parent: RunFolder, at: int, history: History
) -> tuple[int, Contents | None, tuple[str, ...]]:
    """Where to begin: iteration, state, and damage passed over; from the seed where nothing was saved."""
    why = next(iter(why_inexact(parent.config, history)), None)
    saved = [one.iteration for one in checkpoints.listed(parent)]
    if why and at and at not in saved:
        near = [max((one for one in saved if one < at), default=None),
                min((one for one in saved if one > at), default=None)]  # fmt: skip
        words = " and ".join(str(one) for one in near if one is not None)
        raise RunError(
            f"at = {at}: run {parent.short_id} can be forked only where it has a checkpoint, because {why}; "
            + (f"the nearest are at {words}" if words else "it has none")
        )
    found = checkpoints.newest_good(parent, at)
    bad = found[2] if found else [_damage(one) for one in checkpoints.listed(parent) if one.iteration <= at]
    start = found[0].iteration if found else 0
    if start < forked_at(parent.config) or (why and start != at):
        raise RunError(
            f"at = {at}: {bad[0] if bad else f'run {parent.short_id} has no checkpoint before it'}"
        )
    damaged = tuple(f"the parent's {one}; going on from iteration {start} instead" for one in bad if one)
    return start, found[1] if found else None, damaged


def _why_not_private(parent: RunFolder) -> tuple[str, ...]:
    """A fork only reads, and what it reads is data: it is made, but who may have changed that is said."""
    try:
        parent.check_private()
    except RunError as error:
        return (f"what is taken from the parent may not be what it trained: {str(error).partition(';')[0]}",)
    return ()


def _damage(checkpoint: Checkpoint) -> checkpoints.DamagedCheckpoint | None:
    try:
        checkpoints.load(checkpoint)
    except checkpoints.DamagedCheckpoint as error:
        return error
    return None


def _configure(
    entry: TrainerEntry,
    parent: RunFolder,
    history: History,
    at: int,
    changes: dict[str, Value],
    start: int,
    name: str,
) -> RunConfig:
    """The fork's configuration. Raises :class:`InvalidValue`.

    Its hyperparameters are the parent's initial ones. Where it has some of its own that hold from its start,
    all are those in force then, which fit each other.
    """
    config = parent.config
    setup: Any = make_settings(entry.setup, config.setup)
    initial: Any = make_settings(entry.hyperparameters, config.hyperparameters)
    in_force = as_json(initial)
    for change in changes_after(0, config.changes, history):
        if change.iteration <= at:
            in_force |= {key: value for key, value in change.values.items() if key in in_force}
    values: Any = make_settings(entry.hyperparameters, in_force)
    live = check_fork_changes(changes, setup, values, RunOptions())

    decided = {**as_json(setup), **history.decisions}
    asked = {key: value for key, value in changes.items() if key in decided}
    # What was decided by measuring is decided anew for what may be something else.
    measured_anew = asked or "num_envs" in changes
    own_setup = as_json(
        make_settings(entry.setup, {**(as_json(setup) if measured_anew else decided), **asked})
    )
    own_hyperparameters = as_json(initial)
    own_values = {key: value for key, value in changes.items() if key in in_force}
    if own_values.keys() - live:
        own_hyperparameters = as_json(make_settings(entry.hyperparameters, {**in_force, **own_values}))
        if any(key.startswith("anneal") for key in own_values):
            # A schedule of its own begins at the value given with it; a change would end the schedule.
            begins = entry.scheduled(own_hyperparameters)
            live = {key: value for key, value in live.items() if key not in begins}
    before = {**decided, **as_json(initial)}
    own = {**own_setup, **own_hyperparameters}
    replaced = {key: before[key] for key in own if before[key] != own[key]}
    # Code that only the fork names is looked for where its maker is, not where the parent's was.
    named_here = bool(names_code(own_setup)) and not config.names_code
    planned = [{"iteration": at + 1, **in_json(live)}] if live else []
    return RunConfig(
        trainer=config.trainer,
        setup=own_setup,
        hyperparameters=own_hyperparameters,
        options={**config.options, "paused": False},
        changes=[*config.changes, *planned],
        name=name,
        subject=str(own_setup[entry.subject]),
        parent={"run": parent.id, "iteration": at, "checkpoint": start, "replaced": replaced},
        working_folder=str(Path.cwd()) if named_here else config.working_folder,
        trusted=config.trusted,
    )
