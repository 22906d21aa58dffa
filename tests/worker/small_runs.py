"""Runs small enough to train within a test."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.journal import JournalReader
from metarl_tui.runs.requests import send
from metarl_tui.worker.interruption import Interruption
from metarl_tui.worker.loop import train

SMALL = {
    "total_steps": 640,
    "num_envs": 4,
    "rollout_steps": 16,
    "minibatch_size": 32,
    "epochs": 2,
    "hidden_sizes": [8],
    "eval_every": 5,
    "eval_episodes": 2,
}
"""Ten iterations of 64 steps."""

ENVIRONMENTS = Path(__file__).parent / "environments"

MakeRun = Callable[..., RunFolder]


def train_here(folder: RunFolder, **keywords: Any) -> int:
    """Train in this process; signals are left alone."""
    return train(folder, Interruption(), **keywords)


def train_saving(folder: RunFolder, *iterations: int) -> None:
    """Train in this process to the end, with a checkpoint after each of ``iterations`` at least."""

    def ask(record: dict[str, Any]) -> None:
        if record["kind"] == "metrics" and record["iteration"] in iterations:
            send(folder, "save")

    assert train_here(folder, observer=ask) == 0


def records(folder: RunFolder, kind: str | None = None) -> list[dict[str, Any]]:
    reader = JournalReader(folder.journal)
    found: list[dict[str, Any]] = []
    while new := reader.read():
        found += new
    assert reader.damaged == 0
    return [record for record in found if kind in (None, record["kind"])]


def metrics(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """The newest row of every iteration, without times."""
    return {
        record["iteration"]: {
            key: value for key, value in record["values"].items() if not key.startswith("time/")
        }
        for record in records(folder, "metrics")
    }


def states(folder: RunFolder) -> list[str]:
    return [record["state"] for record in records(folder, "status")]


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def python() -> str:
    return sys.executable


def at_iteration(
    folder: RunFolder, iteration: int, do: Callable[[], Any]
) -> Callable[[dict[str, Any]], None]:
    """An observer that does something once, as soon as ``iteration`` is journaled."""
    done = False

    def observe(record: dict[str, Any]) -> None:
        nonlocal done
        if record["kind"] == "metrics" and record["iteration"] == iteration and not done:
            done = True
            do()

    return observe


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    found = checkpoints.newest_good(folder)
    assert found is not None
    return {**found[1].weights, **found[1].tensors}


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    assert metrics(one) == metrics(other)
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)


def damage_checkpoints_after(folder: RunFolder, iteration: int) -> None:
    for checkpoint in checkpoints.listed(folder):
        if checkpoint.iteration > iteration:
            for part in checkpoint.path.iterdir():
                part.write_bytes(b"\0" * 100)
