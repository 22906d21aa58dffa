"""Environments that harm the run that trains on them; named as ``harmful:Class``."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import numpy as np
from hostile import OneNumber


class Forgetful(OneNumber):
    """Not deterministic: its observations come from the clock's randomness, not from its seed."""

    def _observe(self) -> np.ndarray:
        return np.array([random.SystemRandom().uniform(-1, 1)], np.float32)

    def go_wrong(self) -> None:
        pass


class GivesNaN(OneNumber):
    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation * self.factor, reward, terminated, truncated, info

    factor = 1.0

    def go_wrong(self) -> None:
        self.factor = float("nan")


class KilledProcess(OneNumber):
    """Its process ends without a word, as by the kernel that is out of memory."""

    def go_wrong(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
