"""Python's garbage collector, kept from holding up keys.

A full collection looks at every object: some 20 ms with a screen full of charts, and several times that on
a busy machine. So full ones are made here, while nobody types. A page of charts is thousands of objects that
are freed without the collector: it is not to look at them every few hundred.
"""

from __future__ import annotations

import gc
import time

_YOUNG, _NEVER = 10_000, 1_000_000_000
_QUIET_SECONDS = 3.0
_LONGEST_SECONDS = 600.0
_PERIOD_SECONDS = 30.0


class Garbage:
    """Decides when to collect. Until :meth:`start` it leaves the collector alone."""

    def __init__(self) -> None:
        self._started = False
        self._typed = self._collected = time.monotonic()

    def start(self) -> None:
        """Collect only young objects by themselves from here on, and when there are many."""
        self._started = True
        gc.set_threshold(_YOUNG, gc.get_threshold()[1], _NEVER)

    def typed(self) -> None:
        """Somebody is typing: not now."""
        self._typed = time.monotonic()

    def loaded(self) -> None:
        """What is loaded now stays, so there is no use in looking through it again."""
        if self._started:
            gc.collect()
            gc.freeze()
            self._collected = time.monotonic()

    def tick(self) -> bool:
        """Collect if it is time to. Call it every second or so; whether it did."""
        now = time.monotonic()
        waited = now - self._collected
        if not self._started or waited < _PERIOD_SECONDS:
            return False
        if now - self._typed < _QUIET_SECONDS and waited < _LONGEST_SECONDS:
            return False
        gc.collect()
        self._collected = time.monotonic()
        return True
