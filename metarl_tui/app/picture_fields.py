"""Checks of what a picture is said to consist of: each raises :class:`ValueError` for anything else."""

from __future__ import annotations

from typing import Any

LARGEST = 1e12
MOST_POINTS = 256
_HEX = frozenset("0123456789abcdef")
_MOST_DIGITS = 4096


def digits(text: object) -> list[int]:
    """Hexadecimal digits as numbers."""
    require(isinstance(text, str) and len(text) <= _MOST_DIGITS and _HEX.issuperset(text))
    return [int(digit, 16) for digit in str(text)]


def require(holds: bool) -> None:
    """Refuse what does not hold."""
    if not holds:
        raise ValueError


def items(values: object, most: int) -> list[Any]:
    """A list of at most so many."""
    if not isinstance(values, list) or len(values) > most:
        raise ValueError
    return values


def numbers(values: object, count: int | None) -> list[float]:
    """Numbers as the journal writes them, ``count`` of them if it is given."""
    found = [number(value) for value in items(values, MOST_POINTS)]
    require(count is None or len(found) == count)
    return found


def number(value: object) -> float:
    """A number as the journal writes it: one that is not finite is a string."""
    if isinstance(value, str):
        require(value in ("nan", "inf", "-inf"))
    else:
        require(isinstance(value, int | float))
    return float(value)  # type: ignore[arg-type]


def finite(values: object, count: int | None) -> list[float]:
    """The same, but finite and not absurdly large."""
    found = numbers(values, count)
    require(all(abs(value) < LARGEST for value in found))
    return found


def whole(value: object, most: int) -> int:
    """A whole number from 0 to ``most``."""
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError
    return value
