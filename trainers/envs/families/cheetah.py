"""Half-cheetahs that are to run forwards or backwards (Finn et al. 2017, arXiv:1703.03400, section 5.3)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from trainers.trainer import TrainingError

try:
    import mujoco
    from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
    raise TrainingError(
        'env = half-cheetah-direction: MuJoCo is not installed; pip install "metarl-tui[mujoco]"'
    ) from error


class HalfCheetahDirection(HalfCheetahEnv):
    """Gymnasium's HalfCheetah-v5; a task is a direction, 1 or −1, each with probability ½.

    The reward is that of the paper's own code (github.com/cbfinn/maml_rl,
    ``rllab/envs/mujoco/half_cheetah_env_rand_direc.py``): direction × forward velocity − 0.05 ‖action‖₂²,
    in episodes of 200 steps. Body, observation and the velocity's definition are Gymnasium's, which are
    not quite rllab's, so returns compare only roughly with the paper's. Its training, of some ten millions
    of steps, is beyond two cores; within minutes these show that adapting begins to pay.
    """

    max_episode_steps = 200

    def __init__(self, **arguments: Any) -> None:
        """``arguments`` are those of HalfCheetah-v5."""
        # MuJoCo warns of what is out of date in Gymnasium's model in a file in the working folder.
        before = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(lambda _: None)
        try:
            super().__init__(**{"ctrl_cost_weight": 0.05} | arguments)
        finally:
            mujoco.set_mju_user_warning(before)
        self.direction = 1.0

    def sample_tasks(self, n: int) -> list[float]:
        """``n`` directions."""
        directions: list[float] = self.np_random.choice([-1.0, 1.0], n).tolist()
        return directions

    def set_task(self, task: float) -> None:
        """Run in the direction ``task``."""
        self.direction = float(task)

    def _get_rew(self, x_velocity: float, action: Any) -> tuple[float, dict[str, np.float32]]:
        reward, parts = super()._get_rew(self.direction * x_velocity, action)
        return float(reward), parts
