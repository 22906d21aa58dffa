"""What happened, newest last, up to the moment of the playhead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl_tui.app.colours import ACCENT, ATTENTION, BROKEN, DIM, GREY, STEERED, TEXT, WELL
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, title, wrapped

if TYPE_CHECKING:
    from metarl_tui.events import Event

_MOST_EVENTS = 80
_USUAL_ROWS, _MOST_ROWS = 2, 4
_STATUS_COLOURS = {"failed": BROKEN, "finished": WELL, "paused": ATTENTION, "running": GREY}


@dataclass(frozen=True)
class Line:
    """One event: its iteration, what to say, and a colour by what it means."""

    iteration: int
    text: str
    colour: str


def event_colour(kind: str, record: dict[str, object]) -> str:
    """The colour of a journal record, by its meaning."""
    match kind:
        case "control":
            if record.get("result") == "rejected":
                return BROKEN
            return STEERED if record.get("changes") else GREY
        case "status":
            return _STATUS_COLOURS.get(str(record.get("state")), GREY)
        case "note":
            return TEXT
        case "resumed":
            return ACCENT
        case _:
            return DIM


def lines_of(events: Sequence[Event]) -> list[Line]:
    """The newest events as lines, each thing once; of automatic checkpoints in a row only the newest."""
    lines: list[Line] = []
    plain = False
    for event in events[-_MOST_EVENTS:]:
        if event.said_elsewhere:
            continue
        if plain and event.text == "checkpoint":
            lines.pop()
        plain = event.text == "checkpoint"
        place = len(lines)
        if event.kind == "checkpoint":  # the best one is saved when the next one is due
            while place and lines[place - 1].iteration > event.iteration:
                place -= 1
            plain &= place == len(lines)
        lines.insert(place, Line(event.iteration, event.text, event_colour(event.kind, event.record)))
    return lines


class JournalPanel(Rows):
    """The newest lines that fit; a long one takes two rows, more where all have room."""

    DEFAULT_CSS = """
    JournalPanel { width: 1fr; height: 1fr; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._lines: Sequence[Line] = ()
        self._has_log = False

    def show(self, lines: Sequence[Line], *, has_log: bool) -> None:
        """Show the newest of ``lines``, which are oldest first; with a log there is a key to follow it."""
        self._lines, self._has_log = lines, has_log
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        digits = max((len(str(line.iteration)) for line in self._lines[-height:]), default=0)
        shown: list[Row] = []
        for most in (_MOST_ROWS, _USUAL_ROWS) if len(self._lines) < height else (_USUAL_ROWS,):
            shown = []
            for line in reversed(self._lines):
                block = _block(line, max(digits, 3), width, most)
                if len(shown) + len(block) > height - 1:
                    break
                shown[:0] = block
            else:
                break  # all have room
        if not shown:
            shown = [[say(fit("nothing yet", width).rstrip(), DIM)]]
        return [title("journal", width, [say("l log", DIM)] if self._has_log else None), *shown]


def _block(line: Line, digits: int, width: int, most: int) -> list[Row]:
    """The line in at most ``most`` rows, its iteration in front."""
    first, *more = wrapped(line.text, width - digits - 2, most)
    rows: list[Row] = [[say(f"{line.iteration:>{digits}}  ", line.colour), say(first, line.colour)]]
    return rows + [[say(" " * (digits + 2)), say(part, line.colour)] for part in more]
