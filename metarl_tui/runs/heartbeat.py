"""A worker's sign of life: a small file of fixed size, overwritten in place each second.

Overwriting needs no new space, so it says what is wrong even when the disk is full. Times in it are those
of the monotonic clock, which stands still while the machine is suspended and does not follow the wall
clock.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from metarl_tui.runs.files import RunError, open_private, read_bounded, reason, shown
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.process import own_identity
from metarl_tui.runs.records import is_count, seal, sealed
from metarl_tui.text import clean

SIZE = 512
INTERVAL = 1.0

_REMEMBERED = 101  # iterations whose durations give the median


@dataclass(frozen=True)
class Heartbeat:
    """What one beat says. ``since_boundary`` and ``median_iteration`` are seconds, ``beat`` a counter.

    ``pid`` and ``start_time`` tell whose heart it is, as in :class:`~metarl_tui.runs.process.Identity`.

    ``state`` is the worker's own word for what it is doing (empty: not said), ``message`` what people
    should know although the journal can't say it. ``journaled`` is the number of the newest journal record:
    a journal that ends with an earlier one has lost its end.
    """

    pid: int
    start_time: float
    beat: int
    monotonic: float
    wall: float
    iteration: int
    since_boundary: float
    median_iteration: float
    state: str
    message: str
    journaled: int = 0


class Heart:
    """Beats in a thread of its own from construction until :meth:`stop`.

    ``message`` (what the worker waits for, where the journal can't say it), ``state`` and ``journaled`` may
    be set at any time; they show with the next beat, or at once with :meth:`beat`. Raises :class:`RunError`
    when the file can't be made.
    """

    def __init__(self, folder: RunFolder, interval: float = INTERVAL, journaled: int = 0) -> None:
        self.message = ""
        self.before: Callable[[], None] | None = None
        """Called before each beat, in whichever thread beats; must not wait."""
        self.watch: Callable[[], None] | None = None
        """Called after each beat, in the heartbeat's thread: also while an iteration hangs."""
        self.journaled = journaled
        self._state = ""
        self._interval = interval
        self._identity = own_identity()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._beats = 0
        self._iteration = 0
        self._boundary = time.monotonic()
        self._durations: deque[float] = deque(maxlen=_REMEMBERED)
        try:
            self._descriptor = open_private(folder.heartbeat, os.O_WRONLY)
            os.ftruncate(self._descriptor, SIZE)
        except OSError as error:
            raise RunError(f"{shown(folder.heartbeat)}: {reason(error)}") from error
        self.beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """The worker's word for what it is doing: ``running``, ``paused``. A new one starts a new wait."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        if state != self._state:
            self._boundary = time.monotonic()
        self._state = state

    def boundary(self, iteration: int) -> None:
        """The worker is between iterations, with ``iteration`` done.

        To be called before the first iteration, after each, and again with the same number after a wait (a
        pause), which then does not count as the duration of an iteration.
        """
        now = time.monotonic()
        if iteration > self._iteration:
            self._durations.append((now - self._boundary) / (iteration - self._iteration))
        self._iteration, self._boundary = iteration, now

    @property
    def since_boundary(self) -> float:
        """Seconds since the worker was last between iterations."""
        return time.monotonic() - self._boundary

    @property
    def median_iteration(self) -> float:
        """Median duration of the newest iterations in seconds; 0 before the first."""
        durations = list(self._durations)
        return statistics.median(durations) if durations else 0.0

    def beat(self) -> None:
        """Beat now. A write that fails is left to the next beat: nobody could be told."""
        if self.before:
            self.before()
        with self._lock:
            if self._descriptor < 0:
                return
            self._beats += 1
            try:
                os.pwrite(self._descriptor, self._content(), 0)
            except OSError:
                return

    def stop(self) -> None:
        """Beat a last time and end the thread; may be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join()
        self.beat()
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            self.beat()
            if self.watch:
                self.watch()

    def _content(self) -> bytes:
        now = time.monotonic()
        fields: dict[str, Any] = {
            "pid": self._identity.pid,
            "start_time": self._identity.start_time,
            "beat": self._beats,
            "monotonic": now,
            "wall": time.time(),
            "iteration": self._iteration,
            "since_boundary": now - self._boundary,
            "median_iteration": self.median_iteration,
            "state": clean(self._state, 20),
            "message": clean(self.message, 200),
            "journaled": self.journaled,
        }
        while len(content := seal(orjson.dumps(fields))) >= SIZE:
            fields["message"] = fields["message"][: len(fields["message"]) // 2]
        return content.ljust(SIZE - 1) + b"\n"


def read_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """The newest beat, or ``None`` where there is none or it is damaged. Never raises."""
    try:
        data = read_bounded(folder.heartbeat, SIZE).strip()
        if not sealed(data):
            return None
        found = orjson.loads(data)
        return Heartbeat(
            pid=int(found["pid"]),
            start_time=float(found["start_time"]),
            beat=int(found["beat"]),
            monotonic=float(found["monotonic"]),
            wall=float(found["wall"]),
            iteration=max(int(found["iteration"]), 0),
            since_boundary=float(found["since_boundary"]),
            median_iteration=float(found["median_iteration"]),
            state=clean(found["state"], 20),
            message=clean(found["message"], 200),
            journaled=journaled if is_count(journaled := found.get("journaled", 0)) else 0,
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None


def last_journaled(folder: RunFolder) -> int:
    """The number of the last journal record that a worker is known to have written; 0 where nothing is known.

    To be asked before the journal is read: what is journaled meanwhile is not missed then.
    """
    beat = read_heartbeat(folder)
    return beat.journaled if beat else 0
