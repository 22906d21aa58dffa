"""The few colours of the screen, by what they mean.

Each was chosen so that what 256 and 16 colours make of it still tells the meanings apart; the tests
look at both. Rich rounds a colour to the 6×6×6 cube or, when it is nearly grey, to the grey ramp.
"""

from __future__ import annotations

BACKGROUND = "#101418"

ACCENT = "#62cdff"
"""Curves, the tape, keys: what the eye should follow."""
BAND = "#2b5f75"
"""The dim tone under a curve: minimum to maximum, and what lies after the playhead."""
STEERED = "#b57bff"
"""What a person changed."""
ATTENTION = "#f2b35d"
"""Look here; queued."""
WELL = "#7ee08c"
BROKEN = "#ff6b6b"

BRIGHT = "#ffffff"
TEXT = "#c9d3da"
GREY = "#8b98a3"
DIM = "#5b666f"
HAIRLINE = "#2f383f"
