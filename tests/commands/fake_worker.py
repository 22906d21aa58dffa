"""A worker made of a thread that answers requests as the real one does."""

from __future__ import annotations

import threading
import time
from typing import Any

from metarl_tui.runs.folder import RunFolder, acquire_lock
from metarl_tui.runs.heartbeat import Heart
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.liveness import write_worker
from metarl_tui.runs.requests import discard, pending


class FakeWorker:
    """Answers requests of a run as a worker would, after ``delay`` seconds each."""

    def __init__(
        self, folder: RunFolder, *, delay: float = 0.0, reject: str = "", paused: bool = False
    ) -> None:
        self.folder, self.delay, self.reject, self.paused = folder, delay, reject, paused
        self.values: dict[str, Any] = dict(folder.config.hyperparameters)
        self.seen: list[Any] = []
        self._end = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> FakeWorker:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        with acquire_lock(self.folder), Journal(self.folder.journal) as journal:
            write_worker(self.folder)
            with Heart(self.folder, interval=0.1) as heart:
                for iteration in range(201, 206):
                    heart._durations.append(4.0)
                    heart._iteration = iteration
                journal.append("status", 212, state="started")
                journal.append("status", 212, state="paused" if self.paused else "running")
                self._ready.set()
                while not self._end.wait(0.02):
                    for request in pending(self.folder):
                        time.sleep(self.delay)
                        self._answer(journal, request)

    def _answer(self, journal: Journal, request: Any) -> None:
        self.seen.append(request)
        fields: dict[str, Any] = {"request": request.id, "action": request.action, "by": request.by}
        if self.reject:
            journal.append("control", 213, **fields, result="rejected", why=self.reject, changes={})
        else:
            changes = {name: [self.values.get(name), value] for name, value in request.changes.items()}
            journal.append("control", 213, **fields, result="applied", changes=changes)
        if request.action == "stop":
            journal.append("status", 212, state="stopped", why="asked by me@here")
        discard(self.folder, request)
