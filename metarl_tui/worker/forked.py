"""Being a fork: what it keeps of its parent, and what it is on the way to where it leaves it.

What the parent measured on that way is in the fork's own folder, so that the fork can be compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import JournalReader, Record
from metarl_tui.runs.records import is_count
from metarl_tui.worker.exact import NOT_EXACT, History, first_difference, other_now, records_of
from trainers.declarations import format_value
from trainers.hyperparameters import TRAINERS
from trainers.spaces import other_space
from trainers.trainer import Iteration, State

COMPLETE = "forked from"
"""Begins the note that ends the making of a fork."""
_INSTEAD = "fork the parent where it has a checkpoint"
_SPACES = ("spaces", "inputs")
"""Keys of a trainer's state that say between which spaces its networks stand."""


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
        if difference := other_space(mine, theirs, "the parent's"):
            raise RunError(f"{what}: {difference}; a fork keeps its networks, and needs what fits them")


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


def why_not_forward(iteration: int, inexact: str) -> str:
    """Why a fork that could not take over all of its parent's state can't go that one's way."""
    return (
        f"can't be trained forward from iteration {iteration} as its parent was: "
        f"{inexact.removeprefix(NOT_EXACT)}; {_INSTEAD}"
    )


class ParentRows:
    """What the parent measured between ``start`` and where the fork leaves it, to be compared row by row."""

    def __init__(self, folder: RunFolder, start: int) -> None:
        self._start, self._compared = start, 0
        self._started: list[Record] = []
        self._rows = self._read(parent_rows(folder))
        self._next: Record | None = next(self._rows, None)

    def why_another(self, done: Iteration, here: Callable[[], Mapping[str, str]]) -> str | None:
        """Why this iteration is not the parent's, if it has a row that differs; the iterations must ascend.

        ``here`` tells what this worker runs on, for the reasons.
        """
        while self._next is not None and self._next["iteration"] < done.number:
            self._next = next(self._rows, None)
        if self._next is None or self._next["iteration"] != done.number:
            return None
        self._compared += 1
        found = first_difference(self._next, done, set())
        if found is None:
            return None
        reasons = "".join(f"; {reason}" for reason in other_now(self._started, here()))
        return (
            f"trained forward from iteration {self._start}, iteration {found.iteration} is not as the "
            f"parent's: {found}{reasons}; {_INSTEAD}"
        )

    def outcome(self, goal: int) -> str:
        """What can be said once the fork has come to ``goal``."""
        count = goal - self._start
        text = f"trained forward from iteration {self._start} to {goal} as the parent did"
        missing = count - self._compared
        return f"{text}; {missing} of these {count} had no row to compare with" if missing else text

    def _read(self, path: Path) -> Iterator[Record]:
        for record in records_of(JournalReader(path)):
            if record["kind"] == "status":
                self._started.append(record)
            elif record["kind"] == "metrics":
                yield record


def parent_rows(folder: RunFolder) -> Path:
    """Where a fork keeps its parent's rows: a journal of its own, which nobody plays."""
    return folder.path / "parent.jsonl"


def measures_another(config: RunConfig) -> bool:
    """Whether a fork trains on something else than its parent, whose best it can't be compared with."""
    replaced = (config.parent or {}).get("replaced")
    entry = TRAINERS.get(config.trainer)
    if entry is None or not isinstance(replaced, dict):
        return False
    return bool({entry.subject, "env_arg", "data"} & replaced.keys())


def check_complete(folder: RunFolder, history: History) -> None:
    """Raise :class:`RunError` for a fork whose maker was ended before all that it takes was there.

    One that has been trained was whole then, whatever became of its journal's beginning.
    """
    if history.started or history.last:
        return
    for record in records_of(JournalReader(folder.journal)):
        if record["kind"] == "note" and record["text"].startswith(COMPLETE):
            return
    raise RunError(f"fork {folder.short_id} was not completed; delete it and fork the parent again")
