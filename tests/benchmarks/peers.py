"""The same work with other libraries, side by side, as ratios.

    python tests/benchmarks/peers.py [--row NAME]… [--cache FOLDER] [--seconds 4] [--rounds 3]

The peers are installed by pip, from the index that it is set to, into an environment of their own in FOLDER
(by default a temporary one, removed at the end). To spare the download of the CUDA libraries set
PIP_EXTRA_INDEX_URL to the index of PyTorch's CPU builds, which its installation page names. Both sides have
one thread and take turns; each row is the median over rounds, by the processor's time, with the wall clock's
ratio beside it: on a machine that does other things too they differ. What a peer does not run is said, with
its reason. All rows take about ten minutes.

CleanRL is no row: the package on PyPI is 0.4.8, whose ppo.py needs a Gym that Gymnasium replaced.
Stable-Baselines3 does the work of CleanRL's defaults in its place. learn2learn 0.2.0, the newest, brings C
code that Cython wrote for Python 3.10 and older; on a newer one its rows say that it does not compile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TORCH = "torch>=2.6,<2.14"
LONGEST_SECONDS = 240
"""No program of either side needs as many."""
PACKAGES = {
    "sb3": ["stable-baselines3", "gymnasium"],
    "sbx": ["sbx-rl"],
    "higher": ["higher"],
    "torchopt": ["torchopt"],
    "learn2learn": ["learn2learn"],
}


class Row(NamedTuple):
    """One line of the table: the peer's program, ours with its arguments, and the ratio to reach."""

    library: str
    program: str
    ours: str
    unit: str
    goal: float | None


ROWS = {
    "zoo-sb3": Row("sb3", "ppo:sb3:zoo", "8,32,256,20", "steps/s", 5.0),
    "zoo-sbx": Row("sbx", "ppo:sbx:zoo", "8,32,256,20", "steps/s", None),
    "cleanrl-sb3": Row("sb3", "ppo:sb3:cleanrl", "4,128,128,4", "steps/s", 4.0),
    "until-475-sb3": Row("sb3", "solve:sb3", "until", "s", 4.0),
    "until-475-sbx": Row("sbx", "solve:sbx", "until", "s", None),
    **{
        f"{task}-{library}": Row(library, f"maml:{library}:{task}", task, "iterations/s", None)
        for task in ("sinusoid", "omniglot")
        for library in ("learn2learn", "torchopt", "higher")
    },
}


def environment(folder: Path, libraries: set[str]) -> tuple[Path, dict[str, str]]:
    """The peers' Python, and why libraries are missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making an environment for the peers in {folder}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    missing = {}
    for library in sorted(libraries):
        # By itself first: one that can't be built says so before what it depends on is built.
        # Then with torch, so that no dependency replaces it by another version.
        for options in ("--no-deps", TORCH):
            found = subprocess.run([*pip, options, *PACKAGES[library]], capture_output=True, text=True)
            if found.returncode:
                missing[library] = f"does not install: {_first_error(found.stderr)}"
                break
    return python, missing


def _first_error(output: str) -> str:
    """What a compiler said, or else pip, that says why."""
    lines = output.splitlines()
    fatal = [line.partition("fatal error: ")[2] for line in lines if "fatal error: " in line]
    errors = [line for line in lines if line.startswith("ERROR")]
    return [*fatal, *errors, "pip failed"][0]


def run(command: list[Any], folder: str) -> tuple[dict[str, float] | None, str]:
    """What a program printed, with the seconds that all of it took; or why it gave nothing."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    own |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "METARL_RUNS_DIR": folder}
    began, before = time.perf_counter(), os.times()
    words = [str(word) for word in command]
    try:
        found = subprocess.run(
            words, env=own, cwd=folder, capture_output=True, text=True, timeout=LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None, f"not done after {LONGEST_SECONDS} s"
    after = os.times()
    if found.returncode:
        return None, (found.stderr.strip().splitlines() or ["failed"])[-1][:90]
    used = after.children_user + after.children_system - before.children_user - before.children_system
    result = {"all_wall": time.perf_counter() - began, "all_cpu": used}
    with contextlib.suppress(ValueError, IndexError):
        result |= json.loads(found.stdout.splitlines()[-1])
    return result, ""


def ours(row: Row, seconds: float, seed: int) -> list[Any]:
    """The command of our side."""
    if row.ours == "until":
        return [
            sys.executable, "-m", "metarl_tui", "train", "ppo", "--no-ui", "--until", "475", "--seed", seed,
        ]  # fmt: skip
    return [sys.executable, HERE / "own_programs.py", row.ours, seconds]


def compare(name: str, row: Row, python: Path, seconds: float, rounds: int) -> bool:
    """Print one line of the table; whether the ratio is what it is to be."""
    pairs = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            theirs, why = run([python, HERE / "peer_programs.py", row.program, seconds, number], folder)
            mine, problem = run(ours(row, seconds, number), folder)
        if theirs is None or mine is None:
            print(f"{name:22} left out: {f'the peer: {why}' if theirs is None else problem}", flush=True)
            return mine is not None
        pairs.append((mine, theirs))

    def of(side: int, clock: str) -> list[float]:
        if row.unit == "s":
            return [pair[side][f"all_{clock}"] for pair in pairs]
        return [pair[side]["done"] / pair[side][clock] for pair in pairs]

    def ratio(clock: str) -> float:
        each = zip(of(0, clock), of(1, clock), strict=True)
        return statistics.median(b / a if row.unit == "s" else a / b for a, b in each)

    us, them = (statistics.median(of(side, "cpu")) for side in (0, 1))
    met = row.goal is None or ratio("cpu") >= row.goal
    goal = "" if row.goal is None else f"{row.goal:g}× {'reached' if met else 'MISSED'}"
    digits = 1 if row.unit == "s" or us < 1000 else 0
    print(
        f"{name:22}{us:>10,.{digits}f}{them:>10,.{digits}f} {row.unit:13}{ratio('cpu'):>7.1f}×"
        f"{ratio('wall'):>7.1f}×  {goal}",
        flush=True,
    )
    return met


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", choices=ROWS, action="append", help="repeatable; by default all")
    parser.add_argument("--cache", type=Path, help="keep the peers' environment in this folder")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = {name: ROWS[name] for name in arguments.row or ROWS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.cache or Path(temporary)).resolve()
        python, missing = environment(folder, {row.library for row in rows.values()})
        print(f"{'':22}{'ours':>10}{'peer':>10} {'':13}{'by CPU':>8}{'by wall':>8}  goal")
        met = True
        for name, row in rows.items():
            if row.library in missing:
                print(f"{name:22} left out: {row.library} {missing[row.library]}")
            else:
                met &= compare(name, row, python, arguments.seconds, arguments.rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
