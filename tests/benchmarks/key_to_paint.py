"""How long a key takes to show while six charts follow a live run, and what following costs.

    python tests/benchmarks/key_to_paint.py [--keys 300] [--refresh 5] [--size 200x60]

A PPO run trains in its worker while the screen follows it in a pseudo-terminal. Keys move the steer panel's
cursor at irregular moments; the clock stops when the cursor's mark arrives at the terminal. Then keys turn
pages of charts and zoom; there it stops when the title of the chart that comes first has been written.
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
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "▌".encode()
PAGES = [(b"z", b"[ ]"), (b"]", b"episode length"), (b"[", b"return"), (b"z", b"policy loss")]
"""Keys and a text that is on the screen only after them."""


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


def program() -> str:
    """The command ``metarl-tui`` of this environment."""
    found = shutil.which("metarl-tui", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise SystemExit("metarl-tui is not installed in this environment; pip install . first")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--refresh", default="5")
    parser.add_argument("--size", default="200x60")
    arguments = parser.parse_args()
    columns, rows = map(int, arguments.size.split("x"))
    command = program()
    with tempfile.TemporaryDirectory() as folder:
        train = [command, "train", "ppo", "--detach", "--runs-dir", folder, "--total-steps", "100000000"]
        run = subprocess.run(train, check=True, capture_output=True, text=True).stdout.strip()
        try:
            measure(
                [command, "open", run, "--runs-dir", folder, "--refresh", arguments.refresh],
                columns,
                rows,
                arguments.keys,
            )
        finally:
            subprocess.run([command, "stop", run, "--runs-dir", folder], check=True, capture_output=True)


def measure(command: list[str], columns: int, rows: int, keys: int) -> None:
    terminal = Terminal(command, columns, rows)
    screen = psutil.Process(terminal.pid)
    terminal.read(8.0)
    terminal.press(b"e")
    terminal.read(1.0)
    # Following alone: no key is pressed.
    began, used, received = time.perf_counter(), screen.cpu_times(), terminal.received
    terminal.read(10.0)
    seconds = time.perf_counter() - began
    now = screen.cpu_times()
    processor = (now.user + now.system - used.user - used.system) / seconds
    rate = (terminal.received - received) / seconds / 1024
    steering = timed(terminal, itertools.cycle([(b"\x1b[B", MARK)] * 5 + [(b"\x1b[A", MARK)] * 5), keys)
    terminal.press(b"\x1b")
    terminal.read(1.0)
    turning = timed(terminal, itertools.cycle(PAGES), keys // 2)
    screen.kill()
    print(f"{columns}×{rows}{'':12}{'p50':>8}{'p99':>9}{'worst':>9}   keys seen")
    for name, times, pressed in (("steer", steering, keys), ("[ ] z", turning, keys // 2)):
        share = statistics.quantiles(times, n=100)
        shown = "".join(f"{seconds * 1e3:>6.1f} ms" for seconds in (share[49], share[98], times[-1]))
        print(f"{name:17} {shown}   {len(times)} of {pressed}")
    print(f"following      {processor:.0%} of one core   {rate:.1f} KiB/s to the terminal")


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
