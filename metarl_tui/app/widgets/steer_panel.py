"""The live hyperparameters: their values at the playhead, and changing them while the run trains."""

from __future__ import annotations

from typing import Literal

from textual import events
from textual.message import Message
from textual.timer import Timer

from metarl_tui.app.colours import ACCENT, ATTENTION, BRIGHT, BROKEN, DIM, GREY, STEERED, TEXT
from metarl_tui.app.steering import InvalidValue, Steering, takes
from metarl_tui.app.steering import Row as Setting
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, space, title, width_of, wrapped
from trainers.declarations import Value

SEND_AFTER_SECONDS = 0.4
_DIRECTIONS: dict[str, Literal[-1, 1]] = {"left": -1, "right": 1, "up": -1, "down": 1}


class SteerPanel(Rows):
    """One setting a row. ◀ ▶ step the chosen one, typing edits it; changes are sent as one request."""

    DEFAULT_CSS = """
    SteerPanel { width: 1fr; }
    """

    class Send(Message):
        """Changes that a person wants, checked together."""

        def __init__(self, changes: dict[str, Value]) -> None:
            super().__init__()
            self.changes = changes

    class Done(Message):
        """The person has finished here."""

    class Refused(Message):
        """A value that can't be sent; ``why`` names it and what is allowed."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def __init__(self, steering: Steering, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.steering = steering
        self.edited: str | None = None
        """What is being typed, or ``None``."""
        self.steerable = False
        self._note = ("", DIM)
        self._timer: Timer | None = None

    def let(self, steerable: bool) -> None:
        """Whether there is a worker to steer."""
        if self.steerable == steerable:
            return
        self.steerable = self.can_focus = steerable
        if not steerable:
            self._forget()
            if self.has_focus:
                self.screen.set_focus(None)
        self.redraw()

    def note(self, text: str, colour: str = DIM) -> None:
        """The panel's last line."""
        self._note = (text, colour)
        self.redraw()

    @property
    def height_wanted(self) -> int:
        """Rows that show all settings, with title and last line."""
        return len(self.steering.declarations) + 3

    # -- keys -------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        if not self.steerable or event.key == "ctrl+c":
            return
        if self._edit(event) if self.edited is not None else self._choose(event):
            event.stop()
            event.prevent_default()
            self.redraw()

    def _choose(self, event: events.Key) -> bool:
        if event.key in ("up", "down"):
            self._note = ("", DIM)
            self._send_now()
            self.steering.choose(_DIRECTIONS[event.key])
        elif event.key in ("left", "right"):
            self.nudge(_DIRECTIONS[event.key])
        elif event.key == "enter":
            if self.steering.wishes:
                self._send_now()
            else:
                self.edited = ""
        elif event.key == "escape":
            self._send_now()
            self.post_message(self.Done())
        elif event.character and event.is_printable and takes(self.steering.declaration, event.character):
            self._send_now()
            self.edited = event.character
        else:
            return False
        return True

    def _edit(self, event: events.Key) -> bool:
        assert self.edited is not None
        if event.key == "escape":
            self.edited = None
        elif event.key == "enter":
            text, self.edited = self.edited, None
            if text.strip():
                self._type(text)
        elif event.key == "backspace":
            self.edited = self.edited[:-1]
        elif event.key in ("up", "down"):
            self.edited = None
            return self._choose(event)
        elif event.character and event.is_printable and len(self.edited) < 24:
            self.edited += event.character
        return True

    def nudge(self, direction: Literal[-1, 1]) -> None:
        """Step the chosen value; it is sent when no more steps follow."""
        self._note = ("", DIM)
        self.steering.nudge(direction)
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(SEND_AFTER_SECONDS, self._send_now)

    def on_click(self, event: events.Click) -> None:
        index = self._first_shown() + event.y - 1
        if not self.steerable or not 0 <= index < len(self.steering.declarations) or event.y < 1:
            return
        self.focus()
        self._send_now()
        self.steering.chosen = index
        arrows = self.size.width - event.x
        if arrows in (1, 2, 3):
            self.nudge(1 if arrows == 1 else -1)
        self.redraw()

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.edited = None
        if self._note[1] == BROKEN:  # it is about what was being typed here
            self._note = ("", DIM)
        self._send_now()
        self.redraw()

    def _type(self, text: str) -> None:
        try:
            self.steering.type(text)
        except InvalidValue as refusal:
            self.refuse(str(refusal))
        else:
            self._send_now()

    def _send_now(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if not self.steering.wishes:
            return
        try:
            changes = self.steering.take_wishes()
        except InvalidValue as refusal:
            self.refuse(str(refusal))
        else:
            self.post_message(self.Send(changes))

    def refuse(self, why: str) -> None:
        """Say why a value was not sent."""
        self.note(why, BROKEN)
        self.post_message(self.Refused(why))

    def _forget(self) -> None:
        self.edited = None
        self.steering.wishes.clear()
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    # -- drawing ----------------------------------------------------------------------------------

    def rows(self, width: int, height: int) -> list[Row]:
        name = "steer" if self.steerable else "settings"
        note = wrapped(self._note[0], width - 4, 4) if self._note[0] else [""]
        room = max(height - 1 - len(note), 1)
        first = self._first_shown(room)
        shown = self.steering.rows()[first : first + room]
        count = len(self.steering.declarations)
        right = f"{first + 1}–{first + len(shown)} of {count}" if len(shown) < count else ""
        right = "  ".join(word for word in (right, "e" if self.steerable else "") if word)
        rows = [title(name, width, [say(right, DIM)] if right else None)]
        rows += [self._row(setting, first + index, width) for index, setting in enumerate(shown)]
        rows += [[say(f"    {line}", self._note[1])] for line in note]
        return rows

    def _first_shown(self, room: int | None = None) -> int:
        """The first row in view, such that the chosen one is."""
        if room is None:
            room = max(self.size.height - 2, 1)
        spare = max(len(self.steering.declarations) - room, 0)
        return min(max(self.steering.chosen - room // 2, 0), spare)

    def _row(self, setting: Setting, index: int, width: int) -> Row:
        chosen = self.has_focus and index == self.steering.chosen
        declaration = setting.declaration
        left: Row = [
            say("▌" if chosen else " ", ACCENT),
            say(f" {declaration.symbol or ' '} ", DIM if not chosen else GREY),
        ]
        arrows: Row = [say(" ◀ ▶", ACCENT)] if chosen and self.edited is None else [space(4)]
        if not self.steerable:
            arrows = []
        value = [*self._value(setting, chosen, width), *arrows]
        room = width - width_of(left) - width_of(value) - 1
        colour = BRIGHT if chosen else TEXT
        return [*left, say(fit(declaration.name, room), colour), space(1), *value]

    def _value(self, setting: Setting, chosen: bool, width: int) -> Row:
        longest = max(width - 24, 8)
        if chosen and self.edited is not None:
            return [say(f" {self.edited}", BRIGHT), say("▌", ACCENT), space(2)]
        if setting.waiting:
            text = f"{setting.value} ⋯ {setting.wanted}"
            text = text if len(text) <= longest else f"⋯ {setting.wanted}"
            return [say(fit(text, min(len(text), longest)), ATTENTION), space(2)]
        colour = STEERED if setting.changed_by_hand else DIM if setting.value in ("off", "?") else TEXT
        value = setting.value if len(setting.value) <= longest else fit(setting.value, longest)
        return [say(value, colour), say(" ↘" if setting.scheduled else "  ", GREY)]
