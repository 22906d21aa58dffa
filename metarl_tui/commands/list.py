"""``list``: the runs, newest first."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from metarl_tui.commands.common import command_line, hint, json_text, runs_dir_option, say
from metarl_tui.runs.find import list_runs
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.groups import find_group
from metarl_tui.runs.liveness import NO_TURN, Observer, Standing
from metarl_tui.runs.parents import name_and_parent
from metarl_tui.runs.summary import read as read_summary
from metarl_tui.statistics import over_runs
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
        "group": config.group,
        "seed": config.setup.get("seed"),
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


def cells(row: dict[str, Any]) -> list[str]:
    """A run's line of the table."""
    if row["state"] == "damaged":
        return [row["id"].rpartition("-")[2], "damaged", "", "", "", "", "", row["error"]]
    best = "" if row["best"] is None else short_number(row["best"])
    shown = [
        row["id"].rpartition("-")[2], row["state"], row["trainer"], row["subject"],
        str(row["iteration"]), best, age(row["created"]),
    ]  # fmt: skip
    return [*(clean(cell, _WIDEST) for cell in shown), name_and_parent(row["name"], row["parent"])]


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


def of_group(rows: list[dict[str, Any]]) -> list[str]:
    """What the runs of a group have reached together, as lines for a person."""
    values = [{"best": row["best"]} for row in rows if row.get("best") is not None]
    return [statistic(row["objective"], over_runs(values)["best"]) for row in rows[:1] if values]


def statistic(name: str, found: Mapping[str, float]) -> str:
    """``best of eval/return_mean: median 500, interquartile mean 499.8 of 5 runs``."""
    return (
        f"{name}: median {short_number(found['median'])}, interquartile mean {short_number(found['iqm'])} "
        f"of {found['runs']:.0f} runs"
    )


def turns_missed(rows: list[dict[str, Any]]) -> list[str]:
    """Of a group whose supervisor is gone: how to go on with the runs that never had their turn."""
    count = sum(row.get("why") == NO_TURN for row in rows)
    how = f"--name {shlex.quote(rows[0]['group'])} --resume auto" if count else ""
    missed = (
        f"{count} of {len(rows)} runs never had their turn; the command that began them goes on with {how}"
    )
    return [missed] if count else []


@click.command("list")
@click.argument("group", required=False)
@click.option("--json", is_flag=True, help="one JSON array")
@runs_dir_option
def list_command(group: str | None, runs_dir: Path, json: bool) -> None:
    """List the runs, newest first, each by the last part of its id; or those of GROUP, by seed.

    "best" is the best value of what the trainer aims at (PPO: the greedy policy's mean return, MAML: the loss
    on held-out tasks). Of a group's best values the median and the interquartile mean are printed, the mean
    without the lowest and the highest quarter (Agarwal et al. 2021).
    """
    runs = list_runs(runs_dir) if group is None else find_group(runs_dir, group)
    if group is not None and not runs:
        raise RunError(f"no group {clean(group, 80)} in {runs_dir}; {command_line('list')} names the runs")
    rows = [row_of(folder) for folder in runs]
    if json:
        sys.stdout.write(json_text(rows) + "\n")
        return
    if not rows:
        hint(f"no runs in {runs_dir}; {command_line('train', 'ppo')} starts one")
        return
    for line in table([cells(row) for row in rows]):
        say(line)
    if group is not None:
        for line in (*(f"best {line}" for line in of_group(rows)), *turns_missed(rows)):
            say(line)
