"""``adapt``: teach what a run of maml has learned a new task, from a few labelled rows."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from metarl_tui.commands.evaluations import TRANSDUCTIVE, counted, rates_in_words
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.text import clean, short_number
from trainers.declarations import Declaration, declarations
from trainers.hyperparameters import MAMLHyperparameters

if TYPE_CHECKING:
    from trainers.few_shot import AdaptedModel, Learner

STEPS = Declaration("steps", "int", None, "steps of adaptation", minimum=0, maximum=1000)
LARGEST = 3.4e38
"""What a 32-bit number holds."""
INNER_LR = declarations(MAMLHyperparameters)["inner_lr"]


@dataclass(frozen=True)
class Row:
    """A row of a file. ``target`` is empty where it is not known."""

    path: Path
    line: int
    inputs: tuple[float, ...]
    target: tuple[float, ...]


@click.command()
@run_argument
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.csv",
    help="labelled rows, the label or value last; what has none is predicted",
)
@click.option(
    "--predict",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="more rows to predict, with or without labels",
)
@click.option("--steps", type=Declared(STEPS), help=f"{STEPS.help}, if not the run's")
@click.option("--inner-lr", type=Declared(INNER_LR), help="their size, if not the run's")
@click.option("--json", is_flag=True, help="one JSON object")
@runs_dir_option
def adapt(
    reference: str,
    data: Path,
    predict: Path | None,
    steps: int | None,
    inner_lr: float | None,
    json: bool,
    runs_dir: Path,
) -> int:
    """Adapt what RUN, a run of maml, has learned to the labelled rows of a CSV file.

    Prints the loss on them step by step, and what the adapted model predicts: for the rows without a label
    and those of --predict, or else for the labelled rows themselves. A line of headings is skipped.
    """
    folder = find_run(runs_dir, reference)
    if folder.config.trainer != "maml":
        raise RunError(f"run {folder.short_id} is one of {folder.config.trainer}: adapt needs a run of maml")
    tables = [(path, read_cells(path)) for path in (data, predict) if path is not None]
    from metarl_tui.worker.evaluate import learner_of

    learner = learner_of(folder)
    rows = [_row(data, line, cells, learner) for line, cells in tables[0][1]]
    known = [row for row in rows if row.target]
    if not known:
        raise CommandError(f"{data}: has no labelled row; adapting needs at least one")
    queries = [row for row in rows if not row.target]
    for path, table in tables[1:]:
        queries += [_row(path, line, cells, learner, label_needed=False) for line, cells in table]
    model = _adapted(learner, known, steps, inner_lr)
    result = _result(folder, model, len(known), queries or known, inner_lr)
    if json:
        sys.stdout.write(json_text(result) + "\n")
        return 0
    for line in _lines(result):
        say(line)
    return 0


def read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of a CSV file's rows, without empty lines and a first row of headings.

    Raises :class:`CommandError`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path}: not a CSV file ({error})") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if rows and all(_number(cell) is None for cell in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise CommandError(f"{path}: has no rows of numbers")
    return rows


def _number(cell: str) -> float | None:
    # Python reads 1_000 as a number; in a table it is a slip.
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _row(path: Path, line: int, cells: list[str], learner: Learner, *, label_needed: bool = True) -> Row:
    """``cells`` as a row of the task that was learned; raises :class:`CommandError` where they are none."""
    inputs = math.prod(learner.shape)
    targets = learner.outputs if learner.classes is None else 1
    where = f"{path}, line {line}"
    if len(cells) != inputs + targets and (label_needed or len(cells) != inputs):
        what = "value" if learner.classes is None else "label"
        raise CommandError(
            f"{where}: {counted(len(cells), 'column')}: must be {inputs + targets}, "
            f"{counted(inputs, 'input')} and then {counted(targets, what)}, which may be empty"
        )
    if not any(cells[inputs:]):
        cells = cells[:inputs]
    numbers = []
    for column, cell in enumerate(cells, 1):
        number = _number(cell)
        if number is None or not math.isfinite(number):
            raise CommandError(f"{where}, column {column}: {clean(cell, 40) or 'empty'}: must be a number")
        if abs(number) > LARGEST:
            raise CommandError(f"{where}, column {column}: {clean(cell, 40)}: must be within ±{LARGEST:.3g}")
        numbers.append(number)
    row = Row(path, line, tuple(numbers[:inputs]), tuple(numbers[inputs:]))
    if learner.classes is not None and row.target and row.target[0] not in range(learner.classes):
        raise CommandError(
            f"{where}: label {cells[-1]}: must be a whole number from 0 to {learner.classes - 1}, or empty"
        )
    return row


def _adapted(learner: Learner, rows: list[Row], steps: int | None, inner_lr: float | None) -> AdaptedModel:
    """Raises :class:`CommandError` where the adaptation diverges."""
    if learner.classes is None:
        targets: list[Any] = [row.target for row in rows]
    else:
        targets = [int(row.target[0]) for row in rows]
    model = learner.adapt([row.inputs for row in rows], targets, steps=steps, inner_lr=inner_lr)
    lost = [step for step, loss in enumerate(model.losses) if not math.isfinite(loss)]
    if lost:
        raise CommandError(
            f"the adaptation diverged: loss {model.losses[lost[0]]} after {counted(lost[0], 'step')}; "
            "use a smaller --inner-lr, or inputs as large as those in training"
        )
    return model


def _result(
    folder: RunFolder, model: AdaptedModel, labelled: int, rows: list[Row], inner_lr: float | None
) -> dict[str, Any]:
    learner = model.learner
    inputs = [row.inputs for row in rows]
    if learner.classes is None:
        found = [{"predicted": values} for values in model(inputs).tolist()]
    else:
        found = [
            {"predicted": max(range(learner.classes), key=shares.__getitem__), "probabilities": shares}
            for shares in model.probabilities(inputs).tolist()
        ]
    labels: list[Any] = [row.target or None for row in rows]
    if learner.classes is not None:
        labels = [int(row.target[0]) if row.target else None for row in rows]
    steps = len(model.losses) - 1
    return {
        "run": folder.id,
        "iteration": learner.iteration,
        "task": learner.setup.task,
        "labelled": labelled,
        "steps": steps,
        **learner.loop(steps, inner_lr).rates_in_force(),
        "transductive": learner.network.transductive,
        "losses": list(model.losses),
        "predictions": [
            {"file": str(row.path), "line": row.line, "label": label, **one}
            for row, label, one in zip(rows, labels, found, strict=True)
        ],
    }


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{result['run'].rpartition('-')[2]} at iteration {result['iteration']}, {result['task']}: "
        f"adapted to {counted(result['labelled'], 'row')} in {counted(result['steps'], 'step')}, "
        f"{rates_in_words(result)}"
    ]
    if result["transductive"]:
        lines.append(TRANSDUCTIVE)
    losses = [[str(step), short_number(loss)] for step, loss in enumerate(result["losses"])]
    lines += ["", *columns([["steps", "loss"], *losses]), ""]
    several = len({one["file"] for one in result["predictions"]}) > 1
    table = [["file", "line", "label", "predicted", "probability"]]
    for one in result["predictions"]:
        probabilities = one.get("probabilities")
        share = f"{probabilities[one['predicted']]:.1%}" if probabilities else ""
        file, line = clean(one["file"], 40), str(one["line"])
        table.append([file, line, _value(one["label"]), _value(one["predicted"]), share])
    shown = [number for number, column in enumerate(zip(*table[1:], strict=True)) if any(column)]
    shown = [number for number in shown if several or table[0][number] != "file"]
    return lines + columns([[row[number] for number in shown] for row in table])


def _value(value: int | Sequence[float] | None) -> str:
    """A class, or values to four digits; nothing for ``None``."""
    match value:
        case None:
            return ""
        case int():
            return str(value)
    return ", ".join(f"{one:.4g}" for one in value)
