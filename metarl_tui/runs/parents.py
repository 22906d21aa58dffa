"""What a fork's parent is called where there is little room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl_tui.text import clean


def parent_in_short(parent: Mapping[str, Any] | None) -> str:
    """``k3f9@33`` for a fork that left run ``…-k3f9`` after iteration 33; empty for what is no fork."""
    return f"{clean(parent['run'], 120).rpartition('-')[2]}@{parent['iteration']}" if parent else ""


def name_and_parent(name: str, parent: Mapping[str, Any] | None) -> str:
    """A run's name and, of a fork, where it comes from: ``wider, from k3f9@33``."""
    return ", ".join(part for part in (name, parent and f"from {parent_in_short(parent)}") if part)
