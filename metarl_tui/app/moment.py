"""What the panels show of one moment of a run: state, progress and speed at the playhead."""

from __future__ import annotations

from dataclasses import dataclass

from metarl_tui.app.colours import ACCENT, ATTENTION, BROKEN, GREY, TEXT, WELL

STATE_COLOURS = {
    "starting": ACCENT,
    "running": WELL,
    "paused": ATTENTION,
    "stalled": ATTENTION,
    "finished": WELL,
    "stopped": GREY,
    "failed": BROKEN,
    "lost": BROKEN,
    "unknown": GREY,
    "replay": ACCENT,
}
STATE_SIGNS = {"paused": "⏸", "failed": "▲", "lost": "▲", "stalled": "▲", "stopped": "○", "unknown": "○"}


@dataclass(frozen=True)
class Moment:
    """One moment of a run. ``share`` is the progress from 0 to 1, or ``None`` where it is not known."""

    trainer: str
    subject: str
    title: str = ""
    seed: int | None = None
    state: str = "starting"
    why: str = ""
    iteration: int = 0
    total: int | None = None
    share: float | None = None
    speed: float | None = None
    unit: str = "steps"
    left: float | None = None
    reading: float | None = None
    """Share of the journal that has been read, while that is less than all."""

    @property
    def colour(self) -> str:
        return STATE_COLOURS.get(self.state, TEXT)

    @property
    def sign(self) -> str:
        return STATE_SIGNS.get(self.state, "●")
