"""The table that is printed of several runs: median and interquartile mean (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metarl_tui.text import clean, short_number


def statistics_lines(title: str, found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A table with a row for each of the numbers that :func:`~metarl_tui.statistics.over_runs` found."""
    rows = [(title, "median", "interquartile mean", "runs")]
    for name, one in found.items():
        rows.append(
            (clean(name, 60), short_number(one["median"]), short_number(one["iqm"]), f"{one['runs']}")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                first.ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
            ]
        )
        for first, *rest in rows
    ]


def numbers_in(result: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value with its place in words: ``maml step 5 loss``.

    In a list of objects each is called by its ``name``, its ``step``, or its place.
    """
    match result:
        case bool() | str() | None:
            return
        case int() | float():
            yield name, float(result)
        case dict():
            for key, value in result.items():
                if key not in ("name", "step", "iteration"):
                    yield from numbers_in(value, f"{name} {key}".strip())
        case list() | tuple():
            for index, value in enumerate(result):
                label = str(index)
                if isinstance(value, dict):
                    label = f"step {value['step']}" if "step" in value else str(value.get("name", index))
                yield from numbers_in(value, f"{name} {label}".strip())
