from __future__ import annotations

import math
import random
from typing import Any

import orjson
import pytest

from metarl_tui.runs import summary
from metarl_tui.runs.folder import RunFolder
from metarl_tui.runs.summary import Summary


def test_a_summary_comes_back(run: RunFolder) -> None:
    assert summary.read(run) is None
    written = Summary("running", "", 12, 100, 40, "steps", 487.5, "eval/return_mean", 480.0, [1.0, 2.0], 1.5)
    summary.write(run, written)
    assert summary.read(run) == written


def test_its_size_is_bounded_and_its_text_clean(run: RunFolder) -> None:
    points = [float(number) for number in range(1_000)]
    points[-1] = float("nan")
    summary.write(run, Summary("failed", "why\x1b[31m\nnot" + "x" * 100_000, sparkline=points))
    found = summary.read(run)
    assert found is not None
    assert found.why.startswith("why not")
    assert found.sparkline[:-1] == points[-60:-1]
    assert math.isnan(found.sparkline[-1])
    assert run.summary.stat().st_size < 10_000


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"{}", b'{"state": 1}', b"\xff", b"[" * 9000, b" " * 100_000]
)
def test_what_is_no_summary_is_none(run: RunFolder, content: bytes) -> None:
    run.summary.write_bytes(content)
    assert summary.read(run) is None


def test_wrong_fields_are_left_out(run: RunFolder) -> None:
    values: list[Any] = [None, True, -1, 1.5, 1e30, "x", [1], {"a": [2]}]
    random_source = random.Random(3)
    for _ in range(200):
        fields = {name: random_source.choice(values) for name in Summary.__dataclass_fields__}
        run.summary.write_bytes(orjson.dumps({**fields, "state": "running", "iteration": -4, "more": 1}))
        found = summary.read(run)
        assert found is not None
        assert (found.state, found.iteration) == ("running", 0)
        assert all(type(value) is int for value in (found.total, found.done))
        assert all(value is None or isinstance(value, float) for value in (found.best, found.latest))
        assert all(isinstance(point, float) for point in found.sparkline)
