"""What all screens share: keys, footer, help and palette that come from the table of commands."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.css.query import NoMatches
from textual.screen import Screen

from metarl_tui.app.commands import Command, Place, commands, parsed
from metarl_tui.app.updates import ThriftyCompositor
from metarl_tui.app.widgets.answer import Answer
from metarl_tui.app.widgets.footer import KeysFooter

if TYPE_CHECKING:
    from metarl_tui.app.app import MetarlApp


class CommandScreen(Screen[None]):
    """A screen whose keys are the commands of its ``place``. :meth:`label` says which work now."""

    place: ClassVar[Place]
    AUTO_FOCUS = None

    def __init__(self) -> None:
        super().__init__()
        self._compositor = ThriftyCompositor()
        self._hurried = False

    def on_mount(self) -> None:
        # Textual does so after the first paint, which would then be laid out anew.
        width, height = self.app.size
        for size, breakpoints in ((width, self.HORIZONTAL_BREAKPOINTS), (height, self.VERTICAL_BREAKPOINTS)):
            reached = [(least, name) for least, name in breakpoints or () if least <= size]
            self.add_class(*(name for _, name in reached and [max(reached)]), update=False)

    @property
    def metarl(self) -> MetarlApp:
        """The app, by its own type."""
        return cast("MetarlApp", self.app)

    def hurry(self) -> None:
        """Paint what changes next as soon as it has: somebody waits for it."""
        self._hurried = True

    def on_idle(self) -> None:
        # Textual would wait until a sixtieth of a second after the last paint, and charts paint often.
        if self._hurried and (self._dirty_widgets or self._layout_required):
            self._hurried = False
            self._on_timer_update()

    async def until_left(self, work: Awaitable[None]) -> None:
        """Do ``work``, which comes back from threads: when a screen is left, its widgets leave before it."""
        try:
            await work
        except NoMatches:
            if self.app.is_running and self in self.app.screen_stack:
                raise

    def label(self, command: Command) -> str | None:
        """What the footer calls ``command`` now, or ``None`` while it would do nothing."""
        return command.label

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        for command in commands(self.place):
            if parsed(command.action) == (action, parameters):
                return self.label(command) is not None
        return True

    def keys_now(self) -> list[tuple[Command, str]]:
        """The commands of the footer, with their labels."""
        found = ((command, self.label(command)) for command in commands(self.place) if command.shown)
        return [(command, label) for command, label in found if label]

    def show_keys(self) -> None:
        """Bring the footer up to date."""
        for footer in self.query(KeysFooter):
            answers = self.query(Answer)
            footer.show([] if answers and answers.first().question is not None else self.keys_now())

    def on_descendant_focus(self, _: Any) -> None:
        self.show_keys()

    def on_descendant_blur(self, _: Any) -> None:
        self.show_keys()

    def action_leave(self) -> None:
        self.metarl.leave()

    def action_help(self) -> None:
        from metarl_tui.app.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))
