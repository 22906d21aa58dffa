"""What journal, requests, checkpoints and a watching screen cost the training, and what 50 live runs cost it.

    python tests/benchmarks/overhead.py [--rounds 3] [--seconds 6]

The same trainer with the same settings three times, in turn: in a bare loop, in its worker, and in its worker
while the screen follows it in a pseudo-terminal. Two speeds: about 30 and about 1,000 iterations a second.
Beside iterations per second are those per second of the training process's own processor time, which other
work on the machine disturbs less. Then the home screen follows 50 live runs, each of which grows by 20 rows a
second. All ratios are medians of those of the rounds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from key_to_paint import Terminal, program

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "app")]

from fake_runs import metric_values, write_run  # noqa: E402

from metarl_tui.runs.folder import RunFolder  # noqa: E402
from metarl_tui.runs.heartbeat import Heart  # noqa: E402
from metarl_tui.runs.journal import Journal, newest  # noqa: E402
from metarl_tui.runs.process import read_worker, write_worker  # noqa: E402

SPEEDS = {
    "30": ["--num-envs", "128", "--rollout-steps", "32", "--epochs", "4", "--minibatch-size", "1024"],
    "1,000": ["--num-envs", "4", "--rollout-steps", "4", "--epochs", "1", "--minibatch-size", "16"],
}
"""About so many iterations a second, and flags that give it; without evaluations, whose length varies."""
_WARM_UP = 3.0
_BARE = """
import json, sys, time
from pathlib import Path
from metarl_tui.runs.folder import RunFolder
from metarl_tui.worker.build import build_trainer
trainer = build_trainer(RunFolder(Path(sys.argv[1])).config, json.loads(sys.argv[2]))
def until(end):
    done = 0
    while time.perf_counter() < end:
        trainer.step()
        done += 1
    return done
until(time.perf_counter() + float(sys.argv[3]))
began, used = time.perf_counter(), time.process_time()
done = until(began + float(sys.argv[4]))
print(done / (time.perf_counter() - began), done / (time.process_time() - used))
"""


@contextmanager
def training(runs_dir: str, flags: list[str]) -> Iterator[RunFolder]:
    """A worker that trains until the end of the ``with``."""
    train = [program(), "train", "ppo", "--detach", "--runs-dir", runs_dir, "--total-steps", "1000000000"]
    run = subprocess.run(
        [*train, "--threads", "1", "--eval-every", "1000000", *flags],
        check=True,
        capture_output=True,
        text=True,
    )
    folder = RunFolder(Path(runs_dir) / run.stdout.strip())
    try:
        yield folder
    finally:
        subprocess.run([program(), "stop", folder.id, "--runs-dir", runs_dir], capture_output=True)


def speed(folder: RunFolder, seconds: float, terminal: Terminal | None) -> tuple[float, float]:
    """Iterations per second, and per second of the worker's processor time."""
    wait = terminal.read if terminal is not None else lambda seconds: time.sleep(seconds)
    wait(_WARM_UP)
    worker = read_worker(folder)
    assert worker is not None
    process = psutil.Process(worker.identity.pid)

    def now() -> tuple[float, float, int]:
        row, times = newest(folder.journal, "metrics"), process.cpu_times()
        assert row is not None
        return row["time"], times.user + times.system, row["iteration"]

    before = now()
    wait(seconds)
    after = now()
    passed, used, done = (late - early for late, early in zip(after, before, strict=True))
    return done / passed, done / used


def compare(runs_dir: str, flags: list[str], seconds: float) -> dict[str, tuple[float, float]]:
    """One round."""
    found = {}
    with training(runs_dir, flags) as folder:
        found["in its worker"] = speed(folder, seconds, None)
        watch = [program(), "open", folder.id, "--runs-dir", runs_dir]
        terminal = Terminal(watch, 200, 60)
        try:
            found["with a screen watching"] = speed(folder, seconds, terminal)
        finally:
            psutil.Process(terminal.pid).kill()
        decisions = json.dumps(_decisions(folder))
    bare = [sys.executable, "-c", _BARE, str(folder.path), decisions, str(_WARM_UP), str(seconds)]
    printed = subprocess.run(bare, check=True, capture_output=True, text=True).stdout.split()
    found["bare loop"] = (float(printed[0]), float(printed[1]))
    return found


def _decisions(folder: RunFolder) -> dict[str, object]:
    """What the worker decided by measuring before iteration 1."""
    with folder.journal.open("rb") as journal:
        for line in journal:
            record = json.loads(line)
            if record.get("decisions"):
                return dict(record["decisions"])
    return {}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--speeds", nargs="+", choices=list(SPEEDS), default=list(SPEEDS))
    parser.add_argument("--live-runs", type=int, default=50)
    arguments = parser.parse_args()
    print(f"{'iterations/s':>13}  {'':24}{'per second':>11}{'ratio':>7}{'per CPU second':>16}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as runs_dir:
        for name in arguments.speeds:
            rounds = [compare(runs_dir, SPEEDS[name], arguments.seconds) for _ in range(arguments.rounds)]
            bases = {"bare loop": "bare loop", "in its worker": "bare loop"}
            for how in ("bare loop", "in its worker", "with a screen watching"):
                base = bases.get(how, "in its worker")
                shown = ""
                for which, width in ((0, 11), (1, 16)):
                    ours = statistics.median(one[how][which] for one in rounds)
                    ratio = statistics.median(one[how][which] / one[base][which] for one in rounds)
                    shown += f"{ours:>{width},.0f}{ratio:>7.2f}"
                print(f"{name:>13}  {how:24}{shown}", flush=True)
    print("A bare loop is the worker's base, the worker that of the one with a screen watching.\n")
    home(arguments.live_runs, 10.0)


if __name__ == "__main__":
    main()
