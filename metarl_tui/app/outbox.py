"""What this screen asked of the worker, and the answers as the tape brings them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metarl_tui.app.colours import ATTENTION, BROKEN, STEERED, WELL
from metarl_tui.app.steering import symbol
from metarl_tui.runs.requests import Action, Request, send
from metarl_tui.text import clean
from trainers.declarations import format_value

if TYPE_CHECKING:
    from metarl_tui.runs.folder import RunFolder
    from metarl_tui.tape import Tape

_ASKED = {
    "pause": "pausing after this iteration",
    "resume": "asked to go on",
    "save": "saving after this iteration",
    "stop": "stopping after this iteration",
    "set": "queued",
}
_LONG_ITERATION_SECONDS = 2.0


@dataclass(frozen=True)
class Reply:
    """A line for people about a request. ``steering`` tells whether it changed values."""

    text: str
    colour: str
    steering: bool
    short: str = ""
    """The same in fewer words, where there are such."""


@dataclass
class Outbox:
    """Requests on their way. Nothing is said to be done before the journal says so."""

    folder: RunFolder
    sent: list[Request] = field(default_factory=list)

    def ask(
        self, action: Action, changes: Mapping[str, Any] | None = None, *, iteration_seconds: float = 0
    ) -> Reply:
        """Send a request. Raises :class:`~metarl_tui.runs.folder.RunError` when it can't be sent."""
        request = send(self.folder, action, changes)
        self.sent.append(request)
        text = f"{described(request.changes)} queued" if changes else _ASKED[action]
        if iteration_seconds >= _LONG_ITERATION_SECONDS and action in ("pause", "stop", "save"):
            text += f", about {iteration_seconds:.0f} s"
        return Reply(text, ATTENTION, bool(changes))

    def answers(self, tape: Tape) -> list[Reply]:
        """The answers that have come since the last call, oldest first."""
        replies, waiting = [], []
        for request in self.sent:
            record = tape.outcome(request.id)
            if record is None:
                waiting.append(request)
            else:
                replies.append(reply(record))
        self.sent = waiting
        return replies

    def waiting(self, queued: Iterable[Request], tape: Tape) -> list[Request]:
        """What nobody has answered: requests of this screen, and of anyone whose file still lies there."""
        by_id = {request.id: request for request in [*queued, *self.sent]}
        return [request for request in by_id.values() if tape.outcome(request.id) is None]


def reply(record: Mapping[str, Any]) -> Reply:
    """What a control record says to the person who asked."""
    action, changes = str(record.get("action", "request")), record.get("changes") or {}
    if record.get("result") == "rejected":
        return Reply(clean(f"rejected: {record.get('why') or 'no reason given'}"), BROKEN, action == "set")
    iteration = record.get("iteration", 0)
    if changes:
        what = ", ".join(
            f"{name} {format_value(pair[0])} → {format_value(pair[1])}"
            for name, pair in changes.items()
            if isinstance(pair, list | tuple) and len(pair) == 2
        )
        short = clean(f"{', '.join(map(symbol, changes))} applied at iteration {iteration}")
        return Reply(clean(f"applied at iteration {iteration}: {what}"), STEERED, True, short)
    after = max(int(iteration) - 1, 0)
    said = {
        "pause": f"paused after iteration {after}",
        "resume": f"goes on with iteration {iteration}",
        "save": f"checkpoint of iteration {after} saved",
        "stop": f"stopped after iteration {after}",
    }
    return Reply(said.get(action, clean(f"{action} applied at iteration {iteration}")), WELL, False)


def described(changes: Mapping[str, Any]) -> str:
    """``clip_epsilon 0.1, epochs 6``."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in changes.items())
