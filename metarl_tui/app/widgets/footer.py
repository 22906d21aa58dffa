"""The last line: the keys that work now, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from metarl_tui.app.colours import ACCENT
from metarl_tui.app.commands import Command
from metarl_tui.app.widgets.rows import Row, Rows, keys


class KeysFooter(Rows):
    """Shows commands by key and label. Where room is short, those of the highest rank go first."""

    DEFAULT_CSS = """
    KeysFooter { height: 1; width: 1fr; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._commands: Sequence[tuple[Command, str]] = ()

    def show(self, commands: Sequence[tuple[Command, str]]) -> None:
        """Show these commands with these labels, in this order."""
        self._commands = commands
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        chosen = list(self._commands)
        while chosen and self._length(chosen) > width:
            chosen.remove(max(chosen, key=lambda item: item[0].rank))
        return [keys([(self._key(command), label) for command, label in chosen], ACCENT)]

    def _length(self, chosen: Sequence[tuple[Command, str]]) -> int:
        return sum(len(self._key(command)) + len(label) + 3 for command, label in chosen) - 2

    def _key(self, command: Command) -> str:
        return command.key(ascii_only=self.ascii_only)
