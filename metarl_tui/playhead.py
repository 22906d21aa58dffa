"""Where on a tape the screen stands: live at its end, held, or playing. Pure, as the tape is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from metarl_tui.tape import Tape


@dataclass
class Playhead:
    """Where on the tape the screen stands: at its end (live), at one iteration (held), or moving (playing).

    ``speed`` multiplies the recorded median rate, which counts as at least one iteration a second.
    """

    mode: Literal["live", "held", "playing"] = "live"
    position: float = 0.0
    speed: float = 1.0
    slowest: float = field(default=1 / 8, repr=False)
    fastest: float = field(default=64.0, repr=False)

    @property
    def live(self) -> bool:
        return self.mode == "live"

    @property
    def iteration(self) -> int:
        """The iteration that every panel shows."""
        return int(self.position)

    def advance(self, seconds: float, tape: Tape) -> bool:
        """Let ``seconds`` pass; call it also after the tape grew. Whether the iteration or mode changed."""
        before = (self.mode, self.iteration)
        if self.mode == "playing":
            rate = max(1.0, 1 / tape.seconds_per_iteration) if tape.seconds_per_iteration > 0 else 1.0
            self.position = max(self.position, tape.first) + max(seconds, 0.0) * rate * self.speed
            if self.position >= tape.last:
                self.end(tape)
        elif self.mode == "live":
            self.position = tape.last
        else:
            self.position = self._within(self.position, tape)
        return before != (self.mode, self.iteration)

    def seek(self, iteration: float, tape: Tape) -> None:
        """Go to ``iteration``. A playing tape plays on from there; at the end it behaves as :meth:`end`."""
        if iteration >= tape.last:
            self.end(tape)
            return
        self.position = self._within(iteration, tape)
        if self.mode == "live":
            self.mode = "held"

    def step(self, iterations: int, tape: Tape) -> None:
        """Move by whole iterations and hold there."""
        if self.mode == "playing":
            self.mode = "held"
        self.seek(self.iteration + iterations, tape)

    def jump(self, direction: Literal[-1, 1], tape: Tape) -> None:
        """Move by a twentieth of the tape."""
        self.seek(self.iteration + direction * max(1, round((tape.last - tape.first) / 20)), tape)

    def home(self, tape: Tape) -> None:
        self.seek(tape.first, tape)

    def end(self, tape: Tape) -> None:
        """To the newest iteration: live when training may go on, held when it is over."""
        self.position = tape.last
        self.mode = "held" if tape.ended else "live"

    def toggle(self, tape: Tape) -> None:
        """Play or hold; at the end of a run that is over, play from the start."""
        if self.mode == "held":
            self.mode = "playing"
            if self.position >= tape.last:
                self.position = tape.first if tape.ended else tape.last
        else:
            self.mode = "held"
            self.position = self._within(self.position, tape)

    def faster(self) -> None:
        self.speed = min(self.speed * 2, self.fastest)

    def slower(self) -> None:
        self.speed = max(self.speed / 2, self.slowest)

    def _within(self, position: float, tape: Tape) -> float:
        return float(min(max(position, tape.first), tape.last))
