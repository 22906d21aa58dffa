"""How cost grows with environments, width, minibatch, tasks, shots, inner steps and iterations.

    python tests/benchmarks/cost_growth.py [--part NAME]… [--quick] [--page FILE]

Prints a chart and a table of each part in Markdown; ``--page tests/benchmarks/how-cost-grows.md`` writes the
page beside this script, in less than eight minutes on two cores. ``--quick`` measures a few small values, to
see that it works.

Speeds are per second of the processor's time of one thread, which other programs disturb less than the
clock: medians over iterations, without evaluations and pictures. Every value is measured in a process of its
own. Memory is how far that process grows, from the trainer as it was built to the most that it took in its
iterations, beside what the trainer estimated when it was built.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import psutil
from big_runs import read, write
from growth_charts import growth_chart
from key_to_paint import program
from maml_ppo import made
from throughput import operations

from metarl_tui.text import short_number
from metarl_tui.worker.build import versions
from trainers.declarations import make_settings
from trainers.hyperparameters import MAMLHyperparameters, MAMLSetup, PPOHyperparameters, PPOSetup
from trainers.maml import MAML
from trainers.ppo import PPO
from trainers.presets import preset_for
from trainers.trainer import Trainer

WIDTH, HEIGHT, WRAPPED = 76, 16, 110
MARKS = ("●", "○", "+")
_WARM_UP, _LEAST = 2, 3
_MEGABYTE = 1e6
_QUIET: dict[str, Any] = {"eval_every": None, "picture_every": None, "iterations": 10**9}

Row = Sequence[float]


def iterate(trainer: Trainer, seconds: float) -> list[tuple[float, dict[str, float]]]:
    """Processor seconds and metrics of each iteration, for about ``seconds``, after the first few."""
    for _ in range(_WARM_UP):
        trainer.step()
    done: list[tuple[float, dict[str, float]]] = []
    end = time.process_time() + seconds
    while len(done) < _LEAST or time.process_time() < end:
        began = time.process_time()
        metrics = trainer.step().metrics
        done.append((time.process_time() - began, metrics))
    trainer.close()
    return done


def ppo(seconds: float, **values: Any) -> tuple[float, float]:
    """Steps per second, and the share of the update."""
    setup = PPOHyperparameters(eval_every=None, total_steps=10**12, **values)
    done = iterate(PPO(PPOSetup(), setup), seconds)
    rows = values["num_envs"] * values["rollout_steps"]
    shares = (row["time/learn_seconds"] / row["time/iteration_seconds"] for _, row in done)
    return rows / statistics.median(used for used, _ in done), statistics.median(shares)


def environments(count: int, seconds: float) -> Row:
    speed, share = ppo(seconds, num_envs=count, rollout_steps=32, minibatch_size=8 * count, epochs=4)
    return speed, speed / (1 - share), speed / share


def width(neurons: int, seconds: float) -> Row:
    speed, _ = ppo(
        seconds,
        num_envs=128,
        rollout_steps=32,
        minibatch_size=1024,
        epochs=4,
        hidden_sizes=(neurons, neurons),
    )
    count = operations((4, neurons, neurons, 2), 4, acts=True)
    count += operations((4, neurons, neurons, 1), 4, acts=False)
    return speed, speed * count / 1e9


def minibatch(size: int, seconds: float) -> Row:
    return ppo(seconds, num_envs=128, rollout_steps=32, minibatch_size=size, epochs=4)


def maml(seconds: float, **values: Any) -> Row:
    """Meta-iterations per second, megabytes that the process grew by, and those that were estimated."""
    preset = preset_for("maml", "sinusoid")
    assert preset is not None
    h = make_settings(MAMLHyperparameters, {**preset.hyperparameters, **_QUIET, "query_shots": 10, **values})
    return with_memory(MAML(MAMLSetup(task="sinusoid"), h), seconds)


def with_memory(trainer: Any, seconds: float) -> Row:
    before = psutil.Process().memory_info().rss
    rate = 1 / statistics.median(used for used, _ in iterate(trainer, seconds))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return rate, max(most - before, 0) / _MEGABYTE, trainer.memory.needed / _MEGABYTE


def maml_ppo(seconds: float, tasks: int, trajectories: int) -> Row:
    values = {"meta_batch_size": tasks, "trajectories_per_task": trajectories}
    return with_memory(made("navigation", 1, **values, eval_every=None, picture_every=None), seconds)


def opening(iterations: int, seconds: float) -> Row:
    """Megabytes of the journal, seconds to read it into a tape, seconds of ``show``."""
    with tempfile.TemporaryDirectory() as folder:
        run = write(Path(folder), iterations)
        size = (run / "journal.jsonl").stat().st_size / _MEGABYTE
        taken, _ = read(run)
        began = time.perf_counter()
        subprocess.run([program(), "show", str(run)], check=True, capture_output=True)
        return size, taken, time.perf_counter() - began


@dataclass(frozen=True)
class Part:
    """What is measured over growing ``values``; ``drawn`` are the columns that are curves."""

    title: str
    grows: str
    values: tuple[int, ...]
    measure: Callable[[int, float], Row]
    columns: tuple[str, ...]
    drawn: tuple[int, ...]
    bend: str
    """Where it bends, and why."""


PARTS: dict[str, Part] = {
    "ppo-environments": Part(
        "PPO: environments",
        "environments",
        (1, 4, 16, 64, 256, 1024, 4096),
        environments,
        ("steps/s", "acting alone", "learning alone"),
        (0, 1, 2),
        "Up to 16 environments speed grows nearly in proportion, as a call costs more than the "
        "numbers in it; it bends at 64, from where learning, whose work for a sample stays the same, "
        "takes most of the time, while acting alone goes on growing; at 4,096 learning loses a little.",
    ),
    "ppo-width": Part(
        "PPO: network width",
        "neurons a layer",
        (16, 32, 64, 128, 256, 512, 1024),
        width,
        ("steps/s", "GFLOP/s of its products"),
        (0,),
        "It bends between 64 and 128 neurons: below, calls and tanh count for more than matrix "
        "products; above, the products do, whose work grows with the square of the width while the "
        "processor's speed at them is nearly reached, so each doubling costs two thirds of the steps "
        "per second, and in the end three quarters.",
    ),
    "ppo-minibatch": Part(
        "PPO: minibatch",
        "samples",
        (16, 64, 256, 1024, 4096),
        minibatch,
        ("steps/s", "share of the update"),
        (0,),
        "It bends at 256 samples: an update makes the same calls whatever its size, so smaller "
        "minibatches mostly pay for calls; from 1,024 on the arithmetic of the samples is what is "
        "left, and larger ones gain little.",
    ),
    "maml-tasks": Part(
        "MAML: tasks",
        "tasks",
        (1, 4, 16, 64, 256, 1024, 4096),
        lambda tasks, seconds: maml(seconds, meta_batch_size=tasks),
        ("meta-iterations/s", "MB grown", "MB estimated"),
        (0, 1, 2),
        "Up to 16 tasks cost little more than one, because all tasks are one batch and the calls count for "
        "more than their numbers; it bends at 64, and from 256 on time and memory go over to growing "
        "in proportion to the tasks.",
    ),
    "maml-shots": Part(
        "MAML: shots",
        "support rows",
        (1, 4, 16, 64, 256, 1024),
        lambda shots, seconds: maml(seconds, shots=shots),
        ("meta-iterations/s", "MB grown", "MB estimated"),
        (0, 1, 2),
        "It bends between 16 and 64 support rows: up to 20 rows a layer's change is kept as factors "
        "of their rank, and calls count most; beyond, factors are no smaller than the 40 × 40 "
        "weights, each task gets its own, and from 256 rows on time and memory go with the rows.",
    ),
    "maml-steps": Part(
        "MAML: inner steps",
        "inner steps",
        (1, 2, 4, 8, 16, 32),
        lambda steps, seconds: maml(seconds, inner_steps=steps),
        ("meta-iterations/s", "MB grown", "MB estimated"),
        (0, 1, 2),
        "There is no sharp bend: sampling, the query loss and Adam's step are the same for any number "
        "of steps and count less and less, until from 4 steps on each doubling costs nearly half the "
        "speed; memory grows by the same for each step, which has to be kept until the gradient has "
        "gone back through all of them.",
    ),
    "maml-ppo-tasks": Part(
        "MAML-PPO: tasks",
        "tasks",
        (5, 10, 20, 40, 80),
        lambda tasks, seconds: maml_ppo(seconds, tasks, 20),
        ("meta-iterations/s", "MB grown", "MB estimated"),
        (0, 1, 2),
        "Time is in proportion to tasks from the first, because 5 tasks × 20 trajectories × 100 steps "
        "are already enough rows that arithmetic counts, not calls; it bends at 80, where a layer's "
        "outputs (64 MB) are more than the C library keeps for the next use: memory is asked of the "
        "system anew and given back each time.",
    ),
    "maml-ppo-trajectories": Part(
        "MAML-PPO: trajectories of a task",
        "trajectories",
        (5, 10, 20, 40, 80),
        lambda trajectories, seconds: maml_ppo(seconds, 20, trajectories),
        ("meta-iterations/s", "MB grown", "MB estimated"),
        (0, 1, 2),
        "As with tasks, because what counts is their product: time is in proportion until, at 80 "
        "trajectories of 20 tasks, the outputs of a layer are too large to be kept by the C library "
        "for the next use.",
    ),
    "opening": Part(
        "Opening a run: iterations",
        "iterations",
        (1_000, 10_000, 100_000, 1_000_000),
        opening,
        ("MB on disk", "s to read", "s of show"),
        (1, 2),
        "Reading goes with the journal's size from the first; `show` bends between 10,000 and 100,000 "
        "iterations: below, it costs what starting Python and its imports do.",
    ),
}

PAGE = """# How cost grows

```sh
python tests/benchmarks/cost_growth.py --page tests/benchmarks/how-cost-grows.md
```

On {machine}. {method}
"""


def measured(name: str, value: int, seconds: float) -> Row:
    return PARTS[name].measure(value, seconds)


def section(name: str, values: Sequence[int], seconds: float) -> str:
    """A part in Markdown: where it bends, a chart, a table."""
    part = PARTS[name]
    rows: list[Row] = []
    for value in values:
        # A new process for each: what an earlier one has grown to would hide what this one takes.
        with multiprocessing.get_context("fork").Pool(1) as pool:
            rows.append(pool.apply(measured, (name, value, seconds)))
        print(f"{name} {value}: {', '.join(map(short_number, rows[-1]))}", file=sys.stderr)
    marks = MARKS[: len(part.drawn)]
    curves = [
        [(value, row[column]) for value, row in zip(values, rows, strict=True) if row[column] > 0]
        for column in part.drawn
    ]
    legend = "   ".join(
        f"{mark} {part.columns[column]}" for mark, column in zip(marks, part.drawn, strict=True)
    )
    lines = [f"## {part.title}", "", fill(part.bend, WRAPPED), "", "```", f"{legend}, by {part.grows}"]
    lines += [growth_chart(curves, WIDTH, HEIGHT, marks), "```", ""]
    lines += [f"| {' | '.join((part.grows, *part.columns))} |", "|" + "---:|" * (1 + len(part.columns))]
    for value, row in zip(values, rows, strict=True):
        lines.append(f"| {value:,} | {' | '.join(map(shown, row))} |")
    return "\n".join(lines) + "\n"


def shown(number: float) -> str:
    """Three digits, and all those before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def heading() -> str:
    """The command that writes the page, and what it ran on."""
    found = versions()
    machine = f"{os.cpu_count()} cores, {found['cpu']}; Python {found['python']}, torch {found['torch']}"
    method = " ".join(__doc__.split("\n\n")[-1].split())
    return "\n".join(fill(line, WRAPPED) for line in PAGE.format(machine=machine, method=method).split("\n"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="repeatable; by default all")
    parser.add_argument("--quick", action="store_true", help="a few small values")
    parser.add_argument("--page", type=Path, help="the file to write, instead of printing")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each value (default 2)")
    arguments = parser.parse_args()
    if arguments.page and (arguments.part or arguments.quick):
        parser.error("--page writes every part in full; leave out --part and --quick")
    seconds = 0.2 if arguments.quick else arguments.seconds
    sections = [heading()]
    for name in arguments.part or PARTS:
        values = PARTS[name].values[:5:2] if arguments.quick else PARTS[name].values
        sections.append(section(name, values, seconds))
    text = "\n".join(sections)
    if arguments.page:
        arguments.page.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
