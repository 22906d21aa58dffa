"""``evaluate``: how good is what was learned."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from metarl_tui.commands.common import Declared, run_argument, runs_dir_option, say
from metarl_tui.runs.checkpoints import listed
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import short_number
from trainers.declarations import Declaration

EPISODES = Declaration("episodes", "int", 100, "episodes to play", minimum=1, maximum=1_000_000)
AT = Declaration("at", "int", None, "iteration whose checkpoint is evaluated", minimum=0)


@click.command()
@run_argument
@click.option("--episodes", type=Declared(EPISODES), metavar="N", help=f"{EPISODES.help} (100)")
@click.option("--at", type=Declared(AT), metavar="N", help=f"{AT.help}, or the newest before it")
@click.option("--json", is_flag=True, help="one JSON object")
@runs_dir_option
def evaluate(reference: str, episodes: int | None, at: int | None, json: bool, runs_dir: Path) -> int:
    """Play episodes with the greedy policy of a checkpoint of RUN, its normaliser frozen."""
    folder = find_run(runs_dir, reference)
    if at is not None:
        _say_which(folder, at)
    from metarl_tui.worker.evaluate import evaluate_checkpoint

    result = evaluate_checkpoint(folder, episodes or 100, at)
    if json:
        sys.stdout.write(orjson.dumps(_in_json(result), option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0
    width = max(map(len, result))
    for name, value in result.items():
        say(f"{name:<{width}}  {short_number(value) if isinstance(value, float) else value}")
    return 0


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


def _in_json(result: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: it is written as the journal writes it."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in result.items()
    }
