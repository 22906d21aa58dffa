"""``evaluate``: how good is what was learned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from metarl_tui.commands.common import (
    CommandError,
    Declared,
    columns,
    json_text,
    run_argument,
    runs_dir_option,
    say,
)
from metarl_tui.runs.checkpoints import listed
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import clean, short_number
from trainers.declarations import Declaration, Value

AT = Declaration("at", "int", None, "iteration whose checkpoint is evaluated", minimum=0)
TRANSDUCTIVE = "transductive: batch norm takes its statistics from the rows that are predicted, all at once"


@dataclass(frozen=True)
class Evaluation:
    """How runs of a trainer are evaluated: the options there are, and the result's lines for a person."""

    options: tuple[Declaration, ...]
    lines: Callable[[dict[str, Any]], list[str]]


def _returns(result: dict[str, Any]) -> list[str]:
    width = max(map(len, result))
    return [
        f"{name:<{width}}  {short_number(value) if isinstance(value, float) else value}"
        for name, value in result.items()
    ]


def _adaptation(result: dict[str, Any]) -> list[str]:
    """A table for each method with a row for every number of steps."""
    ways = f"ways {result['ways']}, " if result["ways"] else ""
    lines = [
        f"{result['run'].rpartition('-')[2]} at iteration {result['iteration']}, {result['task']}: "
        f"{result['tasks']} held-out tasks, {ways}shots {result['shots']}, "
        f"query_shots {result['query_shots']}; mean ± 95 % interval over tasks"
    ]
    if result["transductive"]:
        lines.append(TRANSDUCTIVE)
    for method in result["methods"]:
        rate = "learned" if method["inner_lr"] is None else short_number(method["inner_lr"])
        transductive = ", transductive" if result["transductive"] else ""
        lines += ["", f"{method['name']}, rate {rate}{transductive}", *_by_step(method["by_step"])]
    return lines


def _by_step(rows: list[dict[str, float]]) -> list[str]:
    headings, table = ["steps"], [[str(row["step"])] for row in rows]
    if "accuracy" in rows[0]:
        headings += ["accuracy", "median", "worst 5 %"]
        for row, cells in zip(rows, table, strict=True):
            cells.append(f"{row['accuracy']:.2%} ± {row['accuracy_ci95']:.2%}")
            cells += [f"{row['accuracy_median']:.1%}", f"{row['accuracy_worst']:.1%}"]
    headings += ["loss", "median", "diverged"]
    for row, cells in zip(rows, table, strict=True):
        cells.append(f"{short_number(row['loss'])} ± {short_number(row['loss_ci95'])}")
        cells += [short_number(row["loss_median"]), str(row["diverged"])]
    return columns([headings, *table])


EVALUATIONS: Mapping[str, Evaluation] = {
    "ppo": Evaluation(
        (Declaration("episodes", "int", 100, "episodes to play", minimum=1, maximum=1_000_000),), _returns
    ),
    "maml": Evaluation(
        (
            Declaration("tasks", "int", 600, "held-out tasks to adapt to", minimum=1, maximum=1_000_000),
            Declaration("shots", "int", None, "support rows, if not the run's", minimum=1, maximum=100_000),
            Declaration("steps", "int", 10, "steps of adaptation", minimum=1, maximum=1000),
            Declaration("data", "text", None, "where the tasks' data lies, if not where the run found it"),
        ),
        _adaptation,
    ),
}


def _options(function: Callable[..., int]) -> Callable[..., int]:
    """The options of all trainers, each under its own name; ``None`` where it is not given."""
    for trainer, evaluation in reversed(list(EVALUATIONS.items())):
        for option in reversed(evaluation.options):
            default = "" if option.default is None else f" ({option.default})"
            function = click.option(
                option.flag, type=Declared(option), help=f"{trainer}: {option.help}{default}"
            )(function)
    return function


@click.command()
@run_argument
@_options
@click.option("--at", type=Declared(AT), metavar="N", help=f"{AT.help}, or the newest before it")
@click.option("--json", is_flag=True, help="one JSON object")
@runs_dir_option
def evaluate(reference: str, at: int | None, json: bool, runs_dir: Path, **asked: Value) -> int:
    """Measure what a checkpoint of RUN is worth.

    ppo: episodes of the greedy policy, its normaliser frozen. maml: adaptation to held-out tasks step by
    step, beside joint training that is fine-tuned and learning from scratch, on the same data.
    """
    folder = find_run(runs_dir, reference)
    evaluation, options = _chosen(folder, asked)
    if at is not None:
        _say_which(folder, at)
    from metarl_tui.worker.evaluate import evaluate_checkpoint

    with _progress() as progress:
        result = evaluate_checkpoint(folder, options, at, progress)
    if json:
        sys.stdout.write(json_text(result) + "\n")
        return 0
    for line in evaluation.lines(result):
        say(line)
    return 0


def _chosen(folder: RunFolder, asked: Mapping[str, Value]) -> tuple[Evaluation, dict[str, Value]]:
    """How the run is evaluated, and with what. Raises :class:`CommandError` for another trainer's options."""
    trainer = folder.config.trainer
    if trainer not in EVALUATIONS:
        raise RunError(f"trainer = {trainer}: this version evaluates runs of {', '.join(EVALUATIONS)}")
    for other, evaluation in EVALUATIONS.items():
        for option in evaluation.options:
            if other != trainer and asked[option.name] is not None:
                raise CommandError(
                    f"{option.flag}: is for runs of {other}, and run {folder.short_id} is one of {trainer}"
                )
    options = {
        option.name: option.default if asked[option.name] is None else asked[option.name]
        for option in EVALUATIONS[trainer].options
    }
    return EVALUATIONS[trainer], options


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows on one line of a terminal what is being done; scripts don't get it."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text("reading the checkpoint")) as status:
        yield lambda text: status.update(Text(clean(text)))


def _say_which(folder: RunFolder, at: int) -> None:
    """Say which checkpoint stands in for one of iteration ``at`` that is not there.

    Raises :class:`RunError` where none does.
    """
    saved = [checkpoint.iteration for checkpoint in listed(folder)]
    earlier = [iteration for iteration in saved if iteration <= at]
    if not earlier:
        first = f"the first is at {saved[0]}" if saved else "it has none yet"
        raise RunError(f"at = {at}: run {folder.short_id} has no checkpoint at or before it; {first}")
    if earlier[-1] != at:
        say(f"no checkpoint at {at}: using {earlier[-1]}", err=True)
