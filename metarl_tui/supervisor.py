"""Training several runs, some at a time: the next is started when one has ended.

Each is trained by a worker of its own, which goes on when the supervisor is gone. While runs wait for their
turn the supervisor stands as the process that will train them, so that they are seen as starting, and as lost
when it is gone. A signal ends every worker, and no other is started; a second Ctrl-C has them leave at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType

from metarl_tui.launch import Launch, start
from metarl_tui.runs.folder import RunError, RunFolder, acquire_lock
from metarl_tui.runs.journal import Journal, last_records
from metarl_tui.runs.options import RunOptions
from metarl_tui.runs.process import write_launched
from metarl_tui.runs.requests import discard, pending
from metarl_tui.runs.states import ENDED
from metarl_tui.worker.interruption import ending_signals

FAILED, COULD_NOT_START = 1, 2
_LOOK_SECONDS = 0.1

Told = Callable[[RunFolder, str, int | None], None]
"""Hears of a run: what became of it, in a word, and the exit code of a worker that has ended."""


class Supervisor:
    """Trains ``members`` in their order, at most ``most`` at a time.

    ``attended`` says that a person may be waited for, ``tell`` hears what becomes of each.
    """

    def __init__(self, members: list[RunFolder], most: int, *, attended: bool, tell: Told) -> None:
        self.waiting = deque(members)
        self.training: list[Launch] = []
        self.signal: signal.Signals | None = None
        self._most, self._attended, self._tell = most, attended, tell
        self._worst = 0

    def run(self) -> int:
        """Train all of them; the exit code: that of the worst, or 128 + the number of a signal.

        Raises :class:`RunError` where the first can't be started, or none that has trained before.
        """
        heeded = [*ending_signals(), *_stop_signals(self.waiting)]
        before = {number: signal.signal(number, self._received) for number in heeded}
        for folder in self.waiting:
            with suppress(OSError):  # it only tells others that somebody is on the way
                write_launched(folder, os.getpid(), waits=True)
        try:
            self._start_first()
            while self.training or (self.waiting and self.signal is None):
                self._look()
                time.sleep(_LOOK_SECONDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 128 + self.signal if self.signal else self._worst

    def _received(self, number: int, frame: FrameType | None) -> None:
        at_once = self.signal is not None and number == signal.SIGINT
        self.signal = self.signal or signal.Signals(number)
        for launch in self.training:
            if at_once:
                launch.interrupt()
            else:
                launch.terminate()

    def _start_first(self) -> None:
        """Start one and wait until it trains: what is wrong with all is known before there are others.

        What has trained before may have something wrong of its own: then the next is tried.
        """
        failed: RunError | None = None
        while self.waiting and self.signal is None:
            folder = self.waiting[0]
            is_new = not folder.journal.exists()
            try:
                self._wait_for(self._start_next())
                return
            except RunError as error:
                if is_new:
                    raise
                failed = failed or error
                self.training.clear()
                self._not_started(folder, error)
        if failed and self.signal is None:
            raise failed

    def _wait_for(self, launch: Launch) -> None:
        while self.signal is None:
            if launch.check() == "started":
                self._tell(launch.folder, "started", None)
                return
            time.sleep(_LOOK_SECONDS)

    def _not_started(self, folder: RunFolder, error: RunError) -> None:
        self._worst = COULD_NOT_START
        self._tell(folder, f"not started: {error}", COULD_NOT_START)

    def _look(self) -> None:
        for launch in list(self.training):
            code = launch.exit_code
            if code is not None:
                self.training.remove(launch)
                self._worst = max(self._worst, FAILED if code else 0)
                self._tell(launch.folder, _ending(launch.folder), code)
        self._end_what_waits()
        while self.waiting and len(self.training) < self._most and self.signal is None:
            folder = self.waiting[0]
            try:
                launch = self._start_next()
            except RunError as error:
                self._not_started(folder, error)
                continue
            self._tell(launch.folder, "started", None)

    def _start_next(self) -> Launch:
        launch = start(self.waiting.popleft(), attended=self._attended)
        self.training.append(launch)
        if self.signal is not None:  # it came while the process was made
            launch.terminate()
        return launch

    def _end_what_waits(self) -> None:
        """Carry out the requests to stop of runs that have no worker yet."""
        for folder in list(self.waiting):
            for request in pending(folder, only_look=True):
                if request.action != "stop":
                    continue
                why = f"asked by {request.by}, before its turn"
                with suppress(OSError, RunError), acquire_lock(folder), Journal(folder.journal) as journal:
                    folder.check_private()
                    journal.append("control", 1, request=request.id, action="stop", by=request.by,
                                   result="applied", changes={})  # fmt: skip
                    journal.append("status", 0, state="stopped", why=why)
                    discard(folder, request)
                    self.waiting.remove(folder)
                    self._tell(folder, f"stopped: {why}", 0)
                break


def _stop_signals(members: Iterable[RunFolder]) -> list[signal.Signals]:
    """The signals more that end one of ``members``, and so all."""
    named = {str(folder.config.options.get("stop_signal", RunOptions.stop_signal)) for folder in members}
    return [signal.Signals[f"SIG{name}"] for name in ("USR1", "USR2") if name in named]


def _ending(folder: RunFolder) -> str:
    statuses = [record for record in last_records(folder.journal) if record["kind"] == "status"]
    if not statuses or statuses[-1]["state"] not in ENDED:
        return "ended without a word"
    last = statuses[-1]
    why = last.get("refused") or last.get("why")
    return f"{last['state']}: {why}" if why else str(last["state"])


def main() -> int:
    """``python -m metarl_tui.supervisor --most N --run FOLDER DIGEST …``: train a group behind a screen."""
    parser = argparse.ArgumentParser(prog="metarl_tui.supervisor")
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--run", nargs=2, action="append", required=True, dest="runs")
    arguments = parser.parse_args()
    members = [RunFolder(path, trusted=digest) for path, digest in arguments.runs]
    try:
        return Supervisor(members, arguments.most, attended=True, tell=lambda folder, what, code: None).run()
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_START


if __name__ == "__main__":
    sys.exit(main())
