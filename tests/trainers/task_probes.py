"""Environments with tasks: the documented example, one with known answers, and wrong ones."""

import multiprocessing
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


def example() -> Any:
    """The class in the README's section on meta-reinforcement learning."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("\n### Meta-reinforcement learning\n")[2]
    module = types.ModuleType(__name__)
    exec(section.partition("```python\n")[2].partition("```")[0], vars(module))
    module.Corridor.__module__ = __name__
    return module.Corridor


Corridor = example()


class Told(gymnasium.Env):
    """Observes [task, seed-dependent number, steps]; the reward is task × action; ends after ``length``."""

    max_episode_steps: ClassVar[Any] = 5

    def __init__(self, length=100):
        self.length = length
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)
        self.task = 0.0

    def sample_tasks(self, n):
        return self.np_random.uniform(1, 9, n)

    def set_task(self, task):
        self.task = task

    def observed(self):
        return np.array([self.task, self.drawn, self.steps])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.drawn = 0, self.np_random.random()
        return self.observed(), {}

    def step(self, action):
        self.steps += 1
        self.drawn = self.np_random.random()
        return self.observed(), self.task * action[0], self.steps >= self.length, False, {}


class Shaped(Told):
    """Observes nothing, of a ``shape`` and ``dtype``."""

    def __init__(self, shape=(3,), dtype="float32"):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, tuple(shape), np.dtype(dtype).type)

    def observed(self):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)


class KnowsItsProcess(Told):
    """The reward counts the threads that watch for the trainer's end, and adds 10 where torch is imported."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        watching = [thread.name for thread in threading.enumerate()].count("die-with-parent")
        return observation, watching + 10.0 * ("torch" in sys.modules), *rest


class Careless(Told):
    """Draws tasks from what no seed reaches."""

    def sample_tasks(self, n):
        return [int.from_bytes(os.urandom(4), "little") for _ in range(n)]


class NoTasks(Told):
    def __getattribute__(self, name):
        if name in ("sample_tasks", "set_task"):
            raise AttributeError(name)
        return super().__getattribute__(name)


class NoSetTask(Told):
    def __getattribute__(self, name):
        if name == "set_task":
            raise AttributeError(name)
        return super().__getattribute__(name)


class TooFew(Told):
    def sample_tasks(self, n):
        return [1.0] * (n - 1)


class OneNumber(Told):
    def sample_tasks(self, n):
        return 3.0


class NoDimensions(Told):
    def sample_tasks(self, n):
        return np.array(3.0)


class Named(Told):
    def sample_tasks(self, n):
        return {"left": 1.0, "right": 2.0}


class Unsettable(Told):
    def sample_tasks(self, n):
        return list(range(n))

    def set_task(self, task):
        raise ValueError("unreachable goal")


class RaisesInSampling(Told):
    def sample_tasks(self, n):
        raise KeyError("no goals")


class Unpicklable(Told):
    def sample_tasks(self, n):
        return [lambda: 1] * n


class NoEnd(Told):
    max_episode_steps = None


class NegativeEnd(Told):
    max_episode_steps = -3


class Homebound(Told):
    """Can only be made in the trainer's own process."""

    def __init__(self):
        super().__init__()
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no display here")


class ReadsText(Told):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Text(3)


class Hostile(Told):
    """Does what ``how`` says, in the task drawn third."""

    def __init__(self, how=""):
        super().__init__()
        self.how = how

    def sample_tasks(self, n):
        return list(range(n))

    def set_task(self, task):
        super().set_task(task)
        if self.how == "set_task" and task == 2:
            raise ValueError("unreachable goal")

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.task == 2 and self.steps == 2:
            match self.how:
                case "raise":
                    raise RuntimeError("the robot fell over")
                case "exit":
                    os._exit(7)
                case "reward":
                    reward = float("nan")
                case "observation":
                    observation = observation * np.inf
        return observation, reward, *rest


def limited():
    """A function that makes an environment whose end a wrapper knows."""
    return gymnasium.wrappers.TimeLimit(NoEnd(), 7)


gymnasium.register("Limited-v0", NoEnd, max_episode_steps=6)
