"""``evaluate``: how good is what was learned."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from metarl_tui.commands.common import (
    CommandError,
    Declared,
    colour_wanted,
    json_text,
    run_argument,
    runs_dir_option,
    say,
)
from metarl_tui.commands.evaluations import EVALUATIONS, Evaluation
from metarl_tui.commands.statistics_table import numbers_in, statistics_lines
from metarl_tui.commands.trust import settle_trust, trust_option
from metarl_tui.runs.checkpoints import listed
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.groups import find_runs
from metarl_tui.statistics import over_runs
from metarl_tui.text import clean
from trainers.declarations import Declaration, Value

AT = Declaration("at", "int", None, "iteration whose checkpoint is evaluated", minimum=0)


def _options(function: Callable[..., int]) -> Callable[..., int]:
    """The options of all trainers; ``None`` where one is not given. What several share is one option."""
    known: dict[str, tuple[Declaration, list[str]]] = {}
    for trainer, evaluation in EVALUATIONS.items():
        for option in evaluation.options:
            default = "" if option.default is None else f" ({option.default})"
            known.setdefault(option.name, (option, []))[1].append(f"{trainer}: {option.help}{default}")
    for option, helps in reversed(known.values()):
        function = click.option(option.flag, type=Declared(option), help="; ".join(helps))(function)
    return function


@click.command()
@run_argument
@_options
@click.option("--at", type=Declared(AT), metavar="N", help=f"{AT.help}, or the newest before it")
@click.option("--json", is_flag=True, help="one JSON object")
@trust_option
@runs_dir_option
def evaluate(reference: str, at: int | None, json: bool, trust: bool, runs_dir: Path, **asked: Value) -> int:
    """Measure what a checkpoint of RUN is worth; of a group, median and interquartile mean over its runs.

    ppo: episodes of the greedy policy, its normaliser frozen. maml: adaptation to held-out tasks step by
    step, beside joint training that is fine-tuned and learning from scratch, on the same data. maml-ppo: the
    same with PPO and trajectories; its baselines take two to four times as long as the run did.
    """
    runs, is_group = find_runs(runs_dir, reference)
    results, left_out = [], []
    for folder in runs:
        evaluation, options = _chosen(folder, asked)
        settle_trust(folder, trust)
        try:
            results.append(_evaluated(folder, options, at))
        except RunError as error:
            if not is_group:
                raise
            left_out.append({"run": folder.id, "why": str(error)})
            say(f"{folder.short_id} is left out: {error}", err=True)
    if not results:
        raise RunError(f"no run of {clean(reference, 80)} can be evaluated")
    over = over_runs(dict(numbers_in(result)) for result in results)
    if json:
        of_group = {"group": reference, "runs": results, "left_out": left_out, "over_runs": over}
        page = of_group if is_group else results[0]
        sys.stdout.write(json_text(page) + "\n")
        return 0
    for line in statistics_lines(reference, over) if is_group else evaluation.lines(results[0]):
        say(line)
    if evaluation.chart is not None and not is_group:
        width, colour = shutil.get_terminal_size((100, 30)).columns, colour_wanted()
        click.echo(evaluation.chart(results[0], width, colour))
    return 0


def _chosen(folder: RunFolder, asked: Mapping[str, Value]) -> tuple[Evaluation, dict[str, Value]]:
    """How the run is evaluated, and with what. Raises :class:`CommandError` for another trainer's options."""
    trainer = folder.config.trainer
    if trainer not in EVALUATIONS:
        raise RunError(f"trainer = {trainer}: this version evaluates runs of {', '.join(EVALUATIONS)}")
    own = {option.name for option in EVALUATIONS[trainer].options}
    for name in (name for name, value in asked.items() if value is not None and name not in own):
        others = [
            (other, option.flag)
            for other, evaluation in EVALUATIONS.items()
            for option in evaluation.options
            if option.name == name
        ]
        theirs = " and ".join(other for other, _ in others)
        raise CommandError(
            f"{others[0][1]}: is for runs of {theirs}, and run {folder.short_id} is one of {trainer}"
        )
    options = {
        option.name: option.default if asked[option.name] is None else asked[option.name]
        for option in EVALUATIONS[trainer].options
    }
    return EVALUATIONS[trainer], options


def _evaluated(folder: RunFolder, options: dict[str, Value], at: int | None) -> dict[str, Any]:
    """Raises :class:`RunError` where there is no such checkpoint, or it can't be evaluated."""
    if at is not None:
        _say_which(folder, at)
    from metarl_tui.worker.evaluate import evaluate_checkpoint

    with _progress() as progress:
        return evaluate_checkpoint(folder, options, at, progress)


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
