"""The part of the run screen that asks something of the worker: pause, steer, save, stop, start again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual.widget import Widget

from metarl_tui.app.colours import ATTENTION, BROKEN, DIM
from metarl_tui.app.outbox import Outbox, Reply
from metarl_tui.app.screens.base import CommandScreen
from metarl_tui.app.widgets.answer import Answer
from metarl_tui.app.widgets.steer_panel import SteerPanel
from metarl_tui.runs.files import shown
from metarl_tui.runs.folder import NotTrusted, RunError, RunFolder
from metarl_tui.runs.requests import Action
from trainers.declarations import InvalidValue

if TYPE_CHECKING:
    from metarl_tui.app.follow import Follower


class TrainingScreen(CommandScreen):
    """Sends requests and says what became of them."""

    folder: RunFolder
    follower: Follower | None
    outbox: Outbox

    @property
    def iteration(self) -> int:
        """Where the playhead stands."""
        raise NotImplementedError

    def to_newest(self) -> None:
        """Move the playhead to the end of the tape."""
        raise NotImplementedError

    def paint(self) -> None:
        """Show the moment of the playhead."""
        raise NotImplementedError

    @property
    def answer(self) -> Answer:
        return self.query_one(Answer)

    @property
    def panel(self) -> SteerPanel:
        return self.query_one(SteerPanel)

    @property
    def side(self) -> Widget:
        """The panels beside the charts; on a narrow screen over them."""
        return self.query_one("#side")

    @property
    def body(self) -> Widget:
        """Charts and panels; its classes say which panel a narrow screen shows over the charts."""
        return self.query_one("#body")

    @property
    def laid_over(self) -> bool:
        """Whether the steer panel or a picture lies over the charts."""
        return bool(self.body.classes & {"-open", "-view"}) and not self.has_class("-side")

    def without_path(self, error: Exception) -> str:
        """What went wrong, in one line that has room for it: which run it is can be seen."""
        path = shown(self.folder.path)
        return str(error).replace(f"{path} may", "its folder may", 1).replace(f"{path}/", "", 1)

    def tell(self, reply: Reply) -> None:
        """Say what became of a request where the person looks: in the panel or in the answer line."""
        if reply.steering:
            self.panel.note(reply.short or reply.text, reply.colour)
            if self.panel.size.height:
                return
        self.answer.say(reply.text, reply.colour)

    def tell_answers(self) -> None:
        """Say which requests have been answered."""
        if self.follower is not None:
            for reply in self.outbox.answers(self.follower.tape):
                self.tell(reply)

    def request(self, action: Action, changes: Mapping[str, Any] | None = None) -> None:
        """Send a request and say that it is on its way."""
        seconds = self.follower.tape.seconds_per_iteration if self.follower else 0.0
        try:
            self.tell(self.outbox.ask(action, changes, iteration_seconds=seconds))
        except RunError as error:
            self.tell(Reply(self.without_path(error), BROKEN, bool(changes)))
        self.paint()

    def action_pause(self) -> None:
        paused = self.follower is not None and self.follower.state == "paused"
        self.request("resume" if paused else "pause")

    def action_save(self) -> None:
        self.request("save")

    def action_stop(self) -> None:
        question = f"End the training of {self.folder.title}? It is saved first"
        self.answer.ask(question, lambda: self.request("stop"))
        self.show_keys()

    def action_fork(self) -> None:
        at = self.iteration
        question = f"Start a new run that leaves {self.folder.title} after iteration {at}?"
        self.answer.ask(question, lambda: self._fork(at))
        self.show_keys()

    def _fork(self, at: int) -> None:
        self.answer.say(f"forking after iteration {at}", ATTENTION)
        self.run_worker(self._open_fork(at), group="fork", exclusive=True)

    async def _open_fork(self, at: int) -> None:
        try:
            await self.metarl.fork(self.folder, at)
        except NotTrusted:
            self.answer.say(self._why_not_here("fork"), BROKEN)
        except (RunError, InvalidValue) as error:
            self.answer.say(self.without_path(error), BROKEN)
        else:
            self.answer.say("")

    def _why_not_here(self, command: str) -> str:
        """One line has no room for all that has to be read before somebody else's code is agreed to."""
        again = f"metarl-tui {command} {self.folder.short_id}"
        return f"begun by somebody else, names its own code; {again} shows it and asks"

    def action_restart(self) -> None:
        question = f"Resume the training of {self.folder.title} from its newest checkpoint?"
        self.answer.ask(question, self._restart)
        self.show_keys()

    def _restart(self) -> None:
        try:
            self.metarl.restart(self.folder)
        except NotTrusted:
            self.answer.say(self._why_not_here("resume"), BROKEN)
        except RunError as error:
            self.answer.say(self.without_path(error), BROKEN)
        else:
            self.answer.say("starting again from the newest good checkpoint", ATTENTION)
            self.to_newest()

    def action_steer(self) -> None:
        self.to_newest()
        self.body.remove_class("-view").add_class("-open")
        self.panel.focus()

    def on_steer_panel_send(self, message: SteerPanel.Send) -> None:
        self.request("set", message.changes)

    def on_steer_panel_refused(self, message: SteerPanel.Refused) -> None:
        if not self.panel.size.height:
            self.answer.say(message.why, BROKEN)

    def on_steer_panel_done(self) -> None:
        self.end_steering()

    def end_steering(self) -> None:
        """Leave the steer panel; what was laid over the charts goes away."""
        self.body.remove_class("-open", "-view")
        if self.panel.has_focus:
            self.set_focus(None)
        self.answer.say("", DIM)
        self.show_keys()
