"""A run that looks alive without training: this process is its worker, and answers requests when told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_runs import run_records, write_run
from textual.pilot import Pilot

from metarl_tui.app.app import MetarlApp
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.heartbeat import Heart
from metarl_tui.runs.journal import Journal
from metarl_tui.runs.process import write_worker
from metarl_tui.runs.requests import Request, discard, pending


class LiveRun:
    """A run folder of ``iterations`` whose worker is this process."""

    def __init__(self, runs_dir: Path, *, iterations: int = 60, **what: Any) -> None:
        self.folder = RunFolder(write_run(runs_dir, records=[], **what))
        write_worker(self.folder)
        self.heart = Heart(self.folder)
        self.journal = Journal(self.folder.journal)
        self.iteration = 0
        self.records = run_records(400, steered_at=None)
        self.train(iterations)
        self.heart.state = "running"
        self.heart.beat()

    def train(self, iterations: int) -> None:
        """Write so many more iterations to the journal."""
        until = self.iteration + iterations
        for record in self.records:
            if record["iteration"] <= until and record["kind"] in ("metrics", "status"):
                rest = {k: v for k, v in record.items() if k not in ("seq", "time", "iteration", "kind")}
                self.journal.append(record["kind"], record["iteration"], **rest)
        self.records = [record for record in self.records if record["iteration"] > until]
        self.iteration = until
        self.heart.boundary(until)

    def queued(self) -> list[Request]:
        return pending(self.folder)

    def answer(self, *, why: str | None = None, old: dict[str, Any] | None = None) -> list[Request]:
        """Apply every queued request at the next iteration, or reject it."""
        requests = self.queued()
        for request in requests:
            changes = {name: [(old or {}).get(name), value] for name, value in request.changes.items()}
            self.journal.append(
                "control", self.iteration + 1, request=request.id, action=request.action, by=request.by,
                result="rejected" if why else "applied", changes={} if why else changes,
                **({"why": why} if why else {}),
            )  # fmt: skip
            discard(self.folder, request)
        return requests

    def say(self, state: str, **fields: Any) -> None:
        """A status record, with the heartbeat's word to match."""
        self.journal.append("status", self.iteration, state=state, **fields)
        self.heart.state = state
        self.heart.beat()

    def close(self) -> None:
        self.heart.stop()
        self.journal.close()


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the app run until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, text(pilot)
        await asyncio.sleep(0.02)
    await pilot.pause()


def text(pilot: Pilot[None]) -> str:
    """What the screen shows, as lines."""
    return "\n".join(lines(pilot))


def lines(pilot: Pilot[None]) -> list[str]:
    screen = pilot.app.screen
    width, height = pilot.app.size
    rows = screen._compositor.render_strips()
    assert len(rows) == height
    return ["".join(segment.text for segment in row)[:width].rstrip() for row in rows]


def app_on(runs_dir: Path, run: RunFolder | None = None, **options: Any) -> MetarlApp:
    return MetarlApp(runs_dir, run=run, **{"refresh": 20.0, **options})
