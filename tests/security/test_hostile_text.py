"""Text from a run is only text: no byte of it is obeyed by a terminal, no markup in it acts."""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_run import app_on, text, until
from received import Invoke, append, change, received, replace
from test_terminal import Terminal

from metarl_tui.runs.folder import RunFolder
from metarl_tui.text import clean, escaped

MARK = "zqz"
HOSTILE = (
    f"[@click=app.bell]{MARK}[/] \x1b]52;c;RVZJTA==\x07\x1b[66;666z\x1b[2J\x9b31m\x1bP1$r\x1b\\\x1bc"
    "\x9d0;t\x9c"
    "\u202e\u2066\u200f\ufeff\U000e0041\n\r\x08\x7f\x05[bold red on blue]y[/] \x1b[6n$(id)`id`"
)
LONG = HOSTILE + "W" * 900_000

_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])")
_POINTER = re.compile(rb"\x1b\]22;[a-z-]*\x07")
"""What Textual says of the mouse pointer's shape."""
_ABSENT = (b"\x1b]", b"\x1bP", b"\x1bc", b"\x1b[66;666z", b"\x1b[6n", b"\x07", b"\x08", b"\x7f", b"\x05")
_UNSEEN_AND_SEEN = ("ARABIC", "SYRIAC", "KAITHI")
"""Marks of these scripts are format characters by name, and have a shape."""


def assert_harmless(seen: bytes) -> None:
    """No control character but those by which the program itself draws."""
    seen = _POINTER.sub(b"", seen)
    for harm in _ABSENT:
        assert harm not in seen, seen[max(seen.index(harm) - 80, 0) :][:160]
    rest = _SEQUENCE.sub(b"", seen).decode("utf-8", "replace")
    assert {character for character in rest if clean(character) == "" or ord(character) < 32} <= {"\n", "\r"}


@pytest.fixture
def hostile(runs_dir: Path) -> RunFolder:
    """A run with hostile text in every place that holds text."""
    run, bad = received(runs_dir), HOSTILE
    change(
        run.path, name=bad, subject=bad, version=bad, working_folder=bad,
        parent={"run": bad, "iteration": 3}, options={bad: bad}, changes=[{"iteration": 2, bad: bad}],
        setup={"env": f"{bad}:x", "device": bad, "vector": bad, bad: bad},
        hyperparameters={"clip_epsilon": bad, bad: [bad, {bad: bad}]},
    )  # fmt: skip
    controls = [{"kind": "control", "request": bad, "by": bad, "action": action, "result": result, "why": bad,
                 "changes": {bad: [bad, bad], "clip_epsilon": [bad, bad]}}
                for action in ("set", bad) for result in ("applied", "rejected")]  # fmt: skip
    append(
        run.path,
        {"kind": "status", "state": "started", "versions": {bad: bad}, "device": bad, "host": bad},
        *({"kind": "metrics", "values": {bad: 1, f"{bad}/{bad}": row, "x" * 900_000: 2}} for row in range(3)),
        *controls,
        {"kind": "note", "text": LONG[:900_000]},
        {"kind": "checkpoint", "name": bad, "reason": bad, "bytes": 1},
        *({"kind": "picture", "picture": {"type": kind, "before": bad, "x": [bad], bad: bad}}
          for kind in ("regions", "curve", "glyphs", "cartpole", "navigation", bad)),
        {"kind": bad, bad: bad},
        {"kind": "status", "state": "failed", "why": bad},
    )  # fmt: skip
    summary = {"state": "failed", "why": bad, "unit": bad, "objective": bad, "sparkline": [1, 2]}
    worker = {"host": bad, "boot_id": bad, "pid": 1, "start_time": 1, "namespace": bad}
    for name, fields in (("summary.json", summary), ("worker.json", worker)):
        replace(run.path, name, orjson.dumps(fields))
    run.log.write_text(f"{bad}\nTraceback {LONG}\n", "utf-8", "replace")
    return run


@given(st.text())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_clean_has_nothing_that_a_terminal_obeys(raw: str) -> None:
    found = clean(raw)
    assert clean(found) == found
    assert len(found) <= 500
    assert all(character.isprintable() or unicodedata.category(character) in ("Co", "Cn", "Zs", "Cf")
               for character in found)  # fmt: skip
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in found)


def test_no_unseen_character_is_left() -> None:
    left = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and clean(f"a{character}") not in ("a", "a ")
    ]
    assert {unicodedata.name(character).split()[0] for character in left} == set(_UNSEEN_AND_SEEN)


def test_json_is_exact_and_harmless() -> None:
    json = orjson.dumps({HOSTILE: "ε"}, option=orjson.OPT_INDENT_2).decode()
    assert orjson.loads(escaped(json)) == orjson.loads(json)
    assert "ε" in escaped(json)
    assert_harmless(escaped(json).encode())


def commands(path: str) -> Iterator[list[str]]:
    yield from (["list"], ["list", "--json"], ["show", path], ["show", path, "--json"], ["plot", path])
    yield from (["log", path], ["plot", path, MARK], ["set", path, "gamma=0.5"], ["resume", path])
    yield from (["evaluate", path], ["open", path], ["show", HOSTILE], ["pause", path], ["adapt", path])


def test_no_printed_line_carries_it(hostile: RunFolder, invoke: Invoke) -> None:
    shown = b""
    for words in commands(str(hostile.path)):
        result = invoke(*(word for word in words))
        assert_harmless(result.stdout_bytes + result.stderr_bytes)
        shown += result.stdout_bytes
    assert MARK.encode() in shown


def test_hostile_folder_names_are_shown_harmless_and_listed(runs_dir: Path, invoke: Invoke) -> None:
    run = received(runs_dir)
    name = os.fsencode(str(runs_dir)) + b"/20261122-154210-\xff\x1b[31m\xc2\x9b\xe2\x80\xae-zqz"
    os.rename(run.path, name)  # noqa: PTH104 - no text, so no path
    for words in (["list"], ["list", "--json"], ["show", "zqz"], ["show", "zqz", "--json"], ["pause", "zqz"]):
        result = invoke(*words)
        assert_harmless(result.stdout_bytes + result.stderr_bytes)
        assert MARK in result.output


def test_a_picture_of_it_is_plain_xml(hostile: RunFolder, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("screenshot", str(hostile.path), str(tmp_path / "p.svg")).exit_code == 0
    found = (tmp_path / "p.svg").read_bytes()
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(found).iter()}
    assert names <= {"svg", "style", "defs", "clipPath", "rect", "text", "g", "circle"}
    assert MARK.encode() in found


KEYS = (
    "l",
    "\x1b",
    "z",
    "z",
    "]",
    "[",
    "v",
    "v",
    "e",
    "\x1b[B",
    "\x1b",
    " ",
    " ",
    "\x1b[H",
    "\x1b[F",
    "?",
    "\x1b",
    "r",
    "n",
)


@pytest.mark.parametrize("words", [["open"], ["replay"], []], ids=["open", "replay", "home"])
def test_no_byte_of_it_reaches_the_terminal(hostile: RunFolder, words: list[str]) -> None:
    home = ["--runs-dir", str(hostile.path.parent)]
    argv = [*words, str(hostile.path)] if words else home
    terminal = Terminal([sys.executable, "-m", "metarl_tui", *argv])
    try:
        terminal.wait_for(MARK)
        keys: tuple[str, ...] = KEYS
        if not words:
            keys = ("D", "n", "?", "\x1b", "\r", *KEYS, "\x1b")
        for key in keys:
            os.write(terminal.master, key.encode())
            end = time.monotonic() + 0.25
            while time.monotonic() < end:
                terminal.read(0.02)
        os.write(terminal.master, b"q")
        assert terminal.ends(30) == 0
    finally:
        terminal.close()
    assert_harmless(terminal.seen)


def metas(pilot: Any) -> set[str]:
    """Names of what the text on the screen would do when it is clicked."""
    rows = pilot.app.screen._compositor.render_strips()
    found = (segment.style.meta for row in rows for segment in row if segment.style)
    return {str(name) for meta in found for name in meta if str(name).startswith("@")}


async def test_no_markup_acts(hostile: RunFolder) -> None:
    rung = []
    app = app_on(hostile.path.parent)
    app.bell = lambda: rung.append(1)  # type: ignore[method-assign]
    async with app.run_test(size=(150, 44)) as pilot:
        await until(pilot, lambda: MARK in text(pilot))
        assert metas(pilot) == set()
        await pilot.press("enter")
        await until(pilot, lambda: "journal" in text(pilot) and text(pilot).count(MARK) > 2)
        assert metas(pilot) == set()
        for row in range(0, 44, 3):
            await pilot.click(offset=(8, row))
            await pilot.click(offset=(120, row))
        await pilot.press("l")
        await until(pilot, lambda: "Traceback" in text(pilot))
        assert metas(pilot) == set()
    assert rung == []
