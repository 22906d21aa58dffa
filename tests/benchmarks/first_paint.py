"""From the command to the first paint: the home screen and ``train ppo`` beside a one-label Textual app.

    python tests/benchmarks/first_paint.py [--runs 7]

Each command runs in a pseudo-terminal of 120×40, in turn; the clock stops when the text that only the
painted screen shows has arrived. Times are medians, the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

ONE_LABEL = (
    "from textual.app import App\nfrom textual.widgets import Label\n"
    "class One(App):\n    def compose(self):\n        yield Label('painted')\nOne().run()"
)


def first_paint(command: list[str], mark: bytes, environment: dict[str, str]) -> float:
    """Seconds from fork to the arrival of ``mark``."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""
    while mark not in seen:
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            raise SystemExit(f"{command} ended before it painted:\n{seen.decode(errors='replace')}") from None
    seconds = time.perf_counter() - began
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    rounds = parser.parse_args().runs
    program = shutil.which(
        "metarl-tui", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        raise SystemExit("metarl-tui is not installed in this environment; pip install . first")
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "METARL_RUNS_DIR": folder,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        train = [program, "train", "ppo", "--total-steps", "200000"]
        commands = {
            "one-label Textual app": ([sys.executable, "-c", ONE_LABEL], b"painted"),
            "metarl-tui": ([program], b"metarl-tui"),
            "metarl-tui train ppo": (train, b"starting"),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, (command, mark) in commands.items():
                times[name].append(first_paint(command, mark, environment))
                time.sleep(
                    6.0 if command is train else 0.2
                )  # the worker it starts must not slow the next one
    base = times["one-label Textual app"][1:]
    print(f"{'':26}{'median':>10}{'ratio':>8}")
    for name, all_seconds in times.items():
        seconds = all_seconds[1:]
        ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds, base, strict=True))
        print(f"{name:26}{statistics.median(seconds):>8.3f} s{ratio:>8.2f}")


if __name__ == "__main__":
    main()
