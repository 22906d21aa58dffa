"""What can be set of MAML and its variants."""

from __future__ import annotations

from dataclasses import dataclass

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
class MAMLSetup(Setup):
    """What a MAML run trains on and with; fixed for the whole run."""

    task: str = declare(
        "text",
        "xor",
        "xor, sinusoid, omniglot, or package.module:Class found from the working folder",
        changes="never",
    )
    data: str = declare("text", "", "file or folder that the task distribution reads", changes="fork")
    variant: str = declare(
        "choice",
        "maml",
        "fomaml: first order; anil: adapts the last layer only; reptile: without query rows; "
        "metasgd: learned inner rates",
        choices=("maml", "fomaml", "anil", "reptile", "metasgd"),
        changes="fork",
    )


@dataclass
class MAMLHyperparameters:
    """Hyperparameters of MAML (Finn et al. 2017, arXiv:1703.03400) and its variants."""

    iterations: int = declare(
        "int", 10_000, "meta-iterations to train for", minimum=1, maximum=MOST, scale="log"
    )
    meta_batch_size: int = declare(
        "int", 25, "tasks per meta-iteration", minimum=1, maximum=100_000, scale="log"
    )
    ways: int = declare(
        "int", 2, "classes of a task (classification only)", minimum=2, maximum=10_000, changes="never"
    )
    shots: int = declare(
        "int",
        5,
        "support rows per class (xor: per cluster, regression: per task)",
        minimum=1,
        maximum=100_000,
    )
    query_shots: int = declare(
        "int", 10, "query rows per class (xor: per cluster, regression: per task)", minimum=1, maximum=100_000
    )
    inner_lr: float = declare(
        "float",
        0.01,
        "step size of the adaptation; a change overwrites what metasgd learned",
        above=0,
        maximum=100,
        scale="log",
        symbol="α",
    )
    inner_steps: int = declare("int", 5, "steps of adaptation in training", minimum=1, maximum=1000)
    eval_inner_steps: int = declare(
        "int", 10, "steps of adaptation on held-out tasks", minimum=1, maximum=1000
    )
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
    outer_lr: float = declare("float", 1e-3, "Adam's step size", above=0, maximum=10, scale="log", symbol="β")
    first_order_until: int = declare(
        "int",
        0,
        "iteration up to which inner gradients count as constants (MAML++)",
        minimum=0,
        maximum=MOST,
        scale="log",
    )
    multi_step_until: int | None = declare(
        "int",
        None,
        "iteration up to which the query losses after earlier steps count too (MAML++)",
        minimum=1,
        maximum=MOST,
        scale="log",
        step=1000,
        optional=True,
    )
    max_grad_norm: float | None = declare(
        "float", 10.0, "meta-gradients are scaled down to this norm", above=0, step=1, optional=True
    )
    network: str = declare(
        "choice",
        "mlp",
        "mlp, or conv: the paper's four blocks, with batch statistics",
        choices=("mlp", "conv"),
        changes="never",
    )
    hidden_sizes: tuple[int, ...] = declare(
        "ints",
        (40, 40),
        "hidden layers of the mlp; none: a linear model",
        minimum=1,
        maximum=65536,
        changes="never",
    )
    activation: str = activation_function("relu", "of the mlp's hidden layers")
    filters: int = declare(
        "int", 64, "filters of each block of conv", minimum=1, maximum=4096, changes="never"
    )
    anneal: str = schedule("outer_lr")
    anneal_iterations: int | None = interval(
        None, "iterations to the schedule's floor; off: the initial iterations", changes="fork"
    )
    anneal_floor: float = schedule_floor()
    eval_every: int | None = interval(100, "iterations between measurements on held-out tasks")
    eval_tasks: int = declare(
        "int", 100, "held-out tasks of one measurement", minimum=1, maximum=100_000, scale="log"
    )
    picture_every: int | None = interval(200, "iterations between pictures of a held-out task's adaptation")
