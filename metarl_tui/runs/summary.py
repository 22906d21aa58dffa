"""A run in one small file, rebuilt by the worker, so that a list of runs needs no journal."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from metarl_tui.runs.files import read_bounded
from metarl_tui.runs.folder import RunFolder, write_atomically
from metarl_tui.runs.records import is_count, number, tidy
from metarl_tui.text import clean

MOST_POINTS = 60

_LARGEST = 1 << 16
_LONGEST_TEXT = 2_000


@dataclass
class Summary:
    """The newest state and values; ``done`` of ``total`` in ``unit``.

    ``best`` and ``latest`` are values of the metric ``objective``. ``sparkline`` has at most ``MOST_POINTS``
    values, ``updated`` is unix time.
    """

    state: str
    why: str = ""
    iteration: int = 0
    total: int = 0
    done: int = 0
    unit: str = ""
    best: float | None = None
    objective: str = ""
    latest: float | None = None
    sparkline: list[float] = field(default_factory=list)
    updated: float = 0.0


def write(folder: RunFolder, summary: Summary) -> None:
    """Replace the summary. Raises :class:`OSError`."""
    fields = asdict(summary)
    fields["sparkline"] = fields["sparkline"][-MOST_POINTS:]
    write_atomically(folder.summary, orjson.dumps(tidy(fields)), durable=False)


def read(folder: RunFolder) -> Summary | None:
    """The summary, or ``None`` where there is none that can be read. Never raises."""
    try:
        found = orjson.loads(read_bounded(folder.summary, _LARGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("state"), str):
        return None
    points = found.get("sparkline")
    return Summary(
        state=_text(found, "state"),
        why=_text(found, "why"),
        iteration=_whole(found, "iteration"),
        total=_whole(found, "total"),
        done=_whole(found, "done"),
        unit=_text(found, "unit"),
        best=_optional(found, "best"),
        objective=_text(found, "objective"),
        latest=_optional(found, "latest"),
        sparkline=[number(point) for point in points[-MOST_POINTS:]] if isinstance(points, list) else [],
        updated=_optional(found, "updated") or 0.0,
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return clean(value, _LONGEST_TEXT) if isinstance(value, str) else ""


def _whole(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) and is_count(value) else 0


def _optional(found: dict[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is None or isinstance(value, bool):
        return None
    as_float = number(value)
    return as_float if math.isfinite(as_float) or isinstance(value, str) else None
