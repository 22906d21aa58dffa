"""What can be done on each screen: one table, from which come keys, footer, help and command palette."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.binding import Binding, BindingType

Place: TypeAlias = Literal["run", "steer", "home", "log", "help"]


@dataclass(frozen=True)
class Command:
    """One thing to do. ``action`` names the method ``action_<action>`` of the screen that has it.

    ``keys`` are Textual's names, ``shown`` is how people read them. A command with a ``label`` is in the
    footer while its screen allows it, in the order of ``rank``: the lowest stay longest when room is short.
    """

    place: Place
    action: str
    keys: tuple[str, ...]
    shown: str
    label: str
    help: str
    rank: int = 50
    group: str = ""
    priority: bool = False
    palette: bool = True

    def key(self, *, ascii_only: bool) -> str:
        """How people read its keys; arrows in ASCII would look like the keys < and >."""
        return self.shown.replace("←→", "arrows").replace("◀ ▶", "arrows") if ascii_only else self.shown


COMMANDS: tuple[Command, ...] = (
    Command("run", "pause", ("p",), "p", "pause", "pause training after this iteration, or let it go on", 1,
            "training"),
    Command("run", "steer", ("e",), "e", "steer", "change hyperparameters while the run trains", 2,
            "training"),
    Command("run", "restart", ("r",), "r", "resume", "start training again from the newest good checkpoint",
            1,
            "training"),
    Command("run", "save", ("s",), "s", "save", "save a checkpoint now", 8, "training"),
    Command("run", "fork", ("f",), "f", "fork",
            "start a new run that leaves this one at the playhead; asks first", 9, "training"),
    Command("run", "stop", ("Q",), "Q", "stop", "end training after this iteration; asks first", 7,
            "training"),
    Command("run", "play", ("space",), "space", "play tape", "let the tape play, or hold it", 3, "tape"),
    Command("run", "step(-1)", ("left",), "←→", "move", "one iteration back or forward", 4, "tape",
            palette=False),
    Command("run", "step(1)", ("right",), "", "", "", group="tape", palette=False),
    Command("run", "jump(-1)", ("shift+left",), "shift ←→", "", "a twentieth of the tape back or forward",
            group="tape",
            palette=False),
    Command("run", "jump(1)", ("shift+right",), "", "", "", group="tape", palette=False),
    Command("run", "speed(-1)", ("less_than_sign",), "< >", "speed", "play the tape slower or faster", 12,
            "tape",
            palette=False),
    Command("run", "speed(1)", ("greater_than_sign",), "", "", "", group="tape", palette=False),
    Command("run", "first", ("home",), "home", "", "to the first iteration", group="tape"),
    Command("run", "newest", ("end",), "end", "", "to the newest iteration: live while the run trains",
            group="tape"),
    Command("run", "zoom", ("z", "enter"), "z", "zoom",
            "fill the screen with the chosen chart, or show all again", 9,
            "charts"),
    Command("run", "choose(-1)", ("up",), "↑↓", "", "choose a chart", group="charts", palette=False),
    Command("run", "choose(1)", ("down",), "", "", "", group="charts", palette=False),
    Command("run", "page(-1)", ("left_square_bracket",), "[ ]", "charts",
            "the charts before or after these", 5,
            "charts", palette=False),
    Command("run", "page(1)", ("right_square_bracket",), "", "", "", group="charts", palette=False),
    Command("run", "view", ("v",), "v", "view",
            "the adaptation as a picture, then by inner step, then neither", 5, "screen"),
    Command("run", "log", ("l",), "l", "log", "follow what the worker prints", 11, "screen"),
    Command("run", "help", ("question_mark",), "?", "help", "what the keys do", 6, "screen"),
    Command("run", "back", ("escape",), "esc", "back", "back to where you came from", 10, "screen"),
    Command("run", "leave", ("q", "ctrl+c"), "q", "leave", "leave; training goes on", 0, "screen",
            priority=True),
    Command("steer", "choose", (), "↑↓", "choose", "choose a hyperparameter", 3, "steering", palette=False),
    Command("steer", "nudge", (), "◀ ▶", "change", "step its value down or up; sent when you stop", 2,
            "steering",
            palette=False),
    Command("steer", "type", (), "0-9", "type", "type a value; enter sends it, esc gives it up", 4,
            "steering",
            palette=False),
    Command("steer", "send", (), "enter", "send", "send at once what was changed; else type a value", 1,
            "steering",
            palette=False),
    Command("steer", "done", (), "esc", "done", "back to the tape", 0, "steering", palette=False),
    Command("home", "open", ("enter",), "enter", "open", "watch a run that trains, replay one that ended",
            0, "runs"),
    Command("home", "move(-1)", ("up", "k"), "↑↓", "choose", "choose a run", 1, "runs", palette=False),
    Command("home", "move(1)", ("down", "j"), "", "", "", group="runs", palette=False),
    Command("home", "page(-1)", ("pageup",), "pgup pgdn", "", "a page up or down", group="runs",
            palette=False),
    Command("home", "page(1)", ("pagedown",), "", "", "", group="runs", palette=False),
    Command("home", "top", ("home",), "home", "", "to the newest run", group="runs", palette=False),
    Command("home", "bottom", ("end",), "end", "", "to the oldest run", group="runs", palette=False),
    Command("home", "delete", ("D",), "D", "delete", "delete the chosen run from disk; asks first", 4,
            "runs"),
    Command("home", "help", ("question_mark",), "?", "help", "what the keys do", 3, "screen"),
    Command("home", "leave", ("q", "ctrl+c"), "q", "quit", "leave; runs that train go on", 2, "screen",
            priority=True),
    Command("log", "scroll(-1)", ("up",), "↑↓", "scroll", "a line up or down", 2, "log", palette=False),
    Command("log", "scroll(1)", ("down",), "", "", "", group="log", palette=False),
    Command("log", "page(-1)", ("pageup",), "pgup pgdn", "", "a page up or down", group="log", palette=False),
    Command("log", "page(1)", ("pagedown",), "", "", "", group="log", palette=False),
    Command("log", "top", ("home",), "home", "", "to the first line kept", group="log", palette=False),
    Command("log", "bottom", ("end",), "end", "follow", "to the newest line, and follow", 1, "log",
            palette=False),
    Command("log", "back", ("escape", "l"), "esc", "back", "back to the run", 0, "screen"),
    Command("log", "leave", ("q", "ctrl+c"), "q", "leave", "leave; training goes on", 3, "screen",
            priority=True),
    Command("help", "back", ("escape", "question_mark", "q"), "esc", "back", "close this", 0, "screen"),
)  # fmt: skip


def commands(place: Place) -> Iterator[Command]:
    """The commands of one screen or panel, in the table's order."""
    return (command for command in COMMANDS if command.place == place)


def bindings(place: Place) -> list[BindingType]:
    """The keys of a screen, as Textual takes them."""
    return [
        Binding(key, command.action, command.label, show=False, priority=command.priority and key == "ctrl+c")
        for command in commands(place)
        for key in command.keys
    ]


def parsed(action: str) -> tuple[str, tuple[object, ...]]:
    """An action's name and parameters: ``step(-1)`` is ``("step", (-1,))``."""
    name, _, rest = action.partition("(")
    return name, (int(rest.rstrip(")")),) if rest else ()
