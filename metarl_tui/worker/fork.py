"""Forks: a new run that leaves another after an iteration of it.

The fork's folder gets all that this takes: the parent's nearest checkpoint at or before that iteration and,
in its journal, the changes by which the parent was steered until then. So the parent may be deleted. The
fork's own worker trains the checkpoint forward under those changes, as the parent did, and then goes its way.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metarl_tui.changes import check_fork_changes
from metarl_tui.runs import checkpoints
from metarl_tui.runs.checkpoints import Checkpoint, Contents
from metarl_tui.runs.files import reason, shown
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder, acquire_lock
from metarl_tui.runs.journal import Journal, JournalReader
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.records import is_count
from metarl_tui.runs.trust import names_code
from metarl_tui.worker.exact import NOT_EXACT, History, changes_after, read_history
from trainers.declarations import Value, as_json, format_value, make_settings
from trainers.hyperparameters import TRAINERS, TrainerEntry
from trainers.trainer import State

_SPACES = ("spaces", "inputs")
"""Keys of a trainer's state that say between which spaces its networks stand."""
_COMPLETE = "forked from"
"""Begins the note that ends the making of a fork."""


@dataclass(frozen=True)
class Fork:
    """A new fork, and what of its parent stood in the way: damaged checkpoints that were passed over."""

    folder: RunFolder
    checkpoint: int
    damaged: tuple[str, ...] = ()


def forked_at(config: RunConfig) -> int:
    """The iteration after which a fork leaves its parent; 0 for what is no fork."""
    return int(config.parent["iteration"]) if config.parent else 0


def copied_checkpoint(config: RunConfig) -> int:
    """The iteration of the parent's checkpoint that a fork begins with; 0 where it begins from the seed."""
    found = (config.parent or {}).get("checkpoint", 0)
    return found if is_count(found) else 0


def former(config: RunConfig) -> RunConfig:
    """The configuration of a fork's parent; of what is no fork its own."""
    replaced = (config.parent or {}).get("replaced")
    if not isinstance(replaced, dict):
        return config
    setup = {name: replaced.get(name, value) for name, value in config.setup.items()}
    hyperparameters = {name: replaced.get(name, value) for name, value in config.hyperparameters.items()}
    return replace(config, setup=setup, hyperparameters=hyperparameters)


def check_spaces(config: RunConfig, own: State, parent: State) -> None:
    """Raise :class:`RunError`, naming both, where a fork would act or see in other spaces than its parent."""
    before, now = former(config).setup, config.setup
    changed = [name for name in now if now[name] != before.get(name) and now[name] != "auto"]
    what = ", ".join(f"{name} = {format_value(now[name])}" for name in changed) or config.subject
    for key in _SPACES:
        mine, theirs = own.numbers.get(key) or {}, parent.numbers.get(key) or {}
        for name in mine:
            if name in theirs and mine[name] != theirs[name]:
                thing = f"{name} space" if key == "spaces" else name
                raise RunError(
                    f"{what}: its {thing} {_in_words(mine[name])} is not the parent's, "
                    f"{_in_words(theirs[name])}; a fork keeps its networks, and needs what fits them"
                )


def fitted(config: RunConfig, state: State) -> State:
    """The parent's ``state`` as the fork takes it over.

    A fork that ends the parent's schedule goes on with the values that it had reached.
    """
    settings = state.numbers["settings"]
    if config.hyperparameters.get("anneal") != "none" or settings["values"].get("anneal") == "none":
        return state
    settings = {"values": {**settings["values"], "anneal": "none"}, "schedules": {}}
    return replace(state, numbers={**state.numbers, "settings": settings})


def in_fork(inexact: str) -> str:
    """How a fork says what it can't take over from its parent."""
    return f"forked: {inexact.removeprefix(NOT_EXACT)}"


def _in_words(space: Any) -> str:
    if not isinstance(space, dict):
        return format_value(space)
    limits = {name: value for name, value in space.items() if name != "type" and value not in ([], False)}
    return f"{space.get('type', '')}({', '.join(f'{name} {_cut(value)}' for name, value in limits.items())})"


def _cut(value: Any) -> str:
    text = format_value(value)
    return text if len(text) <= 60 else text[:59] + "…"


def make_fork(
    parent: RunFolder,
    runs_dir: Path,
    at: int | None = None,
    changes: Mapping[str, Value] | None = None,
    *,
    name: str = "",
) -> Fork:
    """A folder in ``runs_dir`` for a fork that leaves ``parent`` after iteration ``at``, or the newest.

    ``changes`` are the fork's own values. What may change in mid-run is planned for its first iteration;
    everything else holds from its start, and the rest is as in the parent. Raises :class:`RunError` where
    there is no such iteration, or no exact way to it, and :class:`InvalidValue` for values that a fork does
    not take.
    """
    config, history = parent.config, read_history(parent)
    entry = TRAINERS.get(config.trainer)
    if entry is None:
        raise RunError(f"trainer = {config.trainer}: this version knows {', '.join(TRAINERS)}")
    at = _checked_iteration(parent, at, history)
    start, contents, damaged = _nearest_checkpoint(parent, at, history)
    steered = steering(history, at)
    forked = _configure(entry, parent, history, at, dict(changes or {}), start, name)
    folder = RunFolder.create(runs_dir, forked)
    try:
        with acquire_lock(folder), Journal(folder.journal) as journal:
            if contents is not None:
                checkpoints.save(folder, start, contents, "forked")
            for record in steered:
                journal.append("control", record["iteration"], **record["fields"])
            for what in damaged:
                journal.append("note", at, text=what)
            journal.append("note", at, text=f"{_COMPLETE} {parent.id} after iteration {at}")
            journal.sync()
    except OSError as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise RunError(f"{shown(folder.path)}: {reason(error)}") from error
    return Fork(folder, start, damaged)


def check_complete(folder: RunFolder) -> None:
    """Raise :class:`RunError` for a fork whose maker was ended before all that it takes was there."""
    reader = JournalReader(folder.journal)
    while (records := reader.read()) or not reader.at_end:
        if any(record["kind"] == "note" and record["text"].startswith(_COMPLETE) for record in records):
            return
    raise RunError(f"fork {folder.short_id} was not completed; delete it and fork the parent again")


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


def why_not_exact(config: RunConfig, history: History) -> str:
    """Why the run can't be trained anew and be the same; empty where it can."""
    if str(config.setup.get("device", "cpu")) != "cpu":
        return f"it trains on {config.setup['device']}, where no two trainings are the same"
    if history.inexact:
        return f"at {history.inexact[0]}"
    if history.damaged:
        return f"{history.damaged} records of its journal can't be read, and with them perhaps changes"
    return ""


def _checked_iteration(parent: RunFolder, at: int | None, history: History) -> int:
    begun = forked_at(parent.config)
    newest = max(history.last, begun)
    if at is None:
        at = newest
        if why_not_exact(parent.config, history) and (saved := checkpoints.listed(parent)):
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
    why = why_not_exact(parent.config, history)
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
    """The fork's configuration. Raises :class:`InvalidValue`."""
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
    own_values = {key: value for key, value in changes.items() if key in in_force}
    hyperparameters: Any = make_settings(entry.hyperparameters, {**as_json(initial), **own_values})
    own_hyperparameters = as_json(hyperparameters)
    before = {**decided, **as_json(initial)}
    own = {**own_setup, **own_hyperparameters}
    replaced = {key: before[key] for key in own if before[key] != own[key]}
    # Code that only the fork names is looked for where its maker is, not where the parent's was.
    named_here = bool(names_code(own_setup)) and not config.names_code
    planned = [{"iteration": at + 1, **as_json_values(live)}] if live else []
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


def as_json_values(values: Mapping[str, Value]) -> dict[str, Any]:
    """Checked values as JSON holds them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
