"""From the command to the first paint: the home screen and ``train ppo`` beside a one-label Textual app.

    python tests/benchmarks/first_paint.py [--runs 7]

Each command runs in a pseudo-terminal of 120×40, in turn; the clock stops when the text that only the
painted screen shows has arrived. ``--help`` is timed to its end, beside Python that does nothing. Bytecode
is there, as it is once a package is installed. Times are medians: by the clock, and of processor time,
which other work on the machine changes less. The ratios are taken round by round.
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
from typing import NamedTuple

ONE_LABEL = (
    "from textual.app import App\nfrom textual.widgets import Label\n"
    "class One(App):\n    def compose(self):\n        yield Label('painted')\nOne().run()"
)


BASES = ("one-label Textual app", "python -c pass")
"""What the commands after each of them are compared with."""


class Taken(NamedTuple):
    """Seconds by the clock, and of processor time."""

    clock: float
    processor: float


def until(command: list[str], mark: bytes | None, environment: dict[str, str]) -> Taken:
    """The time from fork to the arrival of ``mark``, or where it is ``None`` to the end."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""
    while mark is None or mark not in seen:
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            break
    seconds = time.perf_counter() - began
    if mark is not None:
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    os.close(terminal)
    if (mark is None and status) or (mark is not None and mark not in seen):
        raise SystemExit(f"{command} did not end as it should:\n{seen.decode(errors='replace')}")
    return Taken(seconds, used.ru_utime + used.ru_stime)


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
            "METARL_RUNS_DIR": f"{folder}/runs",
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        train = [program, "train", "ppo", "--total-steps", "2000"]
        commands: dict[str, tuple[list[str], bytes | None]] = {
            BASES[0]: ([sys.executable, "-c", ONE_LABEL], b"painted"),
            "metarl-tui": ([program], b"metarl-tui"),
            "metarl-tui train ppo": (train, b"starting"),
            BASES[1]: ([sys.executable, "-c", "pass"], None),
            "metarl-tui --help": ([program, "--help"], None),
        }
        times: dict[str, list[Taken]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, (command, mark) in commands.items():
                times[name].append(until(command, mark, environment))
                # The worker that it starts must not slow the next one.
                time.sleep(6.0 if command is train else 0.2)
    print(f"{'':26}{'clock':>10}{'ratio':>8}{'processor':>12}{'ratio':>8}")
    base: list[Taken] = []
    for name, all_times in times.items():
        taken = all_times[1:]  # the first one wrote the bytecode
        base = taken if name in BASES else base
        shown = [
            (statistics.median(ours), statistics.median(map(float.__truediv__, ours, theirs)))
            for ours, theirs in zip(zip(*taken, strict=True), zip(*base, strict=True), strict=True)
        ]
        clock, processor = (f"{seconds:>8.3f} s{ratio:>8.2f}" for seconds, ratio in shown)
        print(f"{name:26}{clock}  {processor}")


if __name__ == "__main__":
    main()
