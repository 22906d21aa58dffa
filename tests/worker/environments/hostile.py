"""Environments that go wrong on purpose; named as ``hostile:Class``."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np


class OneNumber(gymnasium.Env[np.ndarray, int]):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, after: int = 40) -> None:
        self.after = after
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps > self.after:
            self.go_wrong()
        return self._observe(), 1.0, self.steps % 10 == 0, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)

    def go_wrong(self) -> None:
        raise NotImplementedError


class Raises(OneNumber):
    def go_wrong(self) -> None:
        raise ZeroDivisionError("the pole is\x1b[31m gone")


class Hangs(OneNumber):
    def go_wrong(self) -> None:
        time.sleep(600)


class Explodes(OneNumber):
    """Rewards so large that the value loss overflows."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, 1e30 if self.steps > self.after else reward, terminated, truncated, info

    def go_wrong(self) -> None:
        pass


class Exits(OneNumber):
    def go_wrong(self) -> None:
        raise SystemExit(0)


class Random(OneNumber):
    """Observations that no seed repeats."""

    def _observe(self) -> np.ndarray:
        return np.frombuffer(os.urandom(4), np.uint32).astype(np.float32) / np.float32(2**32)

    def go_wrong(self) -> None:
        pass
