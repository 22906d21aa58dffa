"""Going on exactly: the newest good checkpoint, and the steering that came after it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.worker.control import Change, superseded
from trainers.trainer import State

ENDED = ("failed", "stopped", "finished")


@dataclass
class History:
    """What the journal says of the run so far."""

    records: int = 0
    decisions: dict[str, Any] = field(default_factory=dict)
    """Setup fields as the first start decided them."""
    changes: list[Change] = field(default_factory=list)
    """Changes that people had applied and not replaced since, each once, in order."""
    ended: dict[str, Any] | None = None
    """The newest status, where it says how the run ended."""


@dataclass
class Past:
    """Where a run goes on: after ``iteration``, with ``state`` unless it starts from its seed."""

    iteration: int = 0
    state: State | None = None
    worker: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_history(folder: RunFolder) -> History:
    """Read the journal from its beginning."""
    history = History()
    reader = JournalReader(folder.journal)
    seen: set[str] = set()
    while (records := reader.read()) or not reader.at_end:
        history.records += len(records)
        for record in records:
            if record["kind"] == "status":
                history.ended = record if record.get("state") in ENDED else None
                if record.get("state") == "started" and not history.decisions:
                    history.decisions = dict(record.get("decisions") or {})
            change = _applied_by_hand(record)
            if change and change.request not in seen:
                seen.add(str(change.request))
                history.changes = _replacing(history.changes, change)
    return history


def find_past(folder: RunFolder) -> Past:
    """The newest checkpoint whose checksums hold, and what was found damaged on the way to it.

    Raises :class:`RunError` where there are checkpoints and none of them can be read.
    """
    found = checkpoints.newest_good(folder)
    if found is None:
        if unreadable := checkpoints.listed(folder):
            raise RunError(
                f"none of the {len(unreadable)} checkpoints in {folder.checkpoints} can be read; "
                "move them away to start this run from its beginning"
            )
        return Past()
    checkpoint, contents, damaged = found
    notes = [
        f"checkpoint {other.path.name} is damaged, going on from {checkpoint.path.name} instead"
        for other in damaged
    ]
    worker = dict(contents.numbers.pop("worker", {}))
    state = State(weights=contents.weights, tensors=contents.tensors, numbers=contents.numbers)
    return Past(checkpoint.iteration, state, worker, notes)


def changes_after(iteration: int, planned: list[dict[str, Any]], history: History) -> deque[Change]:
    """Changes due after ``iteration``: the planned ones, then those people made, in order of iteration."""
    plan = [
        Change(item["iteration"], {name: value for name, value in item.items() if name != "iteration"})
        for item in planned
    ]
    due = [change for change in plan + history.changes if change.iteration > iteration]
    return deque(sorted(due, key=lambda change: change.iteration))


def _replacing(changes: list[Change], new: Change) -> list[Change]:
    """``changes`` and ``new``, which takes the place of older ones that were to come after it."""
    before = [change for change in changes if change.iteration <= new.iteration]
    after = superseded((change for change in changes if change.iteration > new.iteration), new.values)
    return [*before, new, *after]


def _applied_by_hand(record: dict[str, Any]) -> Change | None:
    changes = record.get("changes")
    if record["kind"] != "control" or record.get("result") != "applied" or not record.get("request"):
        return None
    if not isinstance(changes, dict) or not changes:
        return None
    values = {name: pair[1] for name, pair in changes.items() if isinstance(pair, list) and len(pair) == 2}
    return Change(
        record["iteration"],
        values,
        bool(record.get("rebase")),
        str(record["request"]),
        str(record.get("by", "")),
    )
