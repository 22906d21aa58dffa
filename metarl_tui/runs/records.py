"""Journal records as lines: written with a checksum, read without trust.

A line is one JSON object. Its last field, ``crc``, is the CRC-32 of the bytes before it, so that a flipped
bit is found even where the line is still JSON. A record that is handed out has the fields that its kind
promises, with their types, and text without control characters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, KeysView, Sequence
from typing import Any, TypeAlias

import orjson

from metarl_tui.text import clean

Record: TypeAlias = dict[str, Any]

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is damage, and is never written."""

_LONGEST_TEXT = 8_000
_LONGEST_KEY = 120
_DEEPEST = 8
_LATEST_TIME = 253_402_300_799.0  # the end of the year 9999: later ones have no date
_MARK, _SUM_LENGTH, _SEAL_LENGTH = b',"crc":"', 10, 18

_NUMBERS: dict[Any, float] = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_PLAIN = frozenset([int, float])
_known_keys: set[str] = set()
_MOST_KNOWN_KEYS = 10_000


def number(value: Any) -> float:
    """A metric's value as a float: the strings ``"nan" "inf" "-inf"`` are what they say, others are NaN."""
    if isinstance(value, int | float):
        return float(value)
    return _NUMBERS.get(value, math.nan) if isinstance(value, str) else math.nan


def numbers(values: Sequence[Any]) -> Sequence[float]:
    """Metrics' ``values`` as numbers. Raises :class:`ValueError` where one neither is nor stands for one."""
    if _PLAIN.issuperset(map(type, values)):
        return values
    if not all(type(value) in _PLAIN or (type(value) is str and value in _NUMBERS) for value in values):
        raise ValueError("not a metric's value")
    return [number(value) for value in values]


def seal(line: bytes) -> bytes:
    """The JSON object ``line`` with its checksum as the last field."""
    body = line[:-1]
    return b'%b,"crc":"%08x"}' % (body, zlib.crc32(body))


def sealed(line: bytes) -> bool | None:
    """Whether the checksum of ``line`` is right; ``None`` where it has none."""
    if line[-_SEAL_LENGTH:-_SUM_LENGTH] != _MARK or len(line) == _SEAL_LENGTH:
        return None
    return line[-_SUM_LENGTH:-2] == b"%08x" % zlib.crc32(line[:-_SEAL_LENGTH])


def tidy(value: Any, depth: int = _DEEPEST) -> Any:
    """``value`` as JSON holds it: text cleaned, non-finite numbers as strings, NumPy scalars as numbers.

    Raises :class:`ValueError` for what is nested too deeply and :class:`TypeError` for what JSON lacks.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return clean(value, _LONGEST_TEXT)
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {clean(key, _LONGEST_KEY): tidy(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(item, depth - 1) for item in value]
    if hasattr(value, "item"):
        return tidy(value.item(), depth - 1)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def to_line(record: Record) -> bytes:
    """The sealed line of ``record``, newline included.

    Raises :class:`ValueError` for a record that no reader would take, so that none is ever written.
    """
    line = seal(orjson.dumps(record))
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a record of {len(line)} bytes; at most {LONGEST_LINE} are allowed")
    return line + b"\n"


def from_line(line: bytes, *, must_be_sealed: bool = False) -> Record | None:
    """The record that ``line`` holds, or ``None`` where it is damaged. Never raises."""
    if len(line) > LONGEST_LINE:
        return None
    intact = sealed(line)
    if intact is False or (must_be_sealed and intact is None):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if type(record) is not dict:
        return None
    record.pop("crc", None)
    return checked(record)


def from_lines(lines: Sequence[bytes]) -> list[Record] | None:
    """The records that ``lines`` hold, or ``None`` where one of them has no checksum or is damaged.

    What :func:`from_line` looks at line by line is looked at for all of them together, in less than half
    of the time.
    """
    try:
        records = [unsealed(line) for line in lines]
        if not heads_fit(*([record[name] for record in records] for name in ("seq", "iteration", "time"))):
            return None
        good = _checked_rows(records)
    except (ValueError, KeyError, TypeError):
        return None
    return good


def unsealed(line: bytes) -> Record:
    """What a sealed ``line`` holds, unchecked. Raises some error where it is not one."""
    end = b',"crc":"%08x"}' % zlib.crc32(line[:-_SEAL_LENGTH])
    if line[-_SEAL_LENGTH:] != end or len(line) > LONGEST_LINE:
        raise ValueError("not sealed")
    record: Record = orjson.loads(line)
    del record["crc"]
    return record


def heads_fit(seqs: Sequence[Any], iterations: Sequence[Any], times: Sequence[Any]) -> bool:
    """Whether these are numbers, iterations and times of records, with times as a writer has them: floats."""
    for counts in (seqs, iterations):
        if set(map(type, counts)) != {int} or not (is_count(min(counts)) and is_count(max(counts))):
            return False
    if set(map(type, times)) != {float}:
        return False
    return is_moment(min(times)) and is_moment(max(times))


def _checked_rows(records: list[Record]) -> list[Record] | None:
    """``records``, whose heads fit, as :func:`checked` gives them; ``None`` where one is damaged."""
    good: list[Record] = []
    known: list[str] = []
    for record in records:
        if record["kind"] == "metrics" and len(record) == 5:
            values = record["values"]
            if list(values) != known or not _PLAIN.issuperset(map(type, values.values())):
                known = list(values)
                record["values"] = values = _metric_values(values)
            if values is None:
                return None
            good.append(record)
        elif (event := _checked_event(record)) is not None:
            good.append(event)
        else:
            return None
    return good


def checked(record: Record) -> Record | None:
    """``record`` with its text cleaned, or ``None`` where a field that its kind promises is not there."""
    try:
        moment, kind = record["time"], record["kind"]
        if not is_count(record["seq"]) or not is_count(record["iteration"]) or not is_moment(moment):
            return None
    except KeyError:
        return None
    if type(moment) is int:
        record["time"] = float(moment)
    if kind == "metrics" and len(record) == 5:
        values = _metric_values(record.get("values"))
        if values is None:
            return None
        record["values"] = values
        return record
    return _checked_event(record)


def _checked_event(record: Record) -> Record | None:
    try:
        record = tidy(record)
    except (ValueError, TypeError):
        return None
    kind = record.get("kind")
    if not isinstance(kind, str) or not kind:
        return None
    if kind == "metrics":
        record["values"] = values = _metric_values(record.get("values"))
        return None if values is None else record
    for name, (default, fits) in _FIELDS.get(kind, {}).items():
        if name not in record:
            record[name] = default.copy() if isinstance(default, dict) else default
        if not fits(record[name]):
            return None
    return record


def _metric_values(values: Any) -> dict[str, float | str] | None:
    if type(values) is not dict:
        return None
    if not values.keys() <= _known_keys:
        values = {_clean_key(key): value for key, value in values.items()}
    allowed: dict[str, float | str] = values
    if not _PLAIN.issuperset(map(type, values.values())):
        for value in values.values():
            if type(value) not in (int, float) and (type(value) is not str or value not in _NUMBERS):
                return None
    return allowed


def are_clean(keys: KeysView[str]) -> bool:
    """Whether a record may hold metrics of these names as they are."""
    return keys <= _known_keys or all(_clean_key(key) == key for key in keys)


def _clean_key(key: str) -> str:
    cleaned = clean(key, _LONGEST_KEY)
    if cleaned == key and len(_known_keys) < _MOST_KNOWN_KEYS:
        _known_keys.add(key)
    return cleaned


def metric_values(values: dict[str, Any]) -> dict[str, float | str]:
    """Measured ``values`` as a record holds them. Raises :class:`TypeError` or :class:`ValueError`."""
    plain = values.keys() <= _known_keys and set(map(type, values.values())) == {float}
    if plain and math.isfinite(sum(values.values())):  # then each of them is
        return dict(values)
    return {_clean_key(key): _metric_value(value) for key, value in values.items()}


def _metric_value(value: Any) -> float | str:
    if type(value) is int and -(1 << 63) <= value < 1 << 64:
        return value
    if type(value) is str and value in _NUMBERS:
        return value
    as_float = float(value)
    return as_float if math.isfinite(as_float) else str(as_float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_any_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_optional_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def is_count(value: Any) -> bool:
    """A whole number from 0 that a float holds exactly."""
    return type(value) is int and 0 <= value < 1 << 53


def is_moment(value: Any) -> bool:
    """A unix time that has a date."""
    return type(value) in (int, float) and 0 <= value <= _LATEST_TIME


def _is_changes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in value.values()
    )


def _is_result(value: Any) -> bool:
    return value in ("applied", "rejected")


_FIELDS: dict[str, dict[str, tuple[Any, Callable[[Any], bool]]]] = {
    "control": {
        "request": (None, _is_optional_text),
        "action": ("set", _is_text),
        "by": ("", _is_any_text),
        "result": (None, _is_result),
        "changes": ({}, _is_changes),
        "why": ("", _is_any_text),
    },
    "checkpoint": {"name": (None, _is_text), "reason": ("", _is_any_text), "bytes": (0, is_count)},
    "status": {"state": (None, _is_text), "why": ("", _is_any_text)},
    "resumed": {"from": (None, is_count)},
    "note": {"text": (None, _is_any_text)},
}
