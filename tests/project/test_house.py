"""The house rules that a machine can check: style, types, and which way imports go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TORCH_FREE = (
    "metarl_tui.cli",
    "metarl_tui.app.app",
    "metarl_tui.app.screens.run",
    "metarl_tui.app.screens.home",
    "metarl_tui.tape",
    "metarl_tui.launch",
    "metarl_tui.plots",
    "trainers",
)


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"]]
)
def test_tool_is_content(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_screen_imports_neither_torch_nor_gymnasium() -> None:
    code = (
        f"import importlib, sys\nfor name in {TORCH_FREE!r}: importlib.import_module(name)\n"
        "assert not {'torch', 'gymnasium'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
