"""What can be set of PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainers.declarations import InvalidValue, declare
from trainers.hyperparameters.common import (
    MOST,
    Setup,
    activation_function,
    interval,
    schedule,
    schedule_floor,
)

ANNEALABLE = ("learning_rate", "clip_epsilon")


@dataclass
class PPOSetup(Setup):
    """What a PPO run trains on and with; fixed for the whole run."""

    env: str = declare(
        "text",
        "CartPole-v1",
        "Gymnasium id, or package.module:Class found from the working folder",
        changes="fork",
    )
    env_arg: dict[str, Any] = declare(  # noqa: RUF009  # a field with a factory
        "arguments", {}, "argument of the environment, repeatable", changes="fork"
    )
    frame_stack: int = declare(
        "int", 1, "observations stacked into one", minimum=1, maximum=64, changes="never"
    )
    vector: str = declare(
        "choice",
        "auto",
        "how environments run side by side; decided once, before iteration 1",
        choices=("auto", "native", "sync", "async"),
        changes="fork",
    )


@dataclass
class PPOHyperparameters:
    """PPO's hyperparameters (Schulman et al. 2017, arXiv:1707.06347)."""

    total_steps: int = declare(
        "int", 5_000_000, "environment steps to train for", minimum=1, maximum=MOST, scale="log"
    )
    num_envs: int = declare(
        "int", 32, "environments side by side", minimum=1, maximum=65_536, scale="log", changes="fork"
    )
    rollout_steps: int = declare(
        "int",
        128,
        "steps of each environment per iteration",
        minimum=2,
        maximum=1_000_000,
        scale="log",
        changes="fork",
    )
    minibatch_size: int = declare(
        "int",
        1024,
        "samples per gradient step; divides num_envs × rollout_steps",
        minimum=2,
        maximum=2**31,
        scale="log",
    )
    epochs: int = declare("int", 4, "passes over each rollout", minimum=1, maximum=1000)
    learning_rate: float = declare(
        "float", 3e-4, "Adam's step size", above=0, maximum=10, scale="log", symbol="α"
    )
    clip_epsilon: float = declare(
        "float", 0.2, "the policy ratio is clipped to 1 ± ε", above=0, maximum=10, step=0.05, symbol="ε"
    )
    value_clip_epsilon: float | None = declare(
        "float", None, "the value's change is clipped to ± this", above=0, step=0.1, optional=True
    )
    target_kl: float | None = declare(
        "float", None, "stop the epochs when approx KL passes 1.5 × this", above=0, step=0.01, optional=True
    )
    gamma: float = declare(
        "float",
        0.99,
        "discount; changing it shifts the value targets",
        minimum=0,
        maximum=1,
        step=0.005,
        symbol="γ",
    )
    gae_lambda: float = declare(
        "float", 0.95, "bias against variance of the advantages", minimum=0, maximum=1, step=0.01, symbol="λ"
    )
    entropy_coef: float = declare(
        "float", 0.0, "weight of the entropy bonus", minimum=0, maximum=10, step=0.005
    )
    value_coef: float = declare("float", 0.5, "weight of the value loss", minimum=0, maximum=100, step=0.1)
    max_grad_norm: float | None = declare(
        "float", 0.5, "gradients are scaled down to this norm", above=0, step=0.1, optional=True
    )
    normalize_advantages: bool = declare("bool", True, "advantages to mean 0 and deviation 1, per minibatch")
    normalize_observations: bool = declare("bool", False, "by running mean and deviation", changes="never")
    normalize_rewards: bool = declare("bool", False, "by the running deviation of returns", changes="never")
    hidden_sizes: tuple[int, ...] = declare(
        "ints",
        (64, 64),
        "hidden layers of policy and value network",
        minimum=1,
        maximum=65536,
        changes="never",
    )
    activation: str = activation_function("tanh", "of the hidden layers")
    anneal: str = schedule("the annealed values")
    annealed: tuple[str, ...] = declare(
        "names", ("learning_rate",), "values that follow the schedule", choices=ANNEALABLE, changes="fork"
    )
    anneal_steps: int | None = interval(
        None, "steps to the schedule's floor; off: the initial total_steps", changes="fork"
    )
    anneal_floor: float = schedule_floor()
    eval_every: int | None = interval(20, "iterations between evaluations of the greedy policy")
    eval_episodes: int = declare("int", 10, "episodes of one evaluation", minimum=1, maximum=10_000)
    until: float | None = declare(
        "float",
        None,
        "finish when the mean return over the last 100 episodes reaches this",
        optional=True,
        step=1,
    )

    def __post_init__(self) -> None:
        batch = self.num_envs * self.rollout_steps
        if batch % self.minibatch_size:
            raise InvalidValue(
                "minibatch_size",
                self.minibatch_size,
                f"must divide num_envs × rollout_steps = {self.num_envs} × {self.rollout_steps} = {batch}",
            )
