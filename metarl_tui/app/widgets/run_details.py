"""The chosen run of the home screen in a few lines."""

from __future__ import annotations

import time

from metarl_tui.app.catalogue import Entry
from metarl_tui.app.colours import ACCENT, BROKEN, DIM, GREY, TEXT
from metarl_tui.app.moment import STATE_COLOURS
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, title, wrapped
from metarl_tui.runs.folder import RunFolder
from metarl_tui.text import short_number
from trainers.metrics import metric


class RunDetails(Rows):
    """Id, state with its reason, values and the command that opens it."""

    DEFAULT_CSS = """
    RunDetails { width: 1fr; height: 6; padding: 1 0 0 0; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._run: RunFolder | None = None
        self._entry: Entry | None = None

    def show(self, run: RunFolder | None, entry: Entry | None) -> None:
        """Show this run; nothing while it has not been read."""
        self._run, self._entry = run, entry
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        run, entry = self._run, self._entry
        if run is None or entry is None:
            return []
        heading = title(entry.title, width, [say(run.id, DIM)] if width > 60 else None)
        if entry.problem:
            return [heading, *([say(line, BROKEN)] for line in wrapped(entry.problem, width, 3))]
        colour = STATE_COLOURS.get(entry.state, GREY)
        share = f"{short_number(entry.done)} of {short_number(entry.total)}" if entry.total else ""
        far = f"iteration {entry.iteration}"
        if entry.unit == "iterations":
            far = f"iteration {share}" if share else far
        elif share:
            far += f"   {share} {entry.unit}"
        state: Row = [say(entry.state, colour), say(f": {entry.why}" if entry.why else "", colour)]
        state += [say(f"   {far}", TEXT)]
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
        facts = [f"{entry.trainer} {entry.subject}", f"seed {entry.seed}" if entry.seed is not None else ""]
        facts += [f"started {began}", f"forked from {entry.parent}" if entry.parent else ""]
        values = []
        for name, value in (("best", entry.best), ("newest", entry.latest)):
            if value is not None:
                values.append(f"{name} {short_number(value)}")
        what = metric(entry.objective).title if entry.objective else ""
        return [
            heading,
            _fitted(state, width),
            [say(fit("   ".join(fact for fact in facts if fact), width).rstrip(), GREY)],
            [say(f"{what}  ", DIM), say("   ".join(values) or "not measured yet", TEXT)] if what else [],
            [say(fit(f"metarl-tui open {run.short_id}", width).rstrip(), ACCENT)] if height > 5 else [],
        ]


def _fitted(row: Row, width: int) -> Row:
    text = "".join(segment.text for segment in row)
    return row if len(text) <= width else [say(fit(text, width), GREY)]
