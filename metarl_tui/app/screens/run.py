"""One run: live, attached to, rewound or replayed. Every panel shows the moment of the playhead.

The first paint comes before NumPy is imported: it shows header, panels and an empty frame. Charts, tape and
the reading of the journal follow at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from metarl_tui.app.colours import ATTENTION, BROKEN
from metarl_tui.app.commands import Command, bindings
from metarl_tui.app.moment import Moment
from metarl_tui.app.outbox import Outbox, described
from metarl_tui.app.screens.training import TrainingScreen
from metarl_tui.app.steering import Steering, symbol
from metarl_tui.app.widgets.answer import Answer
from metarl_tui.app.widgets.footer import KeysFooter
from metarl_tui.app.widgets.header import Header
from metarl_tui.app.widgets.journal_panel import JournalPanel, Line, lines_of
from metarl_tui.app.widgets.steer_panel import SteerPanel
from metarl_tui.runs.blocks import blocks_if_big
from metarl_tui.runs.folder import RunFolder
from trainers.declarations import format_value
from trainers.hyperparameters import TRAINERS

if TYPE_CHECKING:
    from metarl_tui.app.follow import Follower
    from metarl_tui.app.widgets.chart_grid import ChartGrid
    from metarl_tui.app.widgets.picture_panel import PicturePanel
    from metarl_tui.app.widgets.tape_bar import TapeBar
    from metarl_tui.playhead import Playhead
    from metarl_tui.tape import Tape

_JOURNAL_ROWS, _FEWEST_SETTINGS = 7, 6
_STATUS_COLUMNS = 20
_WIDE_FOOTER = 110


class RunScreen(TrainingScreen):
    """Watches one run and steers it."""

    place = "run"
    CSS_PATH = "run.tcss"
    BINDINGS = bindings("run")
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-beside"), (100, "-side")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (12, "-low"), (30, "-tall")]  # noqa: RUF012

    def __init__(self, folder: RunFolder, *, replay: bool = False, speed: float = 1.0) -> None:
        super().__init__()
        self.folder = folder
        self.config = folder.config
        self.replay = replay
        self.speed = speed
        self.outbox = Outbox(folder)
        self.steering = Steering(self.config.trainer)
        self.follower: Follower | None = None
        self.playhead: Playhead | None = None
        self.grid: ChartGrid | None = None
        self.tape_bar: TapeBar | None = None
        self.pictures: PicturePanel | None = None
        self._blocks = blocks_if_big(folder.journal)
        self._trouble = ""
        self._rests_at_end = False
        self.seen_alive = False
        """Whether a worker trained this run while it was on the screen."""

    def compose(self) -> ComposeResult:
        ascii_only = self.metarl.ascii_only
        seed = self.config.setup.get("seed")
        moment = Moment(
            self.config.trainer,
            self.config.subject,
            self.config.name,
            seed if isinstance(seed, int) else None,
            state="starting" if self.metarl.launching(self.folder) else "opening",
        )
        yield Header(moment, ascii_only=ascii_only)
        with Horizontal(id="body"):
            yield Vertical(id="charts")
            with Vertical(id="side"):
                yield SteerPanel(self.steering, ascii_only=ascii_only)
                yield JournalPanel(ascii_only=ascii_only)
        yield Vertical(id="tape")
        yield Answer(ascii_only=ascii_only)
        yield KeysFooter(ascii_only=ascii_only)

    def on_mount(self) -> None:
        self.steering.look({**self.config.hyperparameters, **self.config.options}, (), ())
        self.show_keys()
        self.call_after_refresh(lambda: self.run_worker(self.until_left(self._follow()), exclusive=True))

    def on_unmount(self) -> None:
        if self._blocks is not None:
            self._blocks.end()

    def on_resize(self, _: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Share the side panel's height between its parts, and the tape's row with its words."""
        room = self.body.size.height - _JOURNAL_ROWS
        if self.has_class("-side"):
            wanted = self.pictures.rows_wanted(self.side.content_size.width) if self.pictures else 0
            fits = 0 < wanted < room - _FEWEST_SETTINGS
            self.side.set_class(fits, "-picture")
            if self.pictures is not None:
                self.pictures.styles.height = wanted
            self.panel.styles.height = max(min(self.panel.height_wanted, room - (wanted + 1) * fits), 4)
        else:
            self.panel.styles.height = "1fr"
            if self.pictures is not None:
                self.pictures.styles.height = "1fr"
        if self.tape_bar is not None:
            side = self.side.outer_size.width if self.has_class("-side") else _STATUS_COLUMNS
            self.tape_bar.status_width = side

    # -- following --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Read and paint until the screen closes. What needs NumPy is imported here, off the first paint."""
        await asyncio.to_thread(_import_charts)
        await self._mount_charts()
        assert self.follower is not None
        period, before, settled = 1 / self.metarl.refresh_rate, time.monotonic(), False
        painted = before - period if self.follower.end_first else before  # that end is there at once
        while True:
            glimpse = await asyncio.to_thread(self.follower.look)
            changed = self.follower.take(glimpse)
            now = time.monotonic()
            changed |= self._advance(now - before)
            before = now
            if changed and self.is_current and (self.follower.complete or now - painted >= period):
                self.tell_answers()
                self.paint()
                painted = now
            await asyncio.sleep(period if glimpse.at_end else 0)
            if glimpse.at_end and not settled:
                settled = True
                self.metarl.garbage.loaded()

    async def _mount_charts(self) -> None:
        from metarl_tui.app.follow import Follower
        from metarl_tui.app.widgets.chart_grid import ChartGrid
        from metarl_tui.app.widgets.picture_panel import PicturePanel
        from metarl_tui.app.widgets.tape_bar import TapeBar
        from metarl_tui.playhead import Playhead

        entry = TRAINERS.get(self.config.trainer)
        self.follower = Follower(self.folder, self.config, self._blocks)
        self.playhead = Playhead(speed=self.speed)
        self.grid = ChartGrid(entry.charts if entry else (), ascii=self.metarl.ascii_only)
        self.grid.can_focus = True
        self.tape_bar = TapeBar(ascii=self.metarl.ascii_only)
        await self.query_one("#charts").mount(self.grid)
        await self.query_one("#tape").mount(self.tape_bar)
        self.pictures = PicturePanel(ascii=self.metarl.ascii_only)
        await self.side.mount(self.pictures, after=self.panel)
        self._arrange()

    def _advance(self, seconds: float) -> bool:
        """Let the playhead follow the tape, or play it."""
        assert self.follower is not None
        assert self.playhead is not None
        follower, playhead, tape = self.follower, self.playhead, self.follower.tape
        self.seen_alive |= follower.controllable
        if self.replay and tape.last and follower.complete:
            self.replay = False
            playhead.home(tape)
            playhead.mode = "playing" if tape.last > tape.first else playhead.mode
        moved = playhead.advance(seconds, tape)
        if follower.over and follower.at_end and playhead.live:
            playhead.mode, moved = "held", True
        if follower.over and (tape.ended or follower.state == "lost"):
            self._rests_at_end = playhead.mode == "held" and playhead.iteration >= tape.last
        elif self._rests_at_end and follower.controllable and not tape.ended:
            # Somebody started it again; who looked at its end wants to see it go on.
            self._rests_at_end = False
            playhead.end(tape)
            moved = True
        return moved

    # -- painting ---------------------------------------------------------------------------------

    def paint(self) -> None:
        if self.follower is None or self.playhead is None or self.grid is None or self.tape_bar is None:
            return
        follower, playhead, tape = self.follower, self.playhead, self.follower.tape
        starting = self.metarl.launching(self.folder)
        self.query_one(Header).show(follower.moment(playhead, starting=starting))
        self.grid.update(tape, playhead)
        self.tape_bar.update(tape, playhead)
        self._show_pictures(tape, playhead)
        at_end = playhead.iteration >= tape.last
        moment = None if at_end else playhead.iteration
        waiting = self.outbox.waiting(follower.queued, tape) if at_end else []
        self.steering.queued = {name: value for one in waiting for name, value in one.changes.items()}
        by_hand = {
            name
            for marker in tape.markers
            if moment is None or marker.iteration <= moment
            for name in marker.changes
        }
        self.steering.look(tape.hyperparameters_at(moment), tape.scheduled_at(moment), by_hand)
        self.panel.let(follower.steerable)
        self.panel.redraw()
        lines = lines_of(tape.events if at_end else tape.events_at(playhead.iteration))
        lines += [
            Line(tape.last, f"{described_change(one.changes, self.steering) or one.action} queued", ATTENTION)
            for one in waiting
        ]
        self.query_one(JournalPanel).show(lines, has_log=self.folder.log.is_file())
        self._say_trouble()
        self.show_keys()

    def _show_pictures(self, tape: Tape, playhead: Playhead) -> None:
        assert self.pictures is not None
        before = self.pictures.shown
        self.pictures.show(tape, playhead.iteration)
        if self.pictures.shown != before:
            self._arrange()

    def _say_trouble(self) -> None:
        """Say once what is wrong with the journal."""
        assert self.follower is not None
        damaged = self.follower.damaged
        lines = f"{damaged} journal records could not be read and are left out"
        trouble = self.follower.trouble or (lines if damaged else "")
        if trouble != self._trouble:
            self._trouble = trouble
            self.answer.say(trouble, BROKEN)

    # -- commands ---------------------------------------------------------------------------------

    def label(self, command: Command) -> str | None:
        follower, playhead = self.follower, self.playhead
        match command.action:
            case "help" | "log":
                return command.label if command.action == "help" or self.folder.log.is_file() else None
            case "leave":
                alive = follower is not None and follower.standing is not None and follower.standing.alive
                return "leave, it goes on" if alive and self.size.width >= _WIDE_FOOTER else command.label
            case "back":
                zoomed = self.grid is not None and self.grid.zoomed
                return command.label if self.laid_over or zoomed or self.metarl.has_home else None
        if follower is None or playhead is None or self.grid is None:
            return None
        match command.action:
            case "pause":
                paused = follower.state == "paused"
                return ("resume" if paused else "pause") if follower.controllable else None
            case "save" | "stop":
                return command.label if follower.controllable else None
            case "steer":
                return command.label if follower.steerable else None
            case "restart":
                over = follower.state in ("stopped", "failed", "lost")
                return command.label if over and not self.metarl.launching(self.folder) else None
            case "view":
                return command.label if self.pictures is not None and self.pictures.views else None
            case "page(-1)" | "page(1)":
                return command.label if self.grid.pages > 1 else None
            case "zoom":
                return "all charts" if self.grid.zoomed else command.label
        if follower.tape.last <= follower.tape.first and not command.action.startswith("choose"):
            return None
        if command.action == "play":
            return "hold" if playhead.mode != "held" else command.label
        if command.action.startswith("speed"):
            return command.label if playhead.mode == "playing" else None
        return command.label

    def keys_now(self) -> list[tuple[Command, str]]:
        # The focus also leaves a screen that is being left, whose panel may have gone before.
        if any(panel.has_focus for panel in self.query(SteerPanel)):
            from metarl_tui.app.commands import commands

            return [(command, command.label) for command in commands("steer")]
        return super().keys_now()

    def _move(self, move: Callable[[Playhead, Tape], None]) -> None:
        """Move the playhead and show where it stands."""
        if self.follower is not None and self.playhead is not None:
            move(self.playhead, self.follower.tape)
            self._advance(0.0)
            self.paint()

    @property
    def iteration(self) -> int:
        return self.playhead.iteration if self.playhead is not None else 0

    def to_newest(self) -> None:
        self._move(lambda playhead, tape: playhead.end(tape))

    def action_play(self) -> None:
        self._move(lambda playhead, tape: playhead.toggle(tape))

    def action_step(self, direction: int) -> None:
        self._move(lambda playhead, tape: playhead.step(direction, tape))

    def action_jump(self, direction: int) -> None:
        self._move(lambda playhead, tape: playhead.jump(1 if direction > 0 else -1, tape))

    def action_speed(self, direction: int) -> None:
        self._move(lambda playhead, _: playhead.faster() if direction > 0 else playhead.slower())

    def action_first(self) -> None:
        self._move(lambda playhead, tape: playhead.home(tape))

    def action_newest(self) -> None:
        self.to_newest()

    def show_iteration(self, iteration: int | None) -> None:
        """Move the playhead to ``iteration``, or with ``None`` to the newest."""
        self._move(lambda playhead, tape: playhead.seek(tape.last if iteration is None else iteration, tape))

    def on_tape_bar_seek(self, message: TapeBar.Seek) -> None:
        self.show_iteration(message.iteration)

    def action_zoom(self) -> None:
        if self.grid is not None:
            self.grid.zoom()
            self.show_keys()  # in the same paint

    def action_choose(self, direction: int) -> None:
        if self.grid is not None:
            if self.grid.has_focus:
                self.grid.select(direction)
            else:
                self.grid.focus()

    def action_page(self, direction: int) -> None:
        if self.grid is not None:
            self.grid.page(direction)

    def on_chart_grid_paged(self) -> None:
        self.show_keys()

    def action_view(self) -> None:
        """The next view of the adaptation; on a narrow screen the first one opens over the charts."""
        if self.pictures is None:
            return
        beside = self.has_class("-side")
        if beside or self.body.has_class("-view"):
            self.pictures.turn()
        elif self.panel.has_focus:
            self.end_steering()
        if not beside:
            self.body.set_class(self.pictures.shown is not None, "-view")
            self.body.remove_class("-open")
            if self.pictures.shown is None:
                self.pictures.turn()
        self._arrange()
        self.paint()

    def action_log(self) -> None:
        from metarl_tui.app.screens.log import LogScreen

        self.app.push_screen(LogScreen(self.folder))

    def action_back(self) -> None:
        if self.laid_over:
            self.end_steering()
        elif self.grid is not None and self.grid.zoomed:
            self.grid.zoom()
        elif self.metarl.has_home:
            self.app.pop_screen()

    def on_screen_resume(self) -> None:
        self.paint()


def _import_charts() -> None:
    """Import what needs NumPy, in a thread, so that keys are answered meanwhile."""
    import metarl_tui.app.follow
    import metarl_tui.app.widgets.chart_grid
    import metarl_tui.app.widgets.picture_panel
    import metarl_tui.app.widgets.tape_bar  # noqa: F401


def described_change(changes: dict[str, Any], steering: Steering) -> str:
    """``epochs 4 → 6``, the old value being the one in force."""
    if not changes.keys() <= steering.in_force.keys():
        return described(changes)
    return ", ".join(
        f"{symbol(name)} {format_value(steering.in_force[name])} → {format_value(value)}"
        for name, value in changes.items()
    )
