"""How runs of each trainer are evaluated: the options there are, and the result for a person to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from metarl_tui.commands.common import columns
from metarl_tui.text import short_number
from trainers.declarations import Declaration

TRANSDUCTIVE = "transductive: batch norm takes its statistics from the rows that are predicted, all at once"
INKS, MARKS = ("cyan", "magenta", "yellow"), "abc"
NARROWEST_CHART, CHART_ROWS = 40, 14


@dataclass(frozen=True)
class Evaluation:
    """How runs of a trainer are evaluated: the options there are, and the result's lines for a person."""

    options: tuple[Declaration, ...]
    lines: Callable[[dict[str, Any]], list[str]]
    chart: Callable[[dict[str, Any], int, bool], str] | None = None
    """What is drawn below, of a result, in a width, in colour or not; empty where there is no room."""


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
        f"{counted(result['tasks'], 'held-out task')}, {ways}shots {result['shots']}, "
        f"query_shots {result['query_shots']}; mean ± 95 % interval over tasks"
    ]
    if result["transductive"]:
        lines.append(TRANSDUCTIVE)
    for method in result["methods"]:
        notes = "" if method.get("converged", True) else ", not converged: cap of steps reached"
        notes += ", transductive" if result["transductive"] else ""
        lines += ["", f"{method['name']}, {rates_in_words(method)}{notes}", *_by_step(method["by_step"])]
    return lines


def rates_in_words(used: Mapping[str, Any]) -> str:
    """``rate 0.01 for 1 step, then 0.003``, of what ``rates_in_force`` of the trainers' inner loop gives."""
    rate = "learned rates" if used["inner_lr"] is None else f"rate {short_number(used['inner_lr'])}"
    if "late_inner_lr" not in used:
        return rate
    late = short_number(used["late_inner_lr"])
    return f"{rate} for {counted(used['early_steps'], 'step')}, then {late}"


def counted(count: int, one: str, several: str = "") -> str:
    """``1 step``, ``2 steps``; ``several`` where an s does not make it."""
    return f"{count} {one if count == 1 else several or one + 's'}"


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


def _returns_by_step(result: dict[str, Any]) -> list[str]:
    """A table for each method, and what the run is ahead of the others."""
    trajectories = counted(result["trajectories_per_task"], "trajectory", "trajectories")
    lines = [
        f"{result['run'].rpartition('-')[2]} at iteration {result['iteration']}, {result['task']}: "
        f"{counted(result['tasks'], 'held-out task')}, {trajectories} of each before every step; "
        "mean return ± 95 % interval over tasks",
    ]
    for method in result["methods"]:
        headings = ["steps", "return", "median", "diverged", "by"]
        table = [
            [
                str(row["step"]),
                _interval(row["return"], row["return_ci95"]),
                short_number(row["return_median"]),
                str(row["diverged"]),
                row["update"] or "",
            ]
            for row in method["by_step"]
        ]
        note = f"; {method['fault']}" if "fault" in method else ""
        lines += ["", f"{method['name']}{note}", *columns([headings, *table])]
    others = result["differences"]
    own = result["methods"][0]["name"]
    lines += ["", f"{own} ahead of the others, difference paired over tasks ± 95 % interval"]
    headings = ["steps", *(other["name"] for other in others)]
    table = [
        [str(step), *(_interval(row["difference"], row["difference_ci95"], "+") for row in rows)]
        for step, rows in enumerate(zip(*(other["by_step"] for other in others), strict=True))
    ]
    return lines + columns([headings, *table])


def _interval(mean: float, half: float, sign: str = "") -> str:
    """``mean`` ± ``half``, with decimals for two digits of ``half``, or for one of what is below 0.1."""
    if not (math.isfinite(mean) and math.isfinite(half)):
        return f"{short_number(mean)} ± {short_number(half)}"
    magnitude = math.floor(math.log10(half)) if half else -1
    decimals = max(0, min(1 - magnitude, max(2, -magnitude)))
    return f"{mean:{sign or '-'}.{decimals}f} ± {half:.{decimals}f}"


def _chart_of_returns(result: dict[str, Any], width: int, colour: bool) -> str:
    from metarl_tui.plots import WIDEST_SINGLE, steps_chart

    if width < NARROWEST_CHART:
        return ""
    curves = [[row["return"] for row in method["by_step"]] for method in result["methods"]]
    inks = INKS[: len(curves)]
    marks = ["braille" if colour else MARKS[number] for number in range(len(curves))]
    drawn = steps_chart(curves, min(width, WIDEST_SINGLE), CHART_ROWS, inks, marks=marks, colour=colour)
    names = [
        click.style(method["name"], fg=ink) if colour else f"{mark} {method['name']}"
        for method, ink, mark in zip(result["methods"], inks, marks, strict=True)
    ]
    return f"\nreturn by step of adaptation: {', '.join(names)}\n{drawn}" if drawn else ""


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
    "maml-ppo": Evaluation(
        (
            Declaration("tasks", "int", 40, "held-out tasks to adapt to", minimum=1, maximum=1_000_000),
            Declaration("steps", "int", 3, "steps of adaptation", minimum=1, maximum=1000),
            Declaration(
                "baselines",
                "choice",
                "all",
                "plain PPO on all tasks and PPO from scratch beside it",
                choices=("all", "none"),
            ),
        ),
        _returns_by_step,
        _chart_of_returns,
    ),
}
