"""``list``: the runs, newest first."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson

from metarl_tui.commands.common import command_line, hint, runs_dir_option, say
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.liveness import Observer, Standing
from metarl_tui.runs.summary import read as read_summary
from metarl_tui.text import clean, short_number

HEADINGS = ("run", "state", "trainer", "on", "iteration", "best", "age", "name")
_RIGHT = {"iteration", "best", "age"}
_WIDEST = 40


def row_of(folder: RunFolder) -> dict[str, Any]:
    """One run as JSON values; a run that can't be read has the state ``damaged`` and an ``error``."""
    row: dict[str, Any] = {"id": folder.id, "path": str(folder.path.resolve())}
    try:
        config = folder.config
    except RunError as error:
        return {**row, "state": "damaged", "error": str(error)}
    summary = read_summary(folder)
    standing = _standing(folder)
    best = summary.best if summary else None
    return {
        **row,
        "state": standing.state,
        "why": standing.why,
        "trainer": config.trainer,
        "subject": config.subject,
        "iteration": standing.iteration or (summary.iteration if summary else 0),
        "done": summary.done if summary else 0,
        "total": summary.total if summary else 0,
        "unit": summary.unit if summary else "",
        "objective": summary.objective if summary else "",
        "best": best if best is not None and math.isfinite(best) else None,
        "created": config.created,
        "name": config.name,
        "parent": config.parent,
    }


def _standing(folder: RunFolder) -> Standing:
    # A list must not wait three seconds for every run that came from another host.
    return Observer(folder).observe()


def age(created: float) -> str:
    """``5 s``, ``12 min``, ``3 h`` or ``9 d`` since ``created`` (unix time)."""
    seconds = max(time.time() - created, 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _cells(row: dict[str, Any]) -> list[str]:
    if row["state"] == "damaged":
        return [row["id"].rpartition("-")[2], "damaged", "", "", "", "", "", row["error"]]
    best = "" if row["best"] is None else short_number(row["best"])
    cells = [
        row["id"].rpartition("-")[2], row["state"], row["trainer"], row["subject"],
        str(row["iteration"]), best, age(row["created"]),
    ]  # fmt: skip
    return [*(clean(cell, _WIDEST) for cell in cells), row["name"]]


def table(rows: list[list[str]]) -> list[str]:
    """``rows`` under their headings, in columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, cells, widths, strict=True)
        ).rstrip()
        for cells in (list(HEADINGS), *rows)
    ]


@click.command("list")
@click.option("--json", is_flag=True, help="one JSON array")
@runs_dir_option
def list_command(runs_dir: Path, json: bool) -> None:
    """List the runs, newest first, each by the last part of its id.

    "best" is the best value of what the trainer aims at (PPO: the greedy policy's mean return, MAML: the loss
    on held-out tasks).
    """
    rows = [row_of(folder) for folder in list_runs(runs_dir)]
    if json:
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    if not rows:
        hint(f"no runs in {runs_dir}; {command_line('train', 'ppo')} starts one")
        return
    for line in table([_cells(row) for row in rows]):
        say(line)
