"""Training in the foreground without the screen: for a plain terminal, a pipe, a batch job.

The same worker, folder and steering as ever; only what is said about it differs. On a terminal a progress
line, in a pipe a plain line every few seconds, with ``json`` the journal's records as they are written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import number
from metarl_tui.runs.states import ENDED
from metarl_tui.text import clean, duration, short_number
from metarl_tui.worker.interruption import Interruption
from trainers.declarations import as_json
from trainers.hyperparameters import TRAINERS
from trainers.metrics import metric

LINE_SECONDS = 5.0
FRAME_SECONDS = 0.2
BAR_COLUMNS = 16
_BETWEEN = 2


def train_here(
    folder: RunFolder, *, json: bool = False, asked: dict[str, Any] | None = None, rebase: bool = False
) -> int:
    """Train the run in this process until it ends; the exit code.

    Raises :class:`~metarl_tui.runs.folder.RunError` when another worker has the run.
    """
    interruption = Interruption().install()
    from metarl_tui.runs.requests import sender
    from metarl_tui.worker.loop import AskedAtStart, train

    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - it stays open as long as the process
    order = AskedAtStart(asked, rebase, os.urandom(6).hex(), sender()) if asked else None
    report = _JsonLines(folder) if json else _on_terminal(folder) if sys.stdout.isatty() else _InPipe(folder)
    listener = _Listener(report.observe, interruption)
    interruption.before_exit = report.close
    try:
        return train(folder, interruption, attended=False, asked=order, observer=listener.observe)
    finally:
        with suppress(OSError):
            report.close()
            if listener.listens:
                report.summarise()
        interruption.restore()


class _Listener:
    """Hands records to a report for as long as somebody reads it; what is wrong with the output ends no run.

    Where the reader of a pipe has left, the run ends as if by a signal: with a checkpoint.
    """

    def __init__(self, observe: Callable[[dict[str, Any]], None], interruption: Interruption) -> None:
        self._observe = observe
        self._interruption = interruption
        self.listens = True

    def observe(self, record: dict[str, Any]) -> None:
        if not self.listens:
            return
        try:
            self._observe(record)
        except OSError as error:
            self.listens = False
            if isinstance(error, BrokenPipeError) and self._interruption.signal is None:
                self._interruption.signal = signal.SIGPIPE
            # Python flushes standard output once more as it exits, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Report:
    """What both reports know: how far the run is and its key numbers."""

    def __init__(self, folder: RunFolder, out: TextIO) -> None:
        self.folder = folder
        self.out = out
        self.entry = TRAINERS[folder.config.trainer]
        self.values: dict[str, float] = {}
        self.iteration = 0
        self.started = False
        self._goes_forward = False
        self._hyperparameters = {**as_json(self.entry.hyperparameters()), **folder.config.hyperparameters}

    def observe(self, record: dict[str, Any]) -> None:
        match record["kind"]:
            case "metrics":
                self.iteration = record["iteration"]
                self.values.update({key: number(value) for key, value in record["values"].items()})
                self.progressed()
            case "status":
                # What ends before it has started is an error, which whoever called prints; so is a fork
                # that on its way is found to be another than its parent.
                if record["state"] == "started":
                    self.started = True
                    self._goes_forward = "forward_to" in record
                    self.introduce()
                elif self.started and not (self._goes_forward and record["state"] == "failed"):
                    self._goes_forward &= record["state"] == "starting"
                    if record["state"] in ENDED:
                        self.ended(record)
                    else:
                        self.say(_status(record))
            case "note":
                self.say(f"iteration {record['iteration']}: {clean(record['text'])}")
            case "control":
                self._controlled(record)

    def _controlled(self, record: dict[str, Any]) -> None:
        from metarl_tui.events import describe

        if record.get("result") == "applied":
            self._hyperparameters.update({name: pair[1] for name, pair in record["changes"].items()})
        self.say(f"iteration {record['iteration']}: {describe('control', record)}")

    @property
    def share(self) -> float:
        done, total = self.values.get("time/steps", 0.0), self._hyperparameters.get("total_steps")
        if total is None:
            done, total = self.iteration, self._hyperparameters.get("iterations")
        return min(done / total, 1.0) if total else 0.0

    def numbers(self, width: int | None = None) -> str:
        """The key numbers of the newest iteration on one line, as many as ``width`` columns hold."""
        shown = [
            f"{metric(key).title} {short_number(self.values[key])}"
            for key in self.entry.charts[:4]
            if key in self.values
        ]
        for key in ("time/fps", "time/iterations_per_second"):
            if key in self.values:
                shown.append(f"{short_number(self.values[key])} {metric(key).unit}")
        while width is not None and shown and len("  ".join(shown)) > width:
            shown.pop()
        return "  ".join(shown)

    def introduce(self) -> None:
        self.say(f"run {self.folder.short_id} in {clean(self.folder.path)}")

    def progressed(self) -> None: ...

    def say(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def ended(self, record: dict[str, Any]) -> None:
        """Say how the run has ended."""
        self.say(_status(record))

    def close(self) -> None:
        """Leave the terminal as it was, with all said that there is to say."""

    def summarise(self) -> None:
        """What the whole run came to, once it has ended."""


class _JsonLines(_Report):
    """The journal's records, as they are written."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, sys.stdout)

    def observe(self, record: dict[str, Any]) -> None:
        self.out.buffer.write(orjson.dumps(record) + b"\n")
        self.out.buffer.flush()


class _InPipe(_Report):
    """A plain line every few seconds, without escape sequences."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, sys.stdout)
        self._next = 0.0
        self._said = 0

    def progressed(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_SECONDS
        self._say_newest()

    def ended(self, record: dict[str, Any]) -> None:
        if self.iteration > self._said:
            self._say_newest()
        super().ended(record)

    def _say_newest(self) -> None:
        self._said = self.iteration
        self.say(f"iteration {self.iteration}  {self.share:.0%}  {self.numbers()}")


class _OnTerminal(_Report):
    """A progress bar with the key numbers, and at the end the charts."""

    def __init__(self, folder: RunFolder, live: Live) -> None:
        super().__init__(folder, sys.stdout)
        self._live = live
        self._next = 0.0
        self._began = time.monotonic()
        self._from: float | None = None
        self._ended: dict[str, Any] | None = None
        live.start()

    def introduce(self) -> None:
        short = self.folder.short_id
        self.say(f"run {short} · steer it from another terminal: metarl-tui open {short}")

    def progressed(self) -> None:
        now = time.monotonic()
        if self._from is None:
            self._from, self._began = self.share, now
        if now >= self._next:
            self._next = now + FRAME_SECONDS
            self._live.update(self._line(), refresh=True)

    def say(self, line: str) -> None:
        self._live.console.print(Text(line), highlight=False)

    def ended(self, record: dict[str, Any]) -> None:
        self._ended = record
        super().ended(record)

    def close(self) -> None:
        self._live.stop()

    def summarise(self) -> None:
        if not self.iteration:
            return
        from metarl_tui.plots import summary_charts
        from metarl_tui.tape_reading import read_tape

        tape = read_tape(self.folder)
        console = self._live.console
        width, colour = console.width, console.color_system is not None and not console.no_color
        charts = summary_charts(tape, list(self.entry.charts[:4]), width, colour=colour)
        print(charts, file=self.out)
        again = ""
        if self._ended:  # said once more, below the charts, which may fill the screen
            self.say(_status(self._ended))
            if self._ended["state"] != "finished":
                again = f"   metarl-tui resume {self.folder.short_id}"
        self.say(f"metarl-tui replay {self.folder.short_id}{again}")

    def _line(self) -> Table:
        done = self.share - (self._from or 0.0)
        left = (time.monotonic() - self._began) * (1 - self.share) / done if done > 0 else None
        begin = f"iteration {self.iteration}"
        end = f"{duration(left)} left" if left is not None else f"{self.share:.0%}"
        room = self._live.console.width - len(begin) - len(end) - BAR_COLUMNS - 3 * _BETWEEN
        line = Table.grid(padding=(0, _BETWEEN))
        bar = ProgressBar(total=1.0, completed=self.share, width=BAR_COLUMNS)
        line.add_row(Text(begin, no_wrap=True), bar, Text(end, no_wrap=True), Text(self.numbers(room)))
        return line


def _on_terminal(folder: RunFolder) -> _OnTerminal:
    return _OnTerminal(folder, Live(console=Console(), auto_refresh=False, transient=True))


def _status(record: dict[str, Any]) -> str:
    return f"{record['state']}: {clean(record['why'])}" if record.get("why") else str(record["state"])
