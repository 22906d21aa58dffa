"""What can be set of MAML-PPO and its variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainers.declarations import declare
from trainers.hyperparameters.common import (
    MOST,
    Setup,
    activation_function,
    interval,
    schedule,
    schedule_floor,
)


@dataclass
class MAMLPPOSetup(Setup):
    """What a MAML-PPO run trains on and with; fixed for the whole run."""

    env: str = declare(
        "text",
        "navigation",
        "navigation, cartpole-family, half-cheetah-direction, or package.module:Class found from the "
        "working folder",
        changes="fork",
    )
    env_arg: dict[str, Any] = declare(  # noqa: RUF009  # a field with a factory
        "arguments", {}, "argument of the environments, repeatable", changes="fork"
    )
    vector: str = declare(
        "choice",
        "auto",
        "how environments run side by side; decided once, before iteration 1",
        choices=("auto", "sync", "async"),
        changes="fork",
    )
    variant: str = declare(
        "choice",
        "maml-ppo",
        "promp: with the penalty inner_kl_coef; fomaml-ppo: first order",
        choices=("maml-ppo", "promp", "fomaml-ppo"),
        changes="fork",
    )
    inner_ratio: str = declare(
        "choice",
        "per-step",
        "likelihood ratio of the adaptation: per-step (ProMP), or cumulative (DiCE: exact, more variance)",
        choices=("per-step", "cumulative"),
        changes="fork",
    )


@dataclass
class MAMLPPOHyperparameters:
    """Hyperparameters of MAML-PPO, named as PPO's and MAML's (Rothfuss et al. 2019, arXiv:1810.06784)."""

    iterations: int = declare(
        "int", 500, "meta-iterations to train for", minimum=1, maximum=MOST, scale="log"
    )
    meta_batch_size: int = declare(
        "int", 20, "tasks per meta-iteration", minimum=1, maximum=100_000, scale="log"
    )
    trajectories_per_task: int = declare(
        "int",
        20,
        "trajectories of each task before, between and after the inner steps",
        minimum=1,
        maximum=100_000,
        scale="log",
    )
    inner_lr: float = declare(
        "float", 0.1, "step size of the adaptation", above=0, maximum=100, scale="log", symbol="α"
    )
    inner_steps: int = declare(
        "int", 1, "steps of adaptation in training; 0: PPO on all tasks alike", minimum=0, maximum=100
    )
    outer_lr: float = declare("float", 1e-3, "Adam's step size", above=0, maximum=10, scale="log", symbol="β")
    epochs: int = declare("int", 5, "outer steps on each iteration's trajectories", minimum=1, maximum=1000)
    clip_epsilon: float = declare(
        "float",
        0.2,
        "the adapted policies' ratio is clipped to 1 ± ε",
        above=0,
        maximum=10,
        step=0.05,
        symbol="ε",
    )
    target_kl: float | None = declare(
        "float",
        None,
        "stop the epochs when the adapted policies' approx KL passes 1.5 × this",
        above=0,
        step=0.01,
        optional=True,
    )
    inner_kl_coef: float = declare(
        "float",
        5e-4,
        "promp: weight of KL(sampling policy ‖ policy) before each inner step",
        minimum=0,
        maximum=100,
        step=1e-4,
        symbol="η",
    )
    entropy_coef: float = declare(
        "float", 0.0, "weight of the adapted policies' entropy", minimum=0, maximum=10, step=0.005
    )
    gamma: float = declare("float", 0.99, "discount", minimum=0, maximum=1, step=0.005, symbol="γ")
    gae_lambda: float = declare(
        "float", 1.0, "bias against variance of the advantages", minimum=0, maximum=1, step=0.01, symbol="λ"
    )
    max_grad_norm: float | None = declare(
        "float", None, "meta-gradients are scaled down to this norm", above=0, step=1, optional=True
    )
    hidden_sizes: tuple[int, ...] = declare(
        "ints",
        (100, 100),
        "hidden layers of the policy; none: a linear one",
        minimum=1,
        maximum=65536,
        changes="never",
    )
    activation: str = activation_function("tanh", "of the hidden layers")
    anneal: str = schedule("outer_lr")
    anneal_iterations: int | None = interval(
        None, "iterations to the schedule's floor; off: the initial iterations", changes="fork"
    )
    anneal_floor: float = schedule_floor()
    eval_every: int | None = interval(10, "iterations between measurements on held-out tasks")
    eval_tasks: int = declare(
        "int", 40, "held-out tasks of one measurement", minimum=1, maximum=100_000, scale="log"
    )
    eval_inner_steps: int = declare("int", 2, "steps of adaptation on held-out tasks", minimum=0, maximum=100)
    eval_inner_lr: float | None = declare(
        "float",
        None,
        "step size on held-out tasks beyond the first inner_steps steps; off: the same",
        above=0,
        maximum=100,
        scale="log",
        step=0.01,
        optional=True,
    )
    picture_every: int | None = interval(10, "iterations between pictures of a held-out task's adaptation")
