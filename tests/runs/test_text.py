"""Strings from outside on their way to a terminal, and numbers in few columns."""

from __future__ import annotations

import pytest

from metarl_tui.text import clean, short_number


@pytest.mark.parametrize(
    "letter",
    [
        "\u061c",
        "\u00ad",
        "\u180e",
        "\ufe0f",
        "\ufe00",
        "\U000e0001",
        "\U000e0041",
        "\U000e007f",
        "\U000e0100",
    ],
)
def test_what_cannot_be_seen_is_left_out(letter: str) -> None:
    assert clean(f"a{letter}b") == "ab"


def test_what_can_be_seen_stays() -> None:
    assert clean("ε → 0.1 é 漢字 🙂") == "ε → 0.1 é 漢字 🙂"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (8e37, "8e37"), (-1.5e12, "-1.5e12"), (2.5e9, "2.5G"), (999.6e9, "1e12"), (999.4e6, "999M"),
        (999_600.0, "1M"), (24_000.0, "24k"), (9_999.0, "9999"), (487.0, "487"), (0.0042, "0.0042"),
        (2.5e-4, "2.5e-4"), (0.0, "0"), (float("nan"), "nan"), (float("-inf"), "-inf"),
    ],
)  # fmt: skip
def test_numbers_stay_short(number: float, text: str) -> None:
    assert short_number(number) == text
