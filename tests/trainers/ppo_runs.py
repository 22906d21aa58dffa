"""Small PPO runs for the tests."""

from trainers.declarations import make_settings
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.ppo import PPO

SMALL = {"num_envs": 8, "rollout_steps": 16, "minibatch_size": 32, "hidden_sizes": (16,), "eval_every": None}


def trainer(env="CartPole-v1", *, seed=1, frame_stack=1, vector="auto", device="cpu", **values):
    setup = PPOSetup(env=env, seed=seed, frame_stack=frame_stack, vector=vector, device=device)
    return PPO(setup, make_settings(PPOHyperparameters, values))
