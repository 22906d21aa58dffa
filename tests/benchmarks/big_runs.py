"""How long big runs take to open, what they cost in memory, and whether the screen answers meanwhile.

    python tests/benchmarks/big_runs.py [--iterations 100000 1000000] [--size 200x60]

Writes finished runs with 20 metrics an iteration and opens each in a pseudo-terminal. The clocks start with
the command: *first paint* is the frame, *curves* the first braille (of a big run its last part), *drawn* the
last byte that arrives before the terminal is quiet. Meanwhile a key makes one chart fill the screen and small
again; *longest key* is the slowest of them to show. Memory is the screen's highest, and that of all with the
processes that read for it; CPU is the screen's, and theirs. *reading* is the journal into a tape, without a
screen, in a process of its own with those that help it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import psutil
from key_to_paint import Terminal, program

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "app")]

from fake_runs import write_run  # noqa: E402

from metarl_tui.runs.records import seal  # noqa: E402

KEYS = [
    "rollout/ep_rew_mean", "rollout/ep_rew_min", "rollout/ep_rew_max", "rollout/ep_len_mean",
    "rollout/episodes", "train/policy_loss", "train/value_loss", "train/entropy", "train/approx_kl",
    "train/clip_fraction", "train/explained_variance", "train/grad_norm", "train/ratio_max",
    "train/learning_rate", "train/clip_epsilon", "time/fps", "time/steps", "time/iteration_seconds",
    "time/env_seconds", "time/learn_seconds",
]  # fmt: skip
_QUIET_SECONDS, _LONGEST_SECONDS = 1.0, 120.0
_KEY_SECONDS = 0.3
_LOOK_SECONDS = 0.05
_WINDOW = 1 << 17
_BRAILLE = re.compile(b"\xe2[\xa0-\xa3][\x80-\xbf]")
_SPEED = re.compile(rb"\d steps/s")  # in the header, in place of how much has been read
KEY_MARKS = ((b"z", b"[ ]"), (b"z", b"policy loss"))
"""A key that makes a chart large and small again, and what is on the screen only after it."""
_READ = """
import resource, sys, time
from pathlib import Path
from metarl_tui.runs.folder import RunFolder
from metarl_tui.tape_reading import read_tape
import numpy
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
tape = read_tape(RunFolder(Path(sys.argv[1])))
print(time.perf_counter() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def write(runs_dir: Path, iterations: int) -> Path:
    """A finished run of ``iterations`` with all the digits that measured values have."""
    folder = write_run(runs_dir, f"20261122-154210-ppo-cartpole-{iterations:x}", records=[])
    noise = np.random.default_rng(1)
    seq = 1
    with (folder / "journal.jsonl").open("wb") as journal:

        def add(kind: str, iteration: int, **fields: object) -> None:
            nonlocal seq
            head = {"seq": seq, "time": 1.7e9 + 0.1 * iteration, "iteration": iteration, "kind": kind}
            journal.write(seal(orjson.dumps({**head, **fields})) + b"\n")
            seq += 1

        add("status", 0, state="started", device="cpu")
        for start in range(0, iterations, 1000):
            rows = noise.normal(size=(1000, len(KEYS))) + 3
            rows[:, KEYS.index("time/steps")] = 4096.0 * np.arange(start + 1, start + 1001)
            for index, row in enumerate(rows.tolist()):
                add("metrics", start + index + 1, values=dict(zip(KEYS, row, strict=True)))
        add("status", iterations, state="finished")
    return folder


@dataclass
class Opening:
    """What opening a run took: seconds from the command, and what it cost."""

    first_paint: float
    curves: float
    drawn: float
    processor: float
    helpers_processor: float
    megabytes: float
    all_megabytes: float
    longest_key: float


def opened(command: list[str], columns: int, rows: int) -> Opening:
    """Open a finished run and turn one chart large and small until it is drawn."""
    began = time.perf_counter()
    terminal = Terminal(command, columns, rows)
    screen = psutil.Process(terminal.pid)
    keys = deque(KEY_MARKS)
    seen, last = b"", began
    first = curves = complete = pressed = released = longest = 0.0
    processor, helping, looked, peak, all_peak = 0.0, 0.0, 0.0, 0, 0
    while not complete or pressed or last + _QUIET_SECONDS > time.perf_counter():
        if time.perf_counter() - began > _LONGEST_SECONDS:
            raise SystemExit(f"not drawn after {_LONGEST_SECONDS} s: {seen[-400:]!r}")
        part = terminal.take(0.02)
        if time.perf_counter() > looked + _LOOK_SECONDS:
            looked = time.perf_counter()
            own, others = _memory(screen)
            peak, all_peak = max(peak, own), max(all_peak, own + others)
        if not part:
            continue
        now = last = time.perf_counter()
        times = screen.cpu_times()
        processor, helping = times.user + times.system, times.children_user + times.children_system
        seen = (seen + part)[-_WINDOW:]
        first = first or (now if b"metarl-tui" in seen else 0.0)
        curves = curves or (now if _BRAILLE.search(seen) else 0.0)
        complete = complete or (now if curves and _SPEED.search(seen) else 0.0)
        if pressed and keys[0][1] in seen:
            longest, pressed, released = max(longest, now - pressed), 0.0, now
            keys.rotate(-1)
        elif curves and not complete and not pressed and now - released > _KEY_SECONDS:
            seen, pressed = b"", now
            terminal.press(keys[0][0])
    screen.kill()
    return Opening(
        first - began, curves - began, last - began, processor, helping, peak / 1e6, all_peak / 1e6, longest
    )


def _memory(screen: psutil.Process) -> tuple[int, int]:
    """Bytes that the screen holds, and those that read for it."""
    others = 0
    for helper in screen.children():
        with suppress(psutil.NoSuchProcess):
            others += helper.memory_info().rss
    return screen.memory_info().rss, others


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--size", default="200x60")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    columns, rows = map(int, arguments.size.split("x"))
    print(f"{'iterations':>10} {'MB':>5}        reading       first paint   curves    drawn"
          "       CPU, helpers   memory, all   longest key")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for iterations in arguments.iterations:
            run = write(Path(folder), iterations)
            size = (run / "journal.jsonl").stat().st_size / 1e6
            command = [program(), "open", run.name, "--runs-dir", folder]
            reading = min(read(run) for _ in range(arguments.runs))
            found = [opened(command, columns, rows) for _ in range(arguments.runs)]
            one = min(found, key=lambda opening: opening.drawn)
            longest = max(opening.longest_key for opening in found)
            print(
                f"{iterations:>10,} {size:>5.0f}   {reading[0]:>7.2f} s {reading[1]:>5.0f} MB"
                f"   {one.first_paint:>9.2f} s {one.curves:>6.2f} s {one.drawn:>6.2f} s"
                f"   {one.processor:>6.2f}, {one.helpers_processor:>5.2f} s"
                f"   {one.megabytes:>4.0f}, {one.all_megabytes:>3.0f} MB   {longest * 1e3:>8.0f} ms",
                flush=True,
            )


def read(run: Path) -> tuple[float, float]:
    """Seconds to read a run into a tape, and the megabytes that it takes at most, in a new process."""
    ran = subprocess.run([sys.executable, "-c", _READ, str(run)], check=True, capture_output=True, text=True)
    seconds, megabytes = map(float, ran.stdout.split())
    return seconds, megabytes


if __name__ == "__main__":
    main()
