"""Is anybody training this run? Computed by whoever looks, never written.

The worker writes *starting, running, paused, failed, stopped, finished*; whoever looks adds *stalled* (its
process is there but does not come on), *lost* (its process is gone without a word) and *unknown* (it would
be on another host, and no sign of life comes from there). None of these decides a run's fate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from metarl_tui.runs.folder import CONFIG_FILE, RunBusy, RunFolder, acquire_lock
from metarl_tui.runs.heartbeat import Heart, Heartbeat, read_heartbeat
from metarl_tui.runs.journal import last_records, newest
from metarl_tui.runs.lock import Lock
from metarl_tui.runs.process import (
    Identity,
    Worker,
    is_alive,
    own_identity,
    read_launched,
    read_worker,
    write_launched,
    write_worker,
)
from metarl_tui.runs.states import ENDED, OVER
from metarl_tui.text import duration

__all__ = [
    "Heart",
    "Heartbeat",
    "Identity",
    "Lock",
    "Observer",
    "RunBusy",
    "Standing",
    "Worker",
    "acquire_lock",
    "is_alive",
    "longest_iteration",
    "observe",
    "own_identity",
    "read_heartbeat",
    "read_worker",
    "write_launched",
    "write_worker",
]

BEAT_LIMIT = 10.0
BOUNDARY_LIMIT = 60.0
BOUNDARY_MEDIANS = 10
WATCH_SECONDS = 3.0
WAITS = "waits for its turn"
"""Why a run of a group is starting that has no core yet."""
NO_TURN = "it never had its turn: the process that was to start it is gone"
NEVER_STARTED = "it never started"
START_LIMIT = 120.0
"""Seconds after which a run whose worker has not come to life counts as lost."""


@dataclass
class Standing:
    """How a run stands. ``alive``: its process is there, also while it leaves after an ended state."""

    state: str
    """starting, running, paused, failed, stopped, finished, stalled, lost or unknown."""
    why: str
    iteration: int
    alive: bool


class Observer:
    """Looks at one run again and again, cheaply; never waits.

    A run on another host is *unknown* until its heartbeat has been seen to change, so a single look at it
    says little: look again for ``WATCH_SECONDS``.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._journal_size: tuple[int, int] | None = None
        self._status: dict[str, Any] | None = None
        self._last_row = -1  # number of the newest metrics record
        self._last_iteration = 0
        self._beat: tuple[int, int] | None = None
        self._began = time.monotonic()
        self._changed_at: float | None = None

    def is_over(self, standing: Standing) -> bool:
        """Whether there is nothing to wait for: the run has ended, or nobody is seen to train it."""
        return standing.state in OVER or (standing.state == "unknown" and not self.watching)

    @property
    def watching(self) -> bool:
        """Whether a run on another host has not yet been looked at for long enough to say anything."""
        return self._changed_at is None and time.monotonic() - self._began < WATCH_SECONDS

    def observe(self, last_status: dict[str, Any] | None = None) -> Standing:
        """How the run stands now; ``last_status`` is the newest status record where the caller has it."""
        worker = read_worker(self.folder)
        standing = self._observe(worker, last_status)
        if standing.state not in ("starting", *OVER):
            return standing
        launched = self._launched(worker, last_status or self._status)
        alive = is_alive(launched.identity) if launched else None
        if launched is not None and alive:
            return self._standing("starting", WAITS if launched.waits else "", alive=True)
        if launched is not None and alive is False and worker is None and standing.state not in ENDED:
            return self._standing("lost", NO_TURN if launched.waits else NEVER_STARTED)
        if launched is not None and alive is None and worker is None and standing.state == "lost":
            doing = WAITS if launched.waits else "was started"
            return self._standing(
                "unknown", f"no sign of life from {launched.identity.host}, where it {doing}"
            )
        return standing

    def _launched(self, worker: Worker | None, status: dict[str, Any] | None) -> Worker | None:
        """The process that is on its way to take over from ``worker``, and has said nothing yet."""
        launched = read_launched(self.folder)
        if launched is None or (worker and worker.identity == launched.identity):
            return None
        return launched if status is None or status["seq"] <= launched.seq else None

    def _observe(self, worker: Worker | None, last_status: dict[str, Any] | None) -> Standing:
        # The process is looked at before the journal: a worker that ends in between has said so there.
        alive = is_alive(worker.identity) if worker else False
        beat = self._read_beat(worker)
        self._read_journal()
        status = last_status or self._status
        if worker is None:
            return self._without_worker(status)
        if status is not None and status["seq"] <= worker.seq:
            status = None  # said by an earlier worker
        if self._last_row > max(worker.seq, status["seq"] if status else 0):
            status = {"state": "running"}  # its word lies far back, its rows say that it comes on
        if status is not None and status["state"] in ENDED:
            return self._standing(status["state"], _why(status), alive=bool(alive))
        if alive is None:
            return self._elsewhere(worker, beat, status)
        if not alive:
            began = "" if status else " before it had started"
            return self._standing("lost", f"its process {worker.identity.pid} ended without a word{began}")
        return self._here(beat, status)

    def _here(self, beat: Heartbeat | None, status: dict[str, Any] | None) -> Standing:
        """A worker that runs on this host."""
        state, why = _said(beat, status)
        if beat is None:
            return self._standing(state, why, alive=True)
        age = max(time.monotonic() - beat.monotonic, 0.0)
        if age > BEAT_LIMIT:
            return self._standing("stalled", f"no sign of life for {duration(age)}", beat, alive=True)
        return self._come_on(beat, state, why, age)

    def _elsewhere(self, worker: Worker, beat: Heartbeat | None, status: dict[str, Any] | None) -> Standing:
        """A worker whose process can't be seen from here: only its heartbeat tells."""
        now, host = time.monotonic(), worker.identity.host
        if beat is None or self._changed_at is None:
            why = (
                f"on {host}: waiting for a sign of life" if self.watching else f"no sign of life from {host}"
            )
            return self._standing("unknown", why, beat)
        silence = now - self._changed_at
        if silence > BEAT_LIMIT:
            return self._standing("unknown", f"no sign of life from {host} for {duration(silence)}", beat)
        return self._come_on(beat, *_said(beat, status), silence)

    def _come_on(self, beat: Heartbeat, state: str, why: str, age: float) -> Standing:
        """Stalled, where a run that should come on has not for long."""
        since = beat.since_boundary + age
        if state == "running" and since > longest_iteration(beat.median_iteration):
            state, why = "stalled", f"in the same iteration for {duration(since)}"
        return self._standing(state, why, beat, alive=True)

    def _without_worker(self, status: dict[str, Any] | None) -> Standing:
        """No worker is recorded: not yet started, copied from elsewhere, or removed."""
        try:
            age = time.time() - (self.folder.path / CONFIG_FILE).stat().st_mtime
        except OSError:
            return self._standing("lost", "its folder is gone")
        if status is not None:
            if status["state"] in ENDED:
                return self._standing(status["state"], _why(status))
            return self._standing("unknown", "nothing says who trains it")
        if abs(age) < START_LIMIT:
            return self._standing("starting", "")
        return self._standing("lost", NEVER_STARTED)

    def _standing(
        self, state: str, why: str, beat: Heartbeat | None = None, *, alive: bool = False
    ) -> Standing:
        return Standing(state, why, max(self._last_iteration, beat.iteration if beat else 0), alive)

    def _read_beat(self, worker: Worker | None) -> Heartbeat | None:
        beat = read_heartbeat(self.folder)
        if beat is None or worker is None:
            return None
        if (beat.pid, beat.start_time) != (worker.identity.pid, worker.identity.start_time):
            return None  # left by an earlier worker
        mark = (beat.pid, beat.beat)
        if self._beat is not None and mark != self._beat:
            self._changed_at = time.monotonic()
        self._beat = mark
        return beat

    def _read_journal(self) -> None:
        """The newest status and iteration that the journal tells, read again only when it has grown."""
        try:
            found = self.folder.journal.stat()
        except OSError:
            return
        if (size := (found.st_ino, found.st_size)) == self._journal_size:
            return
        self._journal_size = size
        self._status = newest(self.folder.journal, "status") or self._status
        records = last_records(self.folder.journal, 1 << 13)
        if records:
            # A control record carries the iteration to come; all others that which is done.
            to_come = records[-1]["kind"] == "control"
            self._last_iteration = max(records[-1]["iteration"] - to_come, 0)
        self._last_row = max((record["seq"] for record in records if record["kind"] == "metrics"), default=-1)


def longest_iteration(median: float) -> float:
    """Seconds that an iteration may take before the run counts as stalled; ``median`` is of earlier ones."""
    return max(BOUNDARY_LIMIT, BOUNDARY_MEDIANS * median)


def observe(folder: RunFolder, last_status: dict[str, Any] | None = None) -> Standing:
    """How a run stands; where it would be on another host, watches its heartbeat for up to three seconds."""
    observer = Observer(folder)
    standing = observer.observe(last_status)
    while standing.state == "unknown" and not standing.alive and observer.watching and folder.worker.exists():
        time.sleep(0.1)
        standing = observer.observe(last_status)
    return standing


def _said(beat: Heartbeat | None, status: dict[str, Any] | None) -> tuple[str, str]:
    """What the worker says it is doing, and why.

    The newer word of heartbeat and journal counts: nothing can be written to the journal while the disk is
    full. A message in the heartbeat says what the worker waits for.
    """
    state, why = (status["state"], _why(status)) if status else ("starting", "")
    newer = beat is not None and (status is None or beat.wall >= status.get("time", 0.0))
    if beat is not None and newer and beat.state and beat.state != state:
        state, why = beat.state, ""
    if state == "started":
        state = "running"
    if beat is not None and beat.message:
        return "paused" if state == "running" else state, beat.message
    return state, why


def _why(status: dict[str, Any]) -> str:
    return str(status.get("why") or "")
