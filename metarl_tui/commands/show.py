"""``show``: a run on a page."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from metarl_tui.commands.common import json_text, run_argument, runs_dir_option, say
from metarl_tui.commands.control import outcome
from metarl_tui.commands.list import age, cells, of_group, row_of, table, turns_missed
from metarl_tui.commands.statistics_table import statistics_lines
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.groups import find_runs
from metarl_tui.runs.journal import number
from metarl_tui.runs.liveness import observe
from metarl_tui.statistics import over_runs
from metarl_tui.tape_reading import read_tape
from metarl_tui.text import clean, short_number
from trainers.declarations import declarations, format_value
from trainers.hyperparameters import TRAINERS
from trainers.metrics import metric


def page_of(folder: RunFolder) -> dict[str, Any]:
    """What ``show --json`` prints: configuration, state, newest metrics, changes. NaN becomes ``"nan"``."""
    config, tape, standing = folder.config, read_tape(folder), observe(folder)
    in_force = tape.hyperparameters_at()
    latest = {key: float(tape.series(key)[1][-1]) for key in tape.keys}
    return {
        "id": folder.id,
        "path": str(folder.path.resolve()),
        "name": config.name,
        "trainer": config.trainer,
        "subject": config.subject,
        "state": standing.state,
        "why": standing.why,
        "iteration": max(standing.iteration, tape.last),
        "created": config.created,
        "parent": config.parent,
        "damaged_records": tape.damaged,
        "setup": config.setup,
        "hyperparameters": {name: in_force[name] for name in in_force if name not in config.options},
        "initial_hyperparameters": config.hyperparameters,
        "options": {name: in_force[name] for name in config.options},
        "planned_changes": config.changes,
        "changes": [
            {"iteration": at.iteration, "changes": {name: list(pair) for name, pair in at.changes.items()}}
            for at in tape.markers
        ],
        "metrics": {key: value if math.isfinite(value) else str(value) for key, value in latest.items()},
    }


@click.command()
@run_argument
@click.option("--json", is_flag=True, help="one JSON object")
@runs_dir_option
def show(reference: str, runs_dir: Path, json: bool) -> None:
    """Show what RUN trains, how it stands, its newest metrics and what was changed.

    Of a group: its runs, and median and interquartile mean of their newest metrics (Agarwal et al. 2021).
    """
    runs, is_group = find_runs(runs_dir, reference)
    page = group_page(runs) if is_group else page_of(runs[0])
    if json:
        sys.stdout.write(json_text(page) + "\n")
        return
    for line in _group_lines(page) if is_group else _lines(page):
        say(line)


def group_page(members: list[RunFolder]) -> dict[str, Any]:
    """What ``show GROUP --json`` prints: the runs as ``list`` has them, and statistics of their metrics."""
    pages = [page_of(folder) for folder in members]
    rows = [{key: number(value) for key, value in page["metrics"].items()} for page in pages]
    statistics = {
        key: {name: value if math.isfinite(value) else str(value) for name, value in found.items()}
        for key, found in over_runs(rows).items()
    }
    return {"group": members[0].config.group, "runs": [row_of(one) for one in members], "metrics": statistics}


def _group_lines(page: dict[str, Any]) -> list[str]:
    rows = page["runs"]
    title = f"{page['group']}  {len(rows)} runs of {rows[0].get('trainer')} on {rows[0].get('subject')}"
    lines = [
        title,
        "",
        *table([cells(row) for row in rows]),
        *[f"best {line}" for line in of_group(rows)],
        *turns_missed(rows),
        "",
    ]
    found = {
        key: {name: number(value) if name != "runs" else value for name, value in one.items()}
        for key, one in page["metrics"].items()
        if not key.startswith("time/")
    }
    return lines + statistics_lines("newest", found)


def _lines(page: dict[str, Any]) -> list[str]:
    title = f"{page['id']}{'  ' + page['name'] if page['name'] else ''}"
    why = f": {page['why']}" if page["why"] else ""
    lines = [
        title,
        f"{page['state']}{why}, iteration {page['iteration']}, {page['trainer']} on {page['subject']}, "
        f"begun {age(page['created'])} ago",
        page["path"],
    ]
    if parent := page["parent"]:
        lines.append(f"forked from {parent.get('run')} at iteration {parent.get('iteration')}")
    if page["damaged_records"]:
        lines.append(f"{page['damaged_records']} journal records could not be read and are left out")
    lines += _section("set-up", {name: format_value(value) for name, value in page["setup"].items()})
    lines += _section("hyperparameters", _hyperparameters(page))
    lines += _section("metrics", {key: _measured(key, value) for key, value in page["metrics"].items()})
    lines += ["", "changes"] if page["changes"] else []
    for change in page["changes"]:
        lines.append(f"  iteration {change['iteration']}: {outcome('set', change)}")
    return lines


def _hyperparameters(page: dict[str, Any]) -> dict[str, str]:
    entry = TRAINERS.get(page["trainer"])
    known = declarations(entry.hyperparameters) if entry else {}
    shown = {}
    for name, value in page["hyperparameters"].items():
        symbol = f" {known[name].symbol}" if name in known and known[name].symbol else ""
        first = page["initial_hyperparameters"].get(name)
        was = "" if value == first else f"  (at first {format_value(first)})"
        shown[f"{name}{symbol}"] = f"{format_value(value)}{was}"
    return shown


def _measured(key: str, value: float | str) -> str:
    number = short_number(value) if isinstance(value, float) else str(value)
    unit = metric(key).unit
    return f"{number} {unit}".rstrip()


def _section(title: str, values: dict[str, str]) -> list[str]:
    if not values:
        return []
    width = max(len(clean(name, 40)) for name in values)
    return ["", title, *(f"  {clean(name, 40):<{width}}  {value}" for name, value in values.items())]
