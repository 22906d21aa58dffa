"""``screenshot``: the run screen as a picture, for a README, a paper, a chat."""

from __future__ import annotations

from pathlib import Path

import click

from metarl_tui.commands.common import CommandError, Declared, run_argument, runs_dir_option, say
from metarl_tui.runs.files import reason, shown
from metarl_tui.runs.find import find_run
from trainers.declarations import Declaration

AT = Declaration("at", "int", None, "iteration at which the playhead stands", minimum=0)
WIDTH = Declaration("width", "int", 150, "columns", minimum=20, maximum=1000)
HEIGHT = Declaration("height", "int", 44, "rows", minimum=6, maximum=1000)


@click.command()
@run_argument
@click.argument("file", metavar="FILE.svg", type=click.Path(path_type=Path))
@click.option("--width", type=Declared(WIDTH), default=150, metavar="N", help=f"{WIDTH.help} (150)")
@click.option("--height", type=Declared(HEIGHT), default=44, metavar="N", help=f"{HEIGHT.help} (44)")
@click.option("--at", type=Declared(AT), metavar="N", help=f"{AT.help}; by default the newest")
@click.option("--ascii", is_flag=True, help="draw in ASCII")
@runs_dir_option
def screenshot(
    reference: str, file: Path, width: int, height: int, at: int | None, ascii: bool, runs_dir: Path
) -> int:
    """Draw the screen of RUN into FILE.svg."""
    if file.suffix.lower() != ".svg":
        raise CommandError(f"{shown(file)}: must end in .svg, the one kind of picture that is drawn")
    folder = find_run(runs_dir, reference)
    from metarl_tui.app.screenshot import screenshot as draw

    picture = draw(folder, width=width, height=height, at=at, ascii=ascii)
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{shown(file)} can't be written: {reason(error)}") from error
    say(f"{shown(file)}: {width}×{height} cells, {len(picture) // 1024} KiB")
    return 0
