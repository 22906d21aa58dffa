"""An environment whose observation is an image: a bright square on the left or on the right."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Squares(gymnasium.Env):
    """Action 1 is right when the square is on the right; episodes of four steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.action_space = spaces.Discrete(2)
        self.side = self.steps = 0

    def observe(self) -> np.ndarray:
        image = np.zeros((16, 16, 3), np.uint8)
        image[4:12, 8 * self.side : 8 * self.side + 8] = 255
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.side = 0, int(self.np_random.integers(2))
        return self.observe(), {}

    def step(self, action):
        reward = float(action == self.side)
        self.steps, self.side = self.steps + 1, int(self.np_random.integers(2))
        return self.observe(), reward, self.steps == 4, False, {}
