"""Steering: requests and planned changes become facts here, at iteration boundaries, and are journaled.

A change "applied at iteration N" is in force from the start of iteration N. At each boundary the planned
changes come first, then those that an earlier worker had applied there (after a resume from an older
checkpoint), then the requests of people, in their order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.requests import Request, discard, pending
from trainers.declarations import InvalidValue, Value, declarations
from trainers.settings import LiveSettings
from trainers.trainer import Trainer

POLL_SECONDS = 0.05


class Record(Protocol):
    """Appends to the journal: kind, iteration, fields."""

    def __call__(self, kind: str, iteration: int, /, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Change:
    """A change of values that is due at an iteration: planned in a file, or repeated after a resume."""

    iteration: int
    values: dict[str, Any]
    rebase: bool = False
    request: str | None = None
    by: str = "plan"


def superseded(due: Iterable[Change], values: Mapping[str, Any]) -> deque[Change]:
    """``due`` without the repeated changes of the names in ``values``: a person has asked anew.

    Planned changes stay, as they do in a run that was never interrupted.
    """
    kept: deque[Change] = deque()
    for change in due:
        if change.request:
            left = {name: value for name, value in change.values.items() if name not in values}
            change = replace(change, values=left)
        if change.values:
            kept.append(change)
    return kept


@dataclass
class Control:
    """Applies what people ask. ``paused`` and ``stopping`` are read by the training loop."""

    folder: RunFolder
    trainer: Trainer
    options: LiveSettings[RunOptions]
    record: Record
    save: Callable[[str], str]
    """Saves a checkpoint for the given reason and returns its name."""
    due: deque[Change] = field(default_factory=deque)
    paused: str | None = None
    """Why the run waits; ``None`` when it does not."""
    stopping: str | None = None
    answered: set[str] = field(default_factory=set)
    """Ids of the requests that the journal has an answer to: an id stands for one request, once."""
    before_change: Callable[[], None] = lambda: None
    """Called before values are changed."""
    _next_poll: float = 0.0

    def begin_iteration(self) -> None:
        """Apply the changes that are due at the iteration to come."""
        while self.is_due:
            change = self.due.popleft()
            fields = _asked(change.request, "set", change.by, change.rebase)
            if change.request:
                fields["again"] = True
            self._answer(fields, *self._change(change.values, change.rebase))

    def poll(self) -> None:
        """Carry out the requests that have arrived, looking at most every ``POLL_SECONDS``."""
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_SECONDS
        requests = pending(self.folder)
        if not requests:
            return
        try:
            self.folder.check_private()
        except RunError as error:
            self.reject(requests, str(error))
            return
        for request in requests:
            changed, why = self._carry_out(request)
            self._answer(_asked(request.id, request.action, request.by, request.rebase), changed, why)
            discard(self.folder, request)

    def poll_for_stop(self) -> None:
        """Carry out the requests to stop alone, where values can't be changed yet."""
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_SECONDS
        for request in pending(self.folder):
            if request.action == "stop" and not request.changes and self.may_be_steered:
                self._answer(_asked(request.id, "stop", request.by), *self._carry_out(request))
                discard(self.folder, request)

    @property
    def may_be_steered(self) -> bool:
        """Whether nobody else may write to the run. Never raises."""
        try:
            self.folder.check_private()
        except RunError:
            return False
        return True

    @property
    def is_due(self) -> bool:
        """Whether a change is due at the iteration to come."""
        return bool(self.due) and self.due[0].iteration <= self.trainer.iteration + 1

    def reject(self, requests: Sequence[Request], why: str) -> None:
        """Answer requests that will not be carried out, unless they have been answered already."""
        for request in requests:
            if request.id not in self.answered:
                self._answer(_asked(request.id, request.action, request.by), {}, why)
            discard(self.folder, request)

    def apply_at_start(self, values: Mapping[str, Any], rebase: bool, request: str, by: str) -> str | None:
        """Apply what was asked together with the start. Returns why it was rejected, or ``None``.

        What leaves the run finished is rejected too: then there is nothing to start.
        """
        self.begin_iteration()
        changed, why = self._change(values, rebase)
        if why is None and (finished := self.trainer.finished):
            changed, why = {}, f"nothing left to do: {finished}"
        self._answer(_asked(request, "set", by, rebase), changed, why)
        if why is None:
            self.due = superseded(self.due, values)
        return why

    def _carry_out(self, request: Request) -> tuple[dict[str, tuple[Value, Value]], str | None]:
        changed: dict[str, tuple[Value, Value]] = {}
        why = self._refusal(request)
        if why is None and request.changes:
            changed, why = self._change(request.changes, request.rebase)
            if why is None:
                self.due = superseded(self.due, request.changes)
        if why is None:
            match request.action:
                case "pause":
                    self.paused = f"asked by {request.by}"
                case "resume":
                    self.paused = None
                case "save":
                    self.save("asked")
                case "stop":
                    self.stopping = f"asked by {request.by}"
        return changed, why

    def _refusal(self, request: Request) -> str | None:
        """Why a request makes no sense now; asked before any of it is done, for it is done whole or not."""
        if request.id in self.answered:
            return f"a request {request.id} was answered before; every request needs an id of its own"
        match request.action:
            case "set" if not request.changes:
                return "names no value to set"
            case "pause" if self.paused:
                return "already paused"
            case "resume" if not self.paused and not request.changes:
                return "not paused"
        return None

    def _change(
        self, values: Mapping[str, Any], rebase: bool
    ) -> tuple[dict[str, tuple[Value, Value]], str | None]:
        options = {name: value for name, value in values.items() if name in declarations(RunOptions)}
        others = {name: value for name, value in values.items() if name not in options}
        before = self.options.state()
        self.before_change()
        try:
            changed = self.options.change(options)
            changed |= self.trainer.change(others, rebase=rebase) if others else {}
        except InvalidValue as refusal:
            self.options.restore(before)
            return {}, str(refusal)
        return changed, None

    def _answer(
        self, fields: dict[str, Any], changed: Mapping[str, tuple[Value, Value]], why: str | None
    ) -> None:
        if why is not None:
            fields["why"] = why
        if fields["request"]:
            self.answered.add(fields["request"])
        self.record(
            "control",
            self.trainer.iteration + 1,
            **fields,
            result="applied" if why is None else "rejected",
            changes={name: list(pair) for name, pair in changed.items()},
        )


def _asked(request: str | None, action: str, by: str, rebase: bool = False) -> dict[str, Any]:
    """The fields that say what was asked; ``rebase`` only where it was."""
    return {"request": request, "action": action, "by": by, **({"rebase": True} if rebase else {})}
