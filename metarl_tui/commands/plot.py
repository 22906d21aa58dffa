"""``plot``: charts of a run's metrics, on a terminal or as plain text in a pipe."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import click

from metarl_tui.commands.common import CommandError, colour_wanted, run_argument, runs_dir_option
from metarl_tui.runs.find import find_run
from metarl_tui.runs.folder import RunFolder
from metarl_tui.tape import Tape
from metarl_tui.tape_reading import read_tape
from trainers.hyperparameters import TRAINERS
from trainers.metrics import metric

_MOST_BY_DEFAULT = 4


def chosen_keys(tape: Tape, folder: RunFolder, asked: tuple[str, ...]) -> list[str]:
    """The keys to draw. A metric may be named by the last part of its key, or by its title.

    Raises :class:`CommandError` for one that this run does not have.
    """
    if not asked:
        entry = TRAINERS.get(folder.config.trainer)
        usual = [key for key in (entry.charts if entry else ()) if key in tape.keys]
        return (usual or tape.keys)[:_MOST_BY_DEFAULT]
    by_name: dict[str, str] = {}
    for key in tape.keys:
        by_name |= dict.fromkeys((metric(key).title, key.rpartition("/")[2], key), key)
    keys = []
    for word in asked:
        if word not in by_name:
            near = difflib.get_close_matches(word, by_name, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(tape.keys)}"
            raise CommandError(f"{word}: run {folder.short_id} has no such metric; {hint}")
        keys.append(by_name[word])
    return keys


@click.command()
@run_argument
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@runs_dir_option
def plot(reference: str, metrics: tuple[str, ...], runs_dir: Path) -> None:
    """Draw METRICs of RUN (by default its main ones), each marked where something was changed.

    A metric is named by its key (train/clip_fraction), the key's last part, or its title. In a pipe the
    charts are plain text.
    """
    from metarl_tui.plots import summary_charts

    folder = find_run(runs_dir, reference)
    tape = read_tape(folder)
    if not tape.keys:
        raise CommandError(f"run {folder.short_id} has measured nothing yet")
    keys = chosen_keys(tape, folder, metrics)
    columns, rows = shutil.get_terminal_size((100, 30))
    height = max(rows - 2, 10) if len(keys) == 1 else None
    click.echo(summary_charts(tape, keys, columns, height=height, colour=colour_wanted()))
