"""The line above the footer: the newest answer to a person, or a question that waits for y or n."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.widget import Widget

from metarl_tui.app.colours import ACCENT, ATTENTION, DIM, TEXT
from metarl_tui.app.widgets.rows import Row, Rows, fit, say


class Answer(Rows):
    """Says one thing at a time. While it asks, it has the focus and takes every key."""

    DEFAULT_CSS = """
    Answer { height: 1; width: 1fr; }
    """
    can_focus = True

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.text = ""
        self._colour = DIM
        self.question: str | None = None
        self._on_yes: Callable[[], None] | None = None
        self._focus_before: Widget | None = None

    def say(self, text: str, colour: str = DIM) -> None:
        """Show ``text``; a question that is open stays."""
        self.text, self._colour = text, colour
        self.redraw()

    def ask(self, question: str, on_yes: Callable[[], None]) -> None:
        """Ask; ``on_yes`` is called when y is pressed, any other key means no."""
        if self.question is None:
            self._focus_before = self.screen.focused
        self.question, self._on_yes = question, on_yes
        self.focus()
        self.redraw()

    def on_key(self, event: events.Key) -> None:
        if self.question is None or event.key == "ctrl+c":
            return
        event.stop()
        event.prevent_default()
        act = self._on_yes if event.key in ("y", "Y") else None
        self.question = self._on_yes = None
        if self._focus_before is not None and self._focus_before.is_attached:
            self._focus_before.focus()
        else:
            self.screen.set_focus(None)
        self.say("")
        if act:
            act()

    def on_blur(self) -> None:
        self.question = self._on_yes = None
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        if self.question is not None:
            choice: Row = [say("  y", ACCENT), say(" yes  ", TEXT), say("n", ACCENT), say(" no", TEXT)]
            return [
                [say(fit(self.question, min(len(self.question), max(width - 13, 0))), ATTENTION), *choice]
            ]
        return [[say(fit(self.text, width).rstrip(), self._colour)]]
