"""What can be set: one class per trainer, one declaration per field, and the list of trainers.

Nothing here imports torch: the command line and the screen read this file before the first paint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainers.declarations import InvalidValue, declarations, declare, format_value

ANNEALABLE = ("learning_rate", "clip_epsilon")

_MOST = 10**15
"""Of what is counted: more than any machine does, few enough to be exact in a float."""


@dataclass
class PPOSetup:
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
    seed: int = declare(
        "int", 1, "seed of every generator of the run", minimum=0, maximum=2**63 - 1, changes="never"
    )
    device: str = declare("text", "cpu", "cpu, cuda or cuda:N", changes="fork")
    threads: int = declare(
        "int",
        1,
        "threads that torch may use; small networks gain nothing from a second",
        minimum=1,
        maximum=1024,
        changes="fork",
    )


@dataclass
class PPOHyperparameters:
    """PPO's hyperparameters (Schulman et al. 2017, arXiv:1707.06347)."""

    total_steps: int = declare(
        "int", 5_000_000, "environment steps to train for", minimum=1, maximum=_MOST, scale="log"
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
    activation: str = declare(
        "choice", "tanh", "of the hidden layers", choices=("tanh", "relu", "elu", "gelu"), changes="never"
    )
    anneal: str = declare(
        "choice", "linear", "schedule of the annealed values", choices=("none", "linear"), changes="fork"
    )
    annealed: tuple[str, ...] = declare(
        "names", ("learning_rate",), "values that follow the schedule", choices=ANNEALABLE, changes="fork"
    )
    anneal_steps: int | None = declare(
        "int",
        None,
        "steps to the schedule's floor; off: the initial total_steps",
        minimum=1,
        maximum=_MOST,
        scale="log",
        optional=True,
        changes="fork",
    )
    anneal_floor: float = declare(
        "float",
        0.1,
        "fraction of the initial value where the schedule ends",
        minimum=0,
        maximum=1,
        step=0.05,
        changes="fork",
    )
    eval_every: int | None = declare(
        "int",
        20,
        "iterations between evaluations of the greedy policy",
        minimum=1,
        maximum=_MOST,
        optional=True,
    )
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


@dataclass
class MAMLSetup:
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
        "fomaml: first order; anil: adapts the last layer only; metasgd: learned inner rates",
        choices=("maml", "fomaml", "anil", "reptile", "metasgd"),
        changes="fork",
    )
    seed: int = declare(
        "int", 1, "seed of every generator of the run", minimum=0, maximum=2**63 - 1, changes="never"
    )
    device: str = declare("text", "cpu", "cpu, cuda or cuda:N", changes="fork")
    threads: int = declare(
        "int",
        1,
        "threads that torch may use; small networks gain nothing from a second",
        minimum=1,
        maximum=1024,
        changes="fork",
    )


@dataclass
class MAMLHyperparameters:
    """Hyperparameters of MAML (Finn et al. 2017, arXiv:1703.03400) and its variants."""

    iterations: int = declare(
        "int", 10_000, "meta-iterations to train for", minimum=1, maximum=_MOST, scale="log"
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
        0.1,
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
        maximum=_MOST,
        scale="log",
    )
    multi_step_until: int | None = declare(
        "int",
        None,
        "iteration up to which the query losses after earlier steps count too (MAML++)",
        minimum=1,
        maximum=_MOST,
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
    activation: str = declare(
        "choice",
        "relu",
        "of the mlp's hidden layers",
        choices=("relu", "tanh", "elu", "gelu"),
        changes="never",
    )
    filters: int = declare(
        "int", 64, "filters of each block of conv", minimum=1, maximum=4096, changes="never"
    )
    anneal: str = declare(
        "choice", "linear", "schedule of outer_lr", choices=("none", "linear"), changes="fork"
    )
    anneal_iterations: int | None = declare(
        "int",
        None,
        "iterations to the schedule's floor; off: the initial iterations",
        minimum=1,
        maximum=_MOST,
        scale="log",
        optional=True,
        changes="fork",
    )
    anneal_floor: float = declare(
        "float",
        0.1,
        "fraction of the initial value where the schedule ends",
        minimum=0,
        maximum=1,
        step=0.05,
        changes="fork",
    )
    eval_every: int | None = declare(
        "int",
        100,
        "iterations between measurements on held-out tasks",
        minimum=1,
        maximum=_MOST,
        scale="log",
        optional=True,
    )
    eval_tasks: int = declare(
        "int", 100, "held-out tasks of one measurement", minimum=1, maximum=100_000, scale="log"
    )
    picture_every: int | None = declare(
        "int",
        200,
        "iterations between pictures of a held-out task's adaptation",
        minimum=1,
        maximum=_MOST,
        scale="log",
        optional=True,
    )


@dataclass(frozen=True)
class TrainerEntry:
    """A trainer by name. ``implementation`` is ``module:Class``, imported by the worker alone."""

    name: str
    implementation: str
    setup: type
    hyperparameters: type
    objective: str
    """Key of the metric that "best" means; its :class:`~trainers.metrics.Metric` tells the direction."""
    charts: tuple[str, ...]
    """Metric keys in the order in which the screen shows their charts."""
    subject: str
    """The setup field that says what is trained on, for titles and ids."""


TRAINERS: dict[str, TrainerEntry] = {
    "ppo": TrainerEntry(
        name="ppo",
        implementation="trainers.ppo:PPO",
        setup=PPOSetup,
        hyperparameters=PPOHyperparameters,
        objective="eval/return_mean",
        subject="env",
        charts=(
            "rollout/ep_rew_mean",
            "rollout/ep_len_mean",
            "train/clip_fraction",
            "train/approx_kl",
            "train/policy_loss",
            "train/explained_variance",
            "train/value_loss",
            "train/entropy",
            "train/learning_rate",
            "time/fps",
        ),
    ),
    "maml": TrainerEntry(
        name="maml",
        implementation="trainers.maml:MAML",
        setup=MAMLSetup,
        hyperparameters=MAMLHyperparameters,
        # Every task has a loss; accuracy is there for classes only.
        objective="meta_test/loss_post",
        subject="task",
        charts=(
            "meta/accuracy_post",
            "meta/loss_post",
            "meta/adaptation_gain",
            "meta/outer_grad_norm",
            "meta/inner_lr",
            "time/iterations_per_second",
            "meta_test/accuracy_post",
            "meta_test/loss_post",
            "meta/diverged_tasks",
        ),
    ),
}


def markdown_tables() -> str:
    """The hyperparameters of every trainer as Markdown tables, from their declarations."""
    parts = []
    for entry in TRAINERS.values():
        parts += [
            f"**{entry.name}**",
            "",
            "| | name | default | allowed | live | |",
            "|---|---|---|---|---|---|",
        ]
        parts += [
            f"| {one.symbol} | `{one.name}` | {format_value(one.default)} | {one.allowed} "
            f"| {'yes' if one.changes == 'live' else ''} | {one.help} |"
            for one in declarations(entry.hyperparameters).values()
        ]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown_tables())
