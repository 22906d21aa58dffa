"""Environments with known answers, and hostile ones; ``probes:Class`` as an environment's name.

The known answers follow the probe environments of rejax and of Andy Jones' "Debugging RL".
"""

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Probe(gymnasium.Env):
    """Observations of one number in [-1, 1] and two actions; episodes of one step with reward 1."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def __init__(self) -> None:
        # Of its own: spaces have generators, which environments must not share.
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.steps = 0
        self.shown = 0.0

    def observe(self) -> np.ndarray:
        return np.array([self.shown], np.float32)

    def begin(self) -> None:
        self.shown = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.begin()
        return self.observe(), {}

    def reward(self, action) -> float:
        return 1.0

    def step(self, action):
        self.steps += 1
        return self.observe(), self.reward(action), True, False, {}


class AlwaysOne(Probe):
    """The value is 1."""


class RewardIsObservation(Probe):
    """The observation is -1 or 1, and so is the reward: the value is the observation."""

    def begin(self) -> None:
        self.shown = float(self.np_random.choice([-1, 1]))

    def reward(self, action) -> float:
        return self.shown


class TwoSteps(Probe):
    """Observation 0, then 1, and a reward of 1 at the end: the values are γ and 1."""

    def step(self, action):
        self.steps += 1
        self.shown = 1.0
        over = self.steps == 2
        return self.observe(), float(over), over, False, {}


class CutOff(Probe):
    """A reward of 1 at each step for ever, cut off after five: the value is 1 / (1 - γ)."""

    def step(self, action):
        self.steps += 1
        return self.observe(), 1.0, False, self.steps == 5, {}


class RightAction(Probe):
    """Action 1 gives 1, action 0 gives -1: the best mean return is 1."""

    def reward(self, action) -> float:
        return 1.0 if action == 1 else -1.0


class RightActionForObservation(RewardIsObservation):
    """Action 1 is right when the observation is 1, action 0 when it is -1."""

    def reward(self, action) -> float:
        return 1.0 if action == (self.shown > 0) else -1.0


class RightTwoActions(RewardIsObservation):
    """MultiDiscrete: half a point for a first action like the observation, half for a second of 2."""

    action_space = spaces.MultiDiscrete([2, 3])

    def reward(self, action) -> float:
        assert action.shape == (2,)
        assert action.dtype == np.int64
        return 0.5 * (action[0] == (self.shown > 0)) + 0.5 * (action[1] == 2)


class Counted(RewardIsObservation):
    """Discrete from -2 on: half a point for an action of the observation's sign, half for an extreme one."""

    action_space = spaces.Discrete(5, start=-2)

    def reward(self, action) -> float:
        assert self.action_space.contains(action)
        return 0.5 * (np.sign(action) == np.sign(self.shown)) + 0.5 * (abs(action) == 2)


class CountedTwice(RewardIsObservation):
    """MultiDiscrete from 1 and from -1 on: half a point for each of the right ones, 1 or 2, and 2."""

    action_space = spaces.MultiDiscrete([3, 4], start=[1, -1])

    def reward(self, action) -> float:
        assert self.action_space.contains(action)
        return 0.5 * (action[0] == (2 if self.shown > 0 else 1)) + 0.5 * (action[1] == 2)


class RightPosition(RewardIsObservation):
    """Box: the reward is minus the squared distance between half the observation and the action."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reward(self, action) -> float:
        assert self.action_space.contains(action)
        return -float((action[0] - 0.5 * self.shown) ** 2)


class Walk(Probe):
    """Random steps until the ninth or, rarely, an earlier one; for the hostile ones below."""

    def step(self, action):
        self.steps += 1
        self.shown = float(self.np_random.uniform(-1, 1))
        return self.observe(), self.shown, self.shown > 0.9, self.steps == 9, {}


class Raises(Walk):
    """Raises at a step of an episode."""

    def __init__(self, at: int = 5) -> None:
        super().__init__()
        self.at = at

    def step(self, action):
        if self.steps + 1 == self.at:
            raise ZeroDivisionError("the cart left the universe")
        self.steps += 1
        return self.observe(), 0.0, False, False, {}


class UnpicklableError(Exception):
    """An exception that neither pickles nor can be made from a message."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.held = lambda: None


class RaisesUnpicklable(Walk):
    def step(self, action):
        raise UnpicklableError(7, "held")


class RaisesAtReset(Walk):
    def begin(self) -> None:
        raise FileNotFoundError("level.dat")


class NaNReward(Walk):
    """The reward of the fourth step is NaN."""

    def step(self, action):
        self.steps += 1
        return self.observe(), float("nan") if self.steps == 4 else 1.0, False, False, {}


class InfiniteObservation(Walk):
    def step(self, action):
        self.steps += 1
        self.shown = float("inf") if self.steps == 3 else 0.0
        return self.observe(), 0.0, False, False, {}


class Beyond(Walk):
    """The observation or reward of a later step is finite, but not in float32."""

    def __init__(self, what: str = "observation") -> None:
        super().__init__()
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.what = what

    def observe(self) -> np.ndarray:
        return np.array([1e60 if self.steps == 20 and self.what == "observation" else self.shown])

    def step(self, action):
        self.steps += 1
        self.shown = float(self.np_random.uniform(-1, 1))
        reward = 1e200 if self.steps == 20 and self.what == "reward" else 1.0
        return self.observe(), reward, False, self.steps == 30, {}


class OwnBox(spaces.Box):
    """A subclass, as hurried environments define them."""


class OwnDiscrete(spaces.Discrete):
    """Another one."""


class OwnSpaces(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = OwnBox(-1, 1, (1,), np.float32)
        self.action_space = OwnDiscrete(2)


class Nothing(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-1, 1, (0,), np.float32)


class NoAction(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1, 1, (2, 0), np.float32)


class Bytes(Walk):
    """128 bytes, which are no image however many of them are stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (128,), np.uint8)

    def observe(self) -> np.ndarray:
        return np.full(128, self.steps, np.uint8)


class WrongShape(Walk):
    def observe(self) -> np.ndarray:
        return np.zeros(1 if self.steps < 2 else 3, np.float32)


class Exits(Walk):
    """Its process is gone in the middle of an episode."""

    def step(self, action):
        if self.steps == 3:
            os._exit(9)
        return super().step(action)


class Unrepeatable(Walk):
    """Draws from a generator that nobody can seed."""

    def step(self, action):
        self.steps += 1
        self.shown = float(np.random.default_rng().uniform(-1, 1))
        return self.observe(), self.shown, False, False, {}


class SamplesItsSpace(Walk):
    """Draws from its observation space and ignores its seed, as hurried environments do."""

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), self.np_random.normal(), self.steps == 9, False, {}


class Endless(Walk):
    def step(self, action):
        self.shown = float(self.np_random.uniform(-1, 1))
        return self.observe(), 0.0, False, False, {}


class Slow(Walk):
    """Computes for two milliseconds a step."""

    def step(self, action):
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return super().step(action)


class MutatesItsAction(Walk):
    action_space = spaces.Box(-2, 2, (2,), np.float32)

    def step(self, action):
        self.steps += 1
        self.shown = float(np.tanh(action.sum() + self.np_random.normal()))
        action *= 0
        return self.observe(), 0.0, False, self.steps == 20, {}


class DiscreteObservation(Probe):
    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(16)


class TupleAction(Probe):
    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])


class Greets:
    """Not an environment."""


def greet() -> Greets:
    return Greets()


NUMBER = 3


class Stuck(Walk):
    """Never returns from its step."""

    def step(self, action):
        while True:
            time.sleep(1)
