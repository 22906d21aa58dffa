"""What journal, requests, checkpoints and a watching screen cost the training, and what 50 live runs cost it.

    python tests/benchmarks/overhead.py [--pairs 12] [--seconds 2]

*In its worker*: a worker trains a run and is interrupted after every so many iterations, to do as many in a
bare loop, with a second trainer that was made like the first and so does the same work. Turns that follow
each other are a pair; their ratio is little disturbed by what else the machine does. While the bare loop runs
the worker's clock for checkpoints stands still. Beside the clock's time there is the process's own processor
time, which does not count what a disk takes to sync, nor what other programs take.

*With a screen watching*: a worker trains while the screen follows it in a pseudo-terminal, and the screen's
process is stopped and goes on in turn.

Two speeds: about 30 and about 1,000 iterations a second. Then the home screen follows 50 live runs, each of
which grows by 20 rows a second. All ratios are medians of those of the pairs, between them the quartiles.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import psutil
from key_to_paint import Terminal, program

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "app")]

from fake_runs import metric_values, write_run  # noqa: E402

import metarl_tui  # noqa: E402
from metarl_tui.runs.folder import RunConfig, RunFolder  # noqa: E402
from metarl_tui.runs.heartbeat import Heart  # noqa: E402
from metarl_tui.runs.journal import Journal, newest  # noqa: E402
from metarl_tui.runs.process import read_worker, write_worker  # noqa: E402

SPEEDS: dict[str, dict[str, Any]] = {
    "30": {"num_envs": 128, "rollout_steps": 48, "epochs": 4, "minibatch_size": 1536},
    "1,000": {"num_envs": 4, "rollout_steps": 5, "epochs": 1, "minibatch_size": 20},
}
"""About so many iterations a second, and hyperparameters that give it."""
ENDLESS = {"total_steps": 10**12, "eval_every": None}
"""Without evaluations, whose length varies."""
_WARM_UP, _SETTLING = 3.0, 1.0


class Times(NamedTuple):
    """Seconds by the clock, and of the process's own processor time."""

    wall: float
    processor: float

    def since(self, earlier: Times) -> Times:
        return Times(*(now - then for now, then in zip(self, earlier, strict=True)))


class Pair(NamedTuple):
    """Seconds an iteration of a turn, and of the one without what is measured."""

    with_it: Times
    without: Times

    def ratios(self) -> list[float]:
        """The speed with it, of that without."""
        return [without / with_it for with_it, without in zip(*self, strict=True)]


class InTurns:
    """A worker's trainer, whose steps are now and then interrupted by a turn of a bare loop."""

    def __init__(self, trainer: Any, twin: Any, seconds: float, pairs: int, interruption: Any) -> None:
        self._trainer, self._twin = trainer, twin
        self._left, self._interruption = pairs, interruption
        self._bare(20)
        self._turn = max(round(20 * seconds / self._bare(20).wall), 1)
        self._done = -self._turn  # the first turn warms up
        self._began = self._now()
        self.pairs: list[Pair] = []
        self.apart = 0.0
        """Seconds that were not the worker's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    @property
    def finished(self) -> Any:
        """Asked for at every iteration, where the way by ``__getattr__`` would be measured too."""
        return self._trainer.finished

    def step(self) -> Any:
        if self._done == 0:
            self._began = self._now()
        elif self._done == self._turn:
            self._change_over()
        self._done += 1
        return self._trainer.step()

    def _change_over(self) -> None:
        with_it = self._now().since(self._began)
        without = self._bare(self._turn)
        self.apart += without.wall
        each = (Times(*(seconds / self._turn for seconds in times)) for times in (with_it, without))
        self.pairs.append(Pair(*each))
        if len(self.pairs) == self._left:
            self._interruption.signal = signal.SIGTERM
        self._done = 0
        self._began = self._now()

    def _bare(self, turn: int) -> Times:
        began, self._done = self._now(), 0
        while self._done < turn:
            self._done += 1
            self._twin.step()
        return self._now().since(began)

    def _now(self) -> Times:
        return Times(time.perf_counter(), time.process_time())


def in_worker(name: str, seconds: float, pairs: int) -> list[Pair]:
    """The worker beside the bare loop; to be called in a process of its own."""
    from metarl_tui.worker import loop, saving
    from metarl_tui.worker.build import build_trainer
    from metarl_tui.worker.interruption import Interruption

    interruption = Interruption()
    made: list[InTurns] = []

    def build(config: RunConfig, decisions: Any = None) -> InTurns:
        trainer = build_trainer(config, decisions)
        twin = build_trainer(config, trainer.decisions())
        made.append(InTurns(trainer, twin, seconds, pairs, interruption))
        return made[-1]

    clock = SimpleNamespace(
        time=time.time, monotonic=lambda: time.monotonic() - sum(one.apart for one in made)
    )
    with (
        tempfile.TemporaryDirectory() as runs_dir,
        patch.object(loop, "build_trainer", build),
        patch.object(saving, "time", clock),
    ):
        loop.train(RunFolder.create(Path(runs_dir), _config(name, runs_dir)), interruption)
    return made[0].pairs


def _config(name: str, working_folder: str) -> RunConfig:
    return RunConfig(
        trainer="ppo",
        setup={"env": "CartPole-v1", "threads": 1},
        hyperparameters={**ENDLESS, **SPEEDS[name]},
        options={},
        changes=[],
        name="",
        subject="CartPole-v1",
        parent=None,
        created=time.time(),
        working_folder=working_folder,
        version=metarl_tui.__version__,
        trusted=True,
    )


@contextmanager
def training(runs_dir: str, name: str) -> Iterator[RunFolder]:
    """A worker that trains until the end of the ``with``."""
    train = [program(), "train", "ppo", "--detach", "--runs-dir", runs_dir, "--preset", "none"]
    values = {**SPEEDS[name], "total_steps": 10**12, "eval_every": 10**6, "threads": 1}
    for flag, value in values.items():
        train += [f"--{flag.replace('_', '-')}", str(value)]
    run = subprocess.run(train, check=True, capture_output=True, text=True)
    folder = RunFolder(Path(runs_dir) / run.stdout.strip())
    worker = _worker(folder)
    try:
        yield folder
    finally:
        subprocess.run([program(), "stop", folder.id, "--runs-dir", runs_dir], capture_output=True)
        worker.wait(20)


def watched(name: str, seconds: float, pairs: int) -> list[Pair]:
    """A worker with a screen that follows it, beside the same worker while the screen is stopped."""
    with tempfile.TemporaryDirectory() as runs_dir, training(runs_dir, name) as folder:
        terminal = Terminal([program(), "open", folder.id, "--runs-dir", runs_dir], 200, 60)
        screen = psutil.Process(terminal.pid)
        try:
            terminal.read(_WARM_UP)
            found = []
            for _ in range(pairs):
                terminal.read(_SETTLING)
                with_it = _worked(folder, seconds, terminal)
                screen.suspend()
                without = _worked(folder, seconds, terminal)
                screen.resume()
                found.append(Pair(with_it, without))
        finally:
            screen.kill()
    return found


def _worker(folder: RunFolder) -> psutil.Process:
    worker = read_worker(folder)
    assert worker is not None
    return psutil.Process(worker.identity.pid)


def _worked(folder: RunFolder, seconds: float, terminal: Terminal) -> Times:
    """Seconds an iteration of the worker of ``folder`` while ``seconds`` pass."""
    process = _worker(folder)

    def now() -> tuple[Times, int]:
        row, used = newest(folder.journal, "metrics"), process.cpu_times()
        assert row is not None
        return Times(row["time"], used.user + used.system), row["iteration"]

    before, first = now()
    terminal.read(seconds)
    after, last = now()
    return Times(*(passed / (last - first) for passed in after.since(before)))


def home(runs: int, seconds: float) -> None:
    """The home screen's share of a core while it follows ``runs`` live runs."""
    with tempfile.TemporaryDirectory() as runs_dir, ExitStack() as stack:
        live = []
        for index in range(runs):
            name = f"20261122-1542{index:02d}-ppo-cartpole-{index:04x}"
            folder = RunFolder(write_run(Path(runs_dir), name, iterations=500))
            journal = stack.enter_context(Journal(folder.journal))
            write_worker(folder)
            journal.append("status", 500, state="running")
            heart = Heart(folder, journaled=journal.seq)
            stack.callback(heart.stop)
            heart.state = "running"
            live.append((journal, heart))
        noise = random.Random(1)
        terminal = Terminal([program(), "--runs-dir", runs_dir], 200, 60)
        process = psutil.Process(terminal.pid)
        terminal.read(4.0)
        began, used, received = time.perf_counter(), process.cpu_times(), terminal.received
        iteration = 500
        while time.perf_counter() - began < seconds:
            for journal, heart in live:
                for ahead in range(1, 21):
                    values = metric_values(iteration + ahead, 10_000, noise, None)
                    journal.append("metrics", iteration + ahead, values=values)
                heart.journaled = journal.seq
                heart.boundary(iteration + 20)
            iteration += 20
            terminal.read(max(1.0 - (time.perf_counter() - began) % 1.0, 0.01))
        passed, now = time.perf_counter() - began, process.cpu_times()
        share = (now.user + now.system - used.user - used.system) / passed
        process.kill()
        sent = (terminal.received - received) / passed / 1024
        print(f"home screen, {runs} live runs: {share:.0%} of one core, {sent:.1f} KiB/s to the terminal")


def show(name: str, what: str, pairs: Sequence[Pair]) -> None:
    """The ratios, and what each iteration takes longer."""
    shown = ""
    for which in range(len(Times._fields)):
        low, middle, high = statistics.quantiles((pair.ratios()[which] for pair in pairs), n=4)
        longer = statistics.median(pair.with_it[which] - pair.without[which] for pair in pairs)
        shown += f"   {middle:.3f} ({low:.3f} … {high:.3f}) {1e6 * longer:>6.0f} µs"
    speed = 1 / statistics.median(pair.without.wall for pair in pairs)
    print(f"{name:>12} {speed:>8,.0f}  {what:24}{shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (default 2)")
    parser.add_argument("--speeds", nargs="+", choices=list(SPEEDS), default=list(SPEEDS))
    parser.add_argument("--live-runs", type=int, default=50, help="0 leaves the home screen out")
    arguments = parser.parse_args()
    headings = (f"{how}, quartiles, longer" for how in ("by the clock", "of processor time"))
    print(f"{'iterations/s':>12} {'without':>8}  {'':24}{''.join(f'   {one:32}' for one in headings)}")
    for name in arguments.speeds:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pairs = pool.apply(in_worker, (name, arguments.seconds, arguments.pairs))
        show(name, "in its worker", pairs)
        show(name, "with a screen watching", watched(name, arguments.seconds, arguments.pairs))
    if arguments.live_runs:
        print()
        home(arguments.live_runs, 10.0)


if __name__ == "__main__":
    main()
