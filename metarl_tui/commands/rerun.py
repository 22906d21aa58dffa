"""``rerun``: is a run what its seed and its journal say?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metarl_tui.commands.common import json_text, run_argument, runs_dir_option, say
from metarl_tui.commands.trust import settle_trust, trust_option
from metarl_tui.runs.find import find_run

if TYPE_CHECKING:
    from metarl_tui.worker.rerun import Comparison

SAME, DIFFERS = 0, 1


@click.command()
@run_argument
@click.option("--json", is_flag=True, help="one JSON object")
@trust_option
@runs_dir_option
def rerun(reference: str, json: bool, trust: bool, runs_dir: Path) -> int:
    """Train RUN again from its seed and the changes in its journal, and say whether it is the same.

    Every metric but those of time is compared, bit for bit, in every iteration that the journal has. Nothing
    is written into RUN. A fork is trained again from the checkpoint that it was given.

    Exit code 0 when all of it is the same, 1 when something differs.
    """
    folder = find_run(runs_dir, reference)
    settle_trust(folder, trust)
    with _progress() as progress:
        from metarl_tui.worker.rerun import rerun as train_again

        result = train_again(folder, progress)
    if json:
        sys.stdout.write(json_text(page_of(result)) + "\n")
    else:
        for line in lines_of(result):
            say(line)
    return SAME if result.difference is None else DIFFERS


def page_of(result: Comparison) -> dict[str, Any]:
    """What ``rerun --json`` prints."""
    return {
        **asdict(result),
        "metrics": sorted(result.metrics),
        "identical": result.difference is None,
        "missing": _missing(result),
    }


def lines_of(result: Comparison) -> list[str]:
    """The outcome for a person."""
    steered = f", {result.changes} change{'s' * (result.changes != 1)}" if result.changes else ""
    what = f"trained again from {result.start}{steered}: {len(result.metrics)} metrics"
    found = result.difference
    if found is None:
        lines = [f"identical: {what} in iterations {result.first} to {result.last}, bit for bit"]
    else:
        lines = [
            f"differs from iteration {found.iteration} on: {found}",
            f"{what}, the same in {result.compared - 1} iterations before it",
        ]
        lines += result.reasons or ["the journal names nothing that is other now: versions, processor, host"]
    if missing := _missing(result):
        lines.append(f"{missing} iterations have no row in the journal and were not compared")
    return lines


def _missing(result: Comparison) -> int:
    last = result.last if result.difference is None else result.difference.iteration
    return last - result.first + 1 - result.compared


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows on one line of a terminal how far it is; scripts don't get it."""
    if not sys.stderr.isatty():
        yield lambda iteration, goal: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text("reading the journal")) as status:
        yield lambda iteration, goal: status.update(Text(f"iteration {iteration} of {goal}"))
