"""Strings from outside: every one passes :func:`clean` before it is stored and before it is shown.

Run names, metric names, environment ids, error texts and logs can hold escape sequences, which a
terminal would obey. What is left after cleaning is printable on one line.
"""

from __future__ import annotations

import re

_NAMES = {"\n": " ", "\t": " ", "\r": " "}
_CONTROL = re.compile(
    "\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # OSC, with what it carries
    "|\x1b\\[[0-?]*[ -/]*[@-~]?"  # CSI
    "|\x1b[ -/]*[0-~]?"  # other escapes
    "|[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # unseen
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # unseen, though they count as letters
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # layout of scripts and scores
    "\ufe00-\ufe0f\U000e0000-\U000e007f\U000e0100-\U000e01ef"  # variation selectors, tags
    "\ud800-\udfff]"  # lone surrogates
)


def clean(text: object, limit: int = 500) -> str:
    """``text`` without control, escape and bidi characters, on one line, at most ``limit`` characters."""
    raw = str(text)[: limit * 4]
    if raw.isascii() and raw.isprintable():  # as nearly all text is, and there is much of it
        spaced = raw
    else:
        spaced = _CONTROL.sub(lambda found: _NAMES.get(found[0], ""), raw)
    return spaced if len(spaced) <= limit else spaced[: limit - 1] + "…"


def escaped(json: str) -> str:
    """The JSON text ``json`` with all that :func:`clean` would take out of its strings as ``\\u`` escapes."""
    from json import dumps  # only commands that print JSON need it

    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else dumps(found[0])[1:-1], json)


def clean_lines(text: str, limit: int = 2_000) -> list[str]:
    """The lines of ``text``, each cleaned."""
    return [clean(line, limit) for line in text.splitlines()]


def duration(seconds: float) -> str:
    """``0:54``, ``12:05``, ``3:07:10`` or ``2d 04:00``."""
    whole = int(max(seconds, 0))
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_number(number: float) -> str:
    """A number in about five columns: ``0.0042``, ``-0.003``, ``487``, ``24k``, ``2.5e-4``, ``8e37``."""
    if number != number or number in (float("inf"), float("-inf")):
        return str(number)
    size = abs(number)
    # The limits are where three digits round up to the next unit.
    for limit, divisor, suffix in ((999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if limit <= size < 999.5e9:
            return f"{number / divisor:.3g}{suffix}"
    if 1000 <= size < 1e4:
        return f"{number:.0f}"
    if 0.001 <= size < 1000 or size == 0:
        return f"{number:.3g}" if size >= 0.01 or size == 0 else f"{number:.2g}"
    mantissa, _, exponent = f"{number:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
