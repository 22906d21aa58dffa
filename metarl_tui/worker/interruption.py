"""Signals that end a run: finish the iteration, save, leave; a second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

PATIENCE_SECONDS = 8.0
"""An iteration that takes longer than this after a signal is given up for the newest checkpoint."""


def ending_signals() -> list[signal.Signals]:
    """The signals that end a program; a hangup does not where it is ignored, as nohup has it.

    SIGINT does also where it is ignored: a shell without job control starts all in the background so, and a
    batch script sends it to one process on purpose.
    """
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignores_hangup else [signal.SIGHUP])]


class Interruption:
    """What the process was told from outside. Installed before anything slow is imported."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.give_up: Callable[[str, int], None] | None = None
        """Called with a reason and an exit code from a timer's thread; must end the process."""
        self.keep: Callable[[], None] | None = None
        """Called before the process ends at once, to write what is still to be written; must not wait."""
        self.before_exit: Callable[[], None] | None = None
        """Called before the process ends at once, to restore a terminal."""
        self._timer: threading.Timer | None = None
        self._installed: list[signal.Signals] = []

    def install(self) -> Interruption:
        self._installed += ending_signals()
        for number in self._installed:
            signal.signal(number, self._received)
        return self

    def heed(self, name: str) -> None:
        """Let one signal more end the run, ``USR1`` or ``USR2``, where signals end it at all."""
        if self._installed and name in ("USR1", "USR2"):
            self._installed.append(signal.Signals[f"SIG{name}"])
            signal.signal(self._installed[-1], self._received)

    def restore(self) -> None:
        """Forget the timer and put the default handlers back.

        Where a signal has ended the run the process is leaving, with its exit code: a batch system sends
        another signal soon after, which Python would die of while it takes itself down.
        """
        if self._timer:
            self._timer.cancel()
        for number in self._installed:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if self.signal else default)

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            self._timer = threading.Timer(PATIENCE_SECONDS, self._expired)
            self._timer.daemon = True
            self._timer.start()
        elif number == signal.SIGINT:
            self._leave()

    def _expired(self) -> None:
        if self.give_up and self.signal:
            self.give_up(
                f"ended by {self.signal.name}; the unfinished iteration was given up", self.exit_code
            )
        self._leave()

    def _leave(self) -> None:
        try:
            if self.keep:
                self.keep()
            if self.before_exit:
                self.before_exit()
        finally:
            os._exit(self.exit_code)
