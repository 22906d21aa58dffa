"""The app on a real pseudo-terminal: what it paints, what it leaves, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import write_run
from pseudo_terminal import Terminal, assert_restored

SCRIPT = """
import sys
from pathlib import Path
from metarl_tui.app import app
from metarl_tui.runs.folder import RunFolder
{extra}
code, lines = app.run_app(Path(sys.argv[1]).parent, run=RunFolder(Path(sys.argv[1])))
loaded = sorted({{"torch", "gymnasium", "plotext"}} & set(sys.modules))
for line in lines: print(line)
print("code", code, "loaded", loaded)
sys.exit(code)
"""
HOSTILE = "a\x1b]52;c;QUFB\x07b\x1b[2Jc\x9b31md\n\u202ee"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[object]:
    opened = []

    def start(extra: str = "", **what: object) -> Terminal:
        path = write_run(tmp_path, **{"iterations": 50, "end": "finished", **what})
        opened.append(Terminal([sys.executable, "-c", SCRIPT.format(extra=extra), str(path)]))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_q_leaves_and_nothing_heavy_was_imported(terminal) -> None:
    screen = terminal()
    screen.wait_for("finished")
    screen.wait_for("return")
    os.write(screen.master, b"q")
    assert screen.ends() == 0
    assert b"code 0 loaded []" in screen.seen
    assert_restored(screen)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_signals_restore_the_terminal(terminal, number: signal.Signals, code: int) -> None:
    screen = terminal()
    screen.wait_for("return")
    screen.process.send_signal(number)
    assert screen.ends() == code
    assert_restored(screen)


def test_the_terminal_closing_ends_the_screen(terminal) -> None:
    screen = terminal()
    screen.wait_for("return")
    os.close(screen.slave)
    os.close(screen.master)
    screen.process.send_signal(signal.SIGHUP)
    screen.process.wait(15)


def test_a_crash_gives_70_and_a_traceback_without_locals(terminal) -> None:
    broken = "from metarl_tui.app.screens.run import RunScreen\nRunScreen.action_zoom = lambda self: 1 / 0"
    screen = terminal(broken, title="a secret name")
    screen.wait_for("return")
    os.write(screen.master, b"z")
    assert screen.ends() == 70
    after = screen.seen[screen.seen.rindex(b"\x1b[?1049l") :]
    assert b"ZeroDivisionError" in after
    assert b"secret" not in after
    assert_restored(screen)


def test_no_control_byte_of_a_run_reaches_the_terminal(terminal) -> None:
    screen = terminal(title=HOSTILE, end="failed", why=HOSTILE)
    screen.wait_for("failed")
    os.write(screen.master, b"q")
    screen.ends()
    assert b"\x1b]52" not in screen.seen
    assert b"\x1b[2Jc" not in screen.seen
    assert "\x9b".encode() not in screen.seen
    assert "\u202e".encode() not in screen.seen


def test_first_paint_imports_nothing_heavy(tmp_path: Path) -> None:
    """NumPy comes after the first paint, torch and gymnasium never."""
    path = write_run(tmp_path, iterations=5, end="finished")
    script = """
import sys
from pathlib import Path
from metarl_tui.app.app import MetarlApp
from metarl_tui.runs.folder import RunFolder
heavy = {"numpy", "plotext", "torch", "gymnasium"}
painted = []
class Watched(MetarlApp):
    def _display(self, screen, renderable):
        super()._display(screen, renderable)
        painted.append(heavy & set(sys.modules))
        if len(painted) > 400 or "numpy" in sys.modules: self.exit()
Watched(Path(sys.argv[1]).parent, run=RunFolder(Path(sys.argv[1]))).run(headless=True)
assert painted[0] == set(), painted[0]
assert not {"torch", "gymnasium", "plotext"} & set(sys.modules)
"""
    file = tmp_path / "first_paint.py"
    file.write_text(script)
    argv = [sys.executable, str(file), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
