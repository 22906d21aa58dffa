"""The first line: what runs, how it is, how far it is, how fast. Parts drop out as room gets short."""

from __future__ import annotations

from metarl_tui.app.colours import ACCENT, ATTENTION, BRIGHT, BROKEN, DIM, GREY, HAIRLINE, TEXT
from metarl_tui.app.moment import Moment
from metarl_tui.app.widgets.rows import Row, Rows, fit, say, space, width_of
from metarl_tui.text import clean, duration, short_number

_SHORTEST_BAR, _LONGEST_BAR = 8, 41
_LONGEST_WHY = 120
_AMISS = (ATTENTION, BROKEN)
_SEED, _NAME, _BAR, _LEFT, _SPEED, _PRODUCT, _SUBJECT, _WHY = range(1, 9)
"""Parts in the order in which they drop out."""


class Header(Rows):
    """Shows a :class:`Moment` in as many parts as there is room for."""

    DEFAULT_CSS = """
    Header { height: 1; width: 1fr; }
    """

    def __init__(self, moment: Moment, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.moment = moment

    def show(self, moment: Moment) -> None:
        """Show another moment."""
        self.moment = moment
        self.redraw()

    def rows(self, width: int, height: int) -> list[Row]:
        return [header_row(self.moment, width)]


def header_row(moment: Moment, width: int) -> Row:
    """The header in ``width`` columns."""
    # Why something is amiss is worth more than what drops out; other words are whole where they fit.
    tried = [(dropped, True) for dropped in range(_SUBJECT)] if moment.colour in _AMISS else []
    tried += [(dropped, whole) for dropped in range(_WHY + 1) for whole in (True, False)]
    for dropped, whole in tried:
        left, middle, right = _parts(moment, dropped, whole)
        bar = moment.share is not None and dropped < _BAR
        needed = width_of(left) + width_of(middle) + width_of(right) + 3 * bool(left) + 3 * bool(right)
        if needed + (_SHORTEST_BAR + 3) * bar <= width:
            return _laid_out(left, middle, right, width, moment.share if bar else None)
    return [say(fit(f"{moment.state} {moment.iteration}", width), moment.colour)]


def _parts(moment: Moment, dropped: int, whole: bool) -> tuple[Row, Row, Row]:
    """What stands left, in the middle and right; name and reason ``whole``, or cut to a usual length."""
    left: Row = [say("metarl-tui  ", ACCENT)] if dropped < _PRODUCT else []
    if dropped < _SUBJECT:
        left += [
            say(f"{moment.trainer} ", BRIGHT),
            say(fit(moment.subject, min(len(moment.subject), 40)), TEXT),
        ]
    if moment.title and dropped < _NAME:
        left += [say("  "), say(fit(moment.title, min(len(moment.title), 60 if whole else 30)), GREY)]
    if moment.seed is not None and dropped < _SEED:
        left += [say(f"  seed {moment.seed}", DIM)]
    middle: Row = [say(f"{moment.sign} ", moment.colour), say(moment.state, moment.colour)]
    if moment.why:
        longest = _LONGEST_WHY if whole else 60 if dropped < _BAR else 30
        longest *= dropped < _SUBJECT
        why = clean(moment.why)
        middle += [say(f": {fit(why, min(len(why), longest))}", moment.colour)] if longest else []
    of = f" of {moment.total}" if moment.total and not (moment.why and dropped >= _LEFT) else ""
    middle += [
        say("   "),
        say(f"iteration {moment.iteration}{of}" if dropped < _WHY else str(moment.iteration), TEXT),
    ]
    right: Row = []
    if moment.reading is not None:
        return left, middle, [say(f"reading {moment.reading:.0%}", GREY)]
    if moment.speed is not None and dropped < _SPEED:
        right += [say(f"{short_number(moment.speed)} {moment.unit}/s", TEXT)]
    if moment.left is not None and dropped < _LEFT:
        right += [say(f"  {duration(moment.left)} left", DIM)]
    return left, middle, right


def _laid_out(left: Row, middle: Row, right: Row, width: int, share: float | None) -> Row:
    """With a bar the middle stands before it as in the drawing; without one it is in the middle."""
    room = width - width_of(left) - width_of(middle) - width_of(right)
    if share is None:
        before = max(3 * bool(left), room // 2) if right or not left else room
        return [*left, space(before), *middle, space(room - before), *right]
    bar = min(max(_SHORTEST_BAR, room - 24), _LONGEST_BAR, room - 9)
    bar = max(bar, room - 9 if room - 9 < _SHORTEST_BAR else bar)
    done = round(bar * min(max(share, 0.0), 1.0))
    drawn = [say("━" * done, ACCENT), say("━" * (bar - done), HAIRLINE)]
    before = room - bar - 3 - 3 * bool(right)
    return [*left, space(before), *middle, space(3), *drawn, space(3 * bool(right)), *right]
