"""The page about how cost grows is one that its command writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PAGE = (BENCHMARKS / "how-cost-grows.md").read_text(encoding="utf-8")
CODE = """
import json
from cost_growth import PARTS
fields = ("title", "bend", "grows", "columns", "values")
print(json.dumps([{name: getattr(part, name) for name in fields} for part in PARTS.values()]))
"""


@pytest.fixture(scope="module")
def parts() -> list[dict[str, Any]]:
    """The parts of the script, which is imported where its neighbours are found and nothing else is."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_page_names_the_command_that_writes_it() -> None:
    (command,) = re.findall(r"^python (\S+) --page (\S+)$", PAGE, re.MULTILINE)
    root = BENCHMARKS.parents[1]
    assert [(root / part).exists() for part in command] == [True, True]


def test_page_has_every_part_with_its_sentence_and_all_its_values(parts: list[dict[str, Any]]) -> None:
    sections = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        sections[title] = " ".join(text.split())
    assert list(sections) == [part["title"] for part in parts]
    for part in parts:
        text = sections[part["title"]]
        assert part["bend"]
        assert part["bend"] in text
        assert f"| {' | '.join((part['grows'], *part['columns']))} |" in text
        for value in part["values"]:
            assert f"| {value:,} |" in text


def test_page_can_be_read_without_a_terminal() -> None:
    assert "\x1b" not in PAGE
    assert max(map(len, PAGE.split("\n"))) <= 110
