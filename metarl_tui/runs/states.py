"""The states in which a run is over, for everything that asks whether one is."""

from __future__ import annotations

ENDED = ("failed", "stopped", "finished")
"""A worker has said that training is over."""
OVER = (*ENDED, "lost")
"""No worker trains, as it seems from here: one has said so, or its process is gone without a word."""
