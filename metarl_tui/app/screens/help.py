"""What the keys do: the table of commands, read out."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from metarl_tui.app.colours import ACCENT, DIM, GREY, TEXT
from metarl_tui.app.commands import bindings, commands
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.app.widgets.footer import KeysFooter
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, title

_WIDEST, _KEYS = 78, 13
_DRAWN = (
    ("bright", "the mean of nearby iterations"),
    ("dim", "from the lowest to the highest; where values are a → b, also a"),
    ("violet", "what was changed by hand, and when"),
    ("amber", "look here: asked for and not yet applied; on the tape a note"),
    ("↘", "a value that follows its schedule"),
)


class HelpRows(Rows):
    """Commands in groups: key and what it does."""

    DEFAULT_CSS = """
    HelpRows { width: 1fr; }
    """

    def __init__(self, groups: list[tuple[str, list[tuple[str, str]]]], *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._groups = groups
        self.styles.height = sum(len(lines) + 2 for _, lines in groups)

    def rows(self, width: int, height: int) -> list[Row]:
        width = min(width, _WIDEST)
        rows: list[Row] = []
        for name, lines in self._groups:
            rows.append(title(name, width))
            rows += [
                [say(fit(key, _KEYS), ACCENT), say(fit(text, width - _KEYS), TEXT)] for key, text in lines
            ]
            rows.append([])
        return rows


class HelpScreen(CommandScreen):
    """The keys of the screen that it was opened from, and what the marks of a run's screen mean."""

    place = "help"
    CSS_PATH = "help.tcss"
    BINDINGS = bindings("help")

    def __init__(self, about: CommandScreen) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        ascii_only = self.metarl.ascii_only
        places = ["run", "steer"] if self._about.place == "run" else [self._about.place]
        listed = [command for place in places for command in commands(place) if command.help]  # type: ignore[arg-type]
        groups = [
            (name, [(command.key(ascii_only=ascii_only), command.help) for command in group])
            for name, group in groupby(listed, key=lambda command: command.group)
        ]
        if self._about.place == "run":
            groups.append(("what is drawn", list(_DRAWN)))
        groups.append(("everywhere", [("ctrl+p", "find a command by its name"), ("ctrl+c", "leave")]))
        yield _Heading(ascii_only=ascii_only)
        with VerticalScroll():
            yield HelpRows(groups, ascii_only=ascii_only)
        yield KeysFooter(ascii_only=ascii_only)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self.show_keys()

    def action_back(self) -> None:
        self.app.pop_screen()

    def on_key(self, event: Any) -> None:
        if event.key == "ctrl+c":
            self.metarl.leave()


class _Heading(Rows):
    DEFAULT_CSS = """
    _Heading { height: 2; }
    """

    def rows(self, width: int, height: int) -> list[Row]:
        return [
            [
                say("metarl-tui", ACCENT),
                say("  keys", GREY),
                say("   the footer has those that it has room for", DIM),
            ]
        ]
