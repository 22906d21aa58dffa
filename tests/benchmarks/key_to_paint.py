"""How long a key takes to show while charts follow a live run, and what following costs.

    python tests/benchmarks/key_to_paint.py [--keys 300] [--seconds 10] [--refresh 5] [--size 200x60]

A PPO run trains in its worker while the screen follows it in a pseudo-terminal. Keys move the steer panel's
cursor at irregular moments; the clock stops when the cursor's mark arrives at the terminal. Then keys turn
pages of charts and zoom; there it stops when the title of the chart that comes first has been written.

What following costs is measured on that run, on a run of 50,000 iterations that goes on at 30 a second, so
that little of its charts changes, and on that one while nothing is written.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import os
import pty
import random
import select
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "app")]

from fake_runs import metric_values, run_records, write_run  # noqa: E402

from metarl_tui.runs.folder import RunFolder  # noqa: E402
from metarl_tui.runs.heartbeat import Heart  # noqa: E402
from metarl_tui.runs.journal import Journal  # noqa: E402
from metarl_tui.runs.process import write_worker  # noqa: E402

MARK = "▌".encode()
PAGES = [(b"z", b"[ ]"), (b"]", b"episode length"), (b"[", b"return"), (b"z", b"policy loss")]
"""Keys and a text that is on the screen only after them."""
LONG, LONG_PER_SECOND = 50_000, 30


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, command: list[str], columns: int, rows: int) -> None:
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.received = 0

    def press(self, key: bytes) -> None:
        os.write(self._descriptor, key)

    def read(self, seconds: float, until: bytes | None = None) -> bool:
        """Read for ``seconds``, or until ``until`` has come; whether it has."""
        end, seen = time.perf_counter() + seconds, b""
        while (left := end - time.perf_counter()) > 0:
            seen += self.take(left)
            if until is not None and until in seen:
                return True
        return False

    def take(self, seconds: float) -> bytes:
        """What arrives first within ``seconds``; nothing where nothing does."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return b""
        part = os.read(self._descriptor, 1 << 16)
        self.received += len(part)
        return part

    def close(self) -> None:
        psutil.Process(self.pid).kill()
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)


class LongRun:
    """A run folder of ``LONG`` iterations that this process goes on writing while :attr:`grows`."""

    def __init__(self, runs_dir: Path) -> None:
        self.folder = RunFolder(write_run(runs_dir, records=run_records(LONG, steered_at=LONG // 2)))
        write_worker(self.folder)
        self.heart = Heart(self.folder)
        self.heart.state = "running"
        self.grows = True
        self._journal = Journal(self.folder.journal)
        self._journal.append("status", LONG, state="running")
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        noise = random.Random(2)
        for iteration in itertools.count(LONG + 1):
            while not self.grows:
                time.sleep(0.1)
            values = metric_values(iteration, LONG, noise, LONG // 2)
            self._journal.append("metrics", iteration, values=values)
            self.heart.boundary(iteration)
            time.sleep(1 / LONG_PER_SECOND)


def program() -> str:
    """The command ``metarl-tui`` of this environment."""
    found = shutil.which("metarl-tui", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise SystemExit("metarl-tui is not installed in this environment; pip install . first")
    return found


class Cost(NamedTuple):
    """What following took: a share of one core, and KiB/s to the terminal."""

    processor: float
    sent: float

    def __str__(self) -> str:
        return f"{self.processor:>6.1%} of one core   {self.sent:>5.1f} KiB/s to the terminal"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--refresh", default="5")
    parser.add_argument("--size", default="200x60")
    arguments = parser.parse_args()
    columns, rows = map(int, arguments.size.split("x"))
    command = program()
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        train = [command, "train", "ppo", "--detach", "--runs-dir", folder, "--total-steps", "100000000"]
        run = subprocess.run(train, check=True, capture_output=True, text=True).stdout.strip()

        def opened(reference: str, refresh: str) -> Terminal:
            options = ["--runs-dir", folder, "--refresh", refresh]
            terminal = Terminal([command, "open", reference, *options], columns, rows)
            terminal.read(8.0)
            return terminal

        try:
            terminal = opened(run, arguments.refresh)
            costs[f"a new run, {arguments.refresh} Hz"] = following(terminal, arguments.seconds)
            print(f"{columns}×{rows}{'':12}{'p50':>8}{'p99':>9}{'worst':>9}   keys seen")
            press_keys(terminal, arguments.keys)
            terminal.close()
            terminal = opened(run, "1")
            costs["a new run, 1 Hz"] = following(terminal, arguments.seconds)
            terminal.close()
        finally:
            subprocess.run([command, "stop", run, "--runs-dir", folder], check=True, capture_output=True)
        long = LongRun(Path(folder))
        terminal = opened(long.folder.id, arguments.refresh)
        costs[f"a long run, {arguments.refresh} Hz"] = following(terminal, arguments.seconds)
        long.grows = False
        terminal.read(2.0)
        costs["nothing changes"] = following(terminal, arguments.seconds)
        terminal.close()
        long.heart.stop()
    for name, cost in costs.items():
        print(f"{name:18} {cost}")


def following(terminal: Terminal, seconds: float) -> Cost:
    """What the screen costs while no key is pressed."""
    screen = psutil.Process(terminal.pid)
    began, used, received = time.perf_counter(), screen.cpu_times(), terminal.received
    terminal.read(seconds)
    seconds = time.perf_counter() - began
    now = screen.cpu_times()
    processor = now.user + now.system - used.user - used.system
    return Cost(processor / seconds, (terminal.received - received) / seconds / 1024)


def press_keys(terminal: Terminal, keys: int) -> None:
    """Press keys and print how long they took to show."""
    terminal.press(b"e")
    terminal.read(1.0)
    cursor = itertools.cycle([(b"\x1b[B", MARK)] * 5 + [(b"\x1b[A", MARK)] * 5)
    steering = timed(terminal, cursor, keys)
    terminal.press(b"\x1b")
    terminal.read(1.0)
    turning = timed(terminal, itertools.cycle(PAGES), keys // 2)
    for name, times, pressed in (("steer", steering, keys), ("[ ] z", turning, keys // 2)):
        share = statistics.quantiles(times, n=100, method="inclusive")
        shown = "".join(f"{seconds * 1e3:>6.1f} ms" for seconds in (share[49], share[98], times[-1]))
        print(f"{name:17} {shown}   {len(times)} of {pressed}")


def timed(terminal: Terminal, keys: Iterator[tuple[bytes, bytes]], count: int) -> list[float]:
    """Seconds from a key to what it makes visible, sorted."""
    times = []
    for key, mark in itertools.islice(keys, count):
        terminal.read(random.uniform(0.03, 0.15))
        pressed = time.perf_counter()
        terminal.press(key)
        if terminal.read(2.0, until=mark):
            times.append(time.perf_counter() - pressed)
    return sorted(times)


if __name__ == "__main__":
    main()
