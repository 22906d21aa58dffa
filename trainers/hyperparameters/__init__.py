"""What can be set: one class per trainer, one declaration per field, and the list of trainers.

Nothing here imports torch: the command line and the screen read this before the first paint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.declarations import declarations, format_value
from trainers.hyperparameters.common import Setup
from trainers.hyperparameters.maml import MAMLHyperparameters, MAMLSetup
from trainers.hyperparameters.maml_ppo import MAMLPPOHyperparameters, MAMLPPOSetup
from trainers.hyperparameters.ppo import ANNEALABLE, PPOHyperparameters, PPOSetup

__all__ = [
    "TRAINERS",
    "MAMLHyperparameters",
    "MAMLPPOHyperparameters",
    "MAMLPPOSetup",
    "MAMLSetup",
    "PPOHyperparameters",
    "PPOSetup",
    "Setup",
    "TrainerEntry",
    "markdown_tables",
]


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
    measured_as: Mapping[str, str]
    """Metric keys of the hyperparameters that move by themselves (a schedule, learning), by their name."""
    annealed: tuple[str, ...] = ()
    """What a schedule moves, where the field ``annealed`` of the hyperparameters doesn't say."""

    def scheduled(self, hyperparameters: Mapping[str, Any]) -> frozenset[str]:
        """Names of the values that begin on a schedule, for a run with these hyperparameters."""
        named = hyperparameters.get("annealed", self.annealed)
        on = hyperparameters.get("anneal", "none") != "none" and isinstance(named, list | tuple)
        return frozenset(name for name in self.measured_as if name in named) if on else frozenset()


TRAINERS: dict[str, TrainerEntry] = {
    "ppo": TrainerEntry(
        name="ppo",
        implementation="trainers.ppo:PPO",
        setup=PPOSetup,
        hyperparameters=PPOHyperparameters,
        objective="eval/return_mean",
        subject="env",
        measured_as={name: f"train/{name}" for name in ANNEALABLE},
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
        measured_as={"outer_lr": "meta/outer_lr", "inner_lr": "meta/inner_lr"},
        annealed=("outer_lr",),
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
    "maml-ppo": TrainerEntry(
        name="maml-ppo",
        implementation="trainers.maml_ppo:MAMLPPO",
        setup=MAMLPPOSetup,
        hyperparameters=MAMLPPOHyperparameters,
        objective="meta_test/return_post",
        subject="env",
        measured_as={
            "outer_lr": "meta/outer_lr",
            "inner_lr": "meta/inner_lr",
            "clip_epsilon": "train/clip_epsilon",
        },
        annealed=("outer_lr",),
        charts=(
            "meta/return_post",
            "meta_test/return_post",
            "train/clip_fraction",
            "train/approx_kl",
            "meta/adaptation_gain",
            "train/policy_loss",
            "meta/inner_kl",
            "time/fps",
            "meta/outer_grad_norm",
            "train/entropy",
            "train/explained_variance",
            "meta/inner_lr",
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
