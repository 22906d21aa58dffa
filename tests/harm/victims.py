"""Runs that are there to be harmed, what trains them, and what is found of them afterwards."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl_tui.runs import checkpoints
from metarl_tui.runs.folder import RunConfig, RunError, RunFolder
from metarl_tui.runs.journal import JournalReader, Record
from trainers.hyperparameters import TRAINERS

MakeRun = Callable[..., RunFolder]
Figure = Callable[[str, object, str], None]
Times = Callable[[int], int]

ENVIRONMENTS = Path(__file__).parent.parent / "worker" / "environments"
LONG = 10_000_000

_PPO = {
    "total_steps": 640, "num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "epochs": 2,
    "hidden_sizes": [8], "eval_every": 5, "eval_episodes": 2,
}  # fmt: skip
_MAML = {
    "iterations": 10, "meta_batch_size": 3, "inner_steps": 2, "hidden_sizes": [8], "eval_every": 5,
    "eval_tasks": 4, "eval_inner_steps": 2, "picture_every": 5,
}  # fmt: skip
_MAML_PPO = {
    "iterations": 10, "meta_batch_size": 2, "trajectories_per_task": 2, "epochs": 2, "hidden_sizes": [8],
    "eval_every": 5, "eval_tasks": 2,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {"ppo": _PPO, "maml": _MAML, "maml-ppo": _MAML_PPO}
"""Hyperparameters with which a run of a trainer takes ten iterations and about a second."""
SETUP: dict[str, dict[str, Any]] = {"ppo": {"env": "CartPole-v1"}, "maml": {"task": "xor"}, "maml-ppo": {}}


def make_harmed_run(
    runs_dir: Path,
    trainer: str,
    *,
    endless: bool = False,
    setup: Mapping[str, Any] | None = None,
    changes: list[dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    **hyperparameters: Any,
) -> RunFolder:
    """The folder of a small run of ``trainer``; an ``endless`` one only ends when it is ended."""
    values = {**SMALL[trainer], **hyperparameters}
    if endless:
        values["total_steps" if trainer == "ppo" else "iterations"] = LONG
    given = {**SETUP[trainer], "seed": 1, **(setup or {})}
    config = RunConfig(
        trainer=trainer,
        setup=given,
        hyperparameters=values,
        options=options or {},
        changes=changes or [],
        subject=str(given.get(TRAINERS[trainer].subject, "")),
        working_folder=str(ENVIRONMENTS),
        trusted=True,
    )
    return RunFolder.create(runs_dir, config)


# -- what the warm parent's children do -------------------------------------------------------------


def train_each_once(runs_dir: Path) -> None:
    """Train every trainer for a moment, so that what torch imports at its first step is there."""
    from metarl_tui.worker.build import build_trainer

    for name in SMALL:
        if name in TRAINERS:
            trainer = build_trainer(make_harmed_run(runs_dir, name).config)
            trainer.step()
            trainer.state()
            trainer.close()


def train(
    folder: str, *, attended: bool = True, patches: dict[str, Any] | None = None, user: int | None = None
) -> int:
    """A worker as ``python -m metarl_tui.worker`` runs one, perhaps as another ``user``."""
    from metarl_tui.worker.interruption import Interruption
    from metarl_tui.worker.loop import train as train_run

    if user is not None:
        os.setgid(user)
        os.setuid(user)
    _patch(patches)
    try:
        return train_run(RunFolder(folder), Interruption().install(), attended=attended)
    except RunError as error:
        print(f"error: {error}")
        return 2
    except OSError as error:
        print(f"error: {error}")
        return 1


def fork(parent: str, at: int) -> int:
    """Make a fork; it is trained by another."""
    from metarl_tui.worker.fork import make_fork

    make_fork(RunFolder(parent), Path(parent).parent, at)
    return 0


def train_with_clock(folder: str, shift: float) -> int:
    """A worker on whose machine the clock goes wrong by ``shift`` seconds."""
    now = time.time
    time.time = lambda: now() + shift
    return train(folder)


def train_headless(folder: str, *, patches: dict[str, Any] | None = None) -> int:
    """``metarl-tui train --no-ui`` after its folder is made."""
    from metarl_tui.headless import train_here

    _patch(patches)
    try:
        return train_here(RunFolder(folder))
    except RunError as error:
        print(f"error: {error}")
        return 2
    except OSError as error:
        print(f"error: {error}")
        return 1


originals: dict[str, Any] = {}
"""What was there before a patch."""


def _patch(patches: dict[str, Any] | None) -> None:
    """Set ``module:attribute`` to a value; a value ``=name`` is a function of this module."""
    for target, value in (patches or {}).items():
        module, _, name = target.partition(":")
        owner: Any = importlib.import_module(module)
        *inner, last = name.split(".")
        for part in inner:
            owner = getattr(owner, part)
        originals[target] = getattr(owner, last)
        given = globals()[value[1:]] if isinstance(value, str) and value[:1] == "=" else value
        setattr(owner, last, given)


SAVE_ALWAYS = {"metarl_tui.worker.saving:COST_SHARE": 1e9, "metarl_tui.worker.saving:LEAST_SECONDS": 0.0}
"""Patches with which a checkpoint is saved after every iteration."""


# -- what is found of a run --------------------------------------------------------------------------


def records(folder: RunFolder, kind: str | None = None) -> list[Record]:
    """The journal's records; nothing of it may be damaged."""
    reader = JournalReader(folder.journal)
    found = reader.read()
    while not reader.at_end:
        found += reader.read()
    assert reader.damaged == 0
    return [record for record in found if kind in (None, record["kind"])]


def rows(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """The newest row of every iteration, without times."""
    return {
        record["iteration"]: {
            key: value for key, value in record["values"].items() if not key.startswith("time/")
        }
        for record in records(folder, "metrics")
    }


def iterations_done(folder: RunFolder) -> int:
    """The newest iteration that has a row; looks at the end of the journal only."""
    reader = JournalReader(folder.journal)
    reader.seek_tail(1 << 15)
    return max((one["iteration"] for one in reader.read() if one["kind"] == "metrics"), default=0)


def newest_contents(folder: RunFolder) -> checkpoints.Contents:
    """What the newest checkpoint holds, without the options, which change nothing of the results."""
    found = checkpoints.newest_good(folder)
    assert found is not None
    assert not found[2], found[2]
    found[1].numbers.get("worker", {}).pop("options", None)
    return found[1]


def first_difference(one: RunFolder, other: RunFolder, *, after: int = 0) -> str | None:
    """Where two runs differ: in a metric of an iteration ``after`` that, or in their last checkpoints.

    These hold weights, moments, generators, environments and what was best.
    """
    ours, theirs = rows(one), rows(other)
    for iteration in sorted(number for number in ours.keys() | theirs.keys() if number > after):
        if ours.get(iteration) != theirs.get(iteration):
            return f"iteration {iteration}: {ours.get(iteration)} and {theirs.get(iteration)}"
    first, second = newest_contents(one), newest_contents(other)
    for part in ("weights", "tensors"):
        mine, other_part = getattr(first, part), getattr(second, part)
        if mine.keys() != other_part.keys():
            return f"{part}: {sorted(mine.keys() ^ other_part.keys())}"
        for name, array in mine.items():
            if array.dtype != other_part[name].dtype or array.tobytes() != other_part[name].tobytes():
                return f"{part} {name}: {np.abs(array - other_part[name]).max()}"
    for name in first.numbers.keys() | second.numbers.keys():
        if first.numbers.get(name) != second.numbers.get(name):
            return f"{name}: {first.numbers.get(name)} and {second.numbers.get(name)}"
    return None


def wait_until(condition: Callable[[], Any], seconds: float = 30.0, pause: float = 0.01) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


def out_of_memory(trainer: Any) -> Any:
    """A step of PPO that a GPU has no memory for, from the third on."""
    import torch

    if trainer.iteration >= 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return originals["trainers.ppo:PPO.step"](trainer)
