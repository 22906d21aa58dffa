"""The program as a process of its own, and what the tests of several commands look at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from metarl_tui.commands.resolve import resolve
from metarl_tui.runs.folder import RunConfig, RunFolder
from metarl_tui.runs.journal import last_records
from trainers.hyperparameters import TRAINERS

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--num-envs", "4", "--rollout-steps", "16", "--minibatch-size", "32", "--hidden-sizes", "8")


def program(runs_dir: Path, *words: str, one_core: bool = False) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "METARL_RUNS_DIR": str(runs_dir)}
    command = [sys.executable, "-m", "metarl_tui", *words]
    if one_core:
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=runs_dir.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(condition: Any, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def states(folder: RunFolder) -> list[str]:
    return [record["state"] for record in last_records(folder.journal) if record["kind"] == "status"]


def processes_of(runs_dir: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.append((entry / "cmdline").read_text())
    return [line for line in found if str(runs_dir) in line]


def configured(name: str) -> RunConfig:
    return resolve(TRAINERS["ppo"], {}, name=name)
