"""What happens beside the metrics, in words: events of the journal and the marks that steering leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias

from metarl_tui.runs.options import RunOptions
from metarl_tui.text import clean
from trainers.declarations import declarations, format_value
from trainers.hyperparameters import TRAINERS

Record: TypeAlias = dict[str, Any]
EventKind: TypeAlias = Literal["control", "checkpoint", "status", "note", "resumed"]

EVENT_KINDS = ("control", "checkpoint", "status", "note", "resumed")
_REASONS = {"best": "best", "asked": "asked for", "final": "final", "pause": "at the pause"}


@dataclass(frozen=True)
class Event:
    """Something that happened beside the metrics. ``text`` is one clean line for people."""

    iteration: int
    kind: EventKind
    text: str
    record: Record

    @property
    def said_elsewhere(self) -> bool:
        """Whether another event says the same: after an applied pause comes *paused: asked by …*."""
        if self.kind == "status":
            again = self.record.get("state") == "started" and self.iteration > 0
            return again or self.record.get("state") in ("starting", "running")
        if self.kind != "control" or self.record.get("result") != "applied":
            return False
        return self.record.get("action") in ("pause", "stop", "save")


@dataclass(frozen=True)
class Marker:
    """Values changed at the start of ``iteration``: ``changes`` maps names to (old, new)."""

    iteration: int
    changes: Mapping[str, tuple[Any, Any]]
    keeps_schedule: bool = False

    @cached_property
    def trains(self) -> bool:
        """Whether a hyperparameter was changed, not just an option such as the pace."""
        return not self.changes.keys() <= declarations(RunOptions).keys()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All changes as short as can be, ``ε .2→.1, epochs 6→3``; where there are more, then only one."""
        first, *more = (
            f"{_symbols().get(name, name)} {_short(old)}→{_short(new)}"
            for name, (old, new) in self.changes.items()
        )
        return (", ".join((first, *more)), f"{first} …") if more else (first,)


@cache
def _symbols() -> dict[str, str]:
    """Symbols of all trainers' hyperparameters, by name."""
    return {
        name: declaration.symbol
        for entry in TRAINERS.values()
        for name, declaration in declarations(entry.hyperparameters).items()
        if declaration.symbol
    }


def _short(value: object) -> str:
    """``0.2`` as ``.2``: a marker's label has little room."""
    rounded = float(f"{value:.3g}") if isinstance(value, float) else value
    text = clean(format_value(rounded), 24)
    return text[1:] if text.startswith("0.") else text


def changes_of(record: Record) -> dict[str, tuple[Any, Any]]:
    """Names mapped to (old, new); empty when the record changes nothing."""
    changes = record.get("changes")
    if not isinstance(changes, dict):
        return {}
    return {
        clean(name, 60): (pair[0], pair[1])
        for name, pair in changes.items()
        if isinstance(pair, list | tuple) and len(pair) == 2
    }


def describe(kind: EventKind, record: Record) -> str:
    """One clean line for people."""
    why = f": {record['why']}" if record.get("why") else ""
    match kind:
        case "control":
            what = ", ".join(
                f"{_symbols().get(name, name)} {format_value(old)} → {format_value(new)}"
                for name, (old, new) in changes_of(record).items()
            )
            if not what and record.get("action") == "resume" and record.get("result") == "applied":
                return clean(f"goes on: asked by {record.get('by') or 'nobody known'}")
            return clean(f"{what or record.get('action', 'request')} {record.get('result', '')}{why}")
        case "checkpoint":
            reason = _REASONS.get(str(record.get("reason")))
            return f"checkpoint, {reason}" if reason else "checkpoint"
        case "status" if record.get("refused"):
            return clean(f"could not go on: {record['refused']}")
        case "status":
            return clean(f"{record.get('state', 'unknown')}{why}")
        case "note":
            return clean(record.get("text", ""))
        case "resumed":
            return clean(f"resumed from iteration {record.get('from', '?')}")
