"""Hyperparameters that solve known environments, by name; the default ones are found by environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainers.declarations import InvalidValue


@dataclass(frozen=True)
class Preset:
    """Hyperparameters for ``environments`` (ids, maml: tasks); ``source`` names those they start from."""

    name: str
    trainer: str
    environments: tuple[str, ...]
    source: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)


_ZOO = "RL Baselines3 Zoo (Raffin 2020), hyperparams/ppo.yml"

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="cartpole",
        trainer="ppo",
        environments=("CartPole-v1",),
        source=f"{_ZOO}, CartPole-v1; four times the environments, fewer epochs at a higher rate, for speed",
        hyperparameters={
            "total_steps": 5_000_000,
            "num_envs": 32,
            "rollout_steps": 64,
            "minibatch_size": 512,
            "epochs": 6,
            "learning_rate": 3e-3,
            "gamma": 0.98,
            "gae_lambda": 0.9,
            # Solved long before: what is left of the run is there to be watched and steered.
            "anneal_steps": 500_000,
        },
    ),
    Preset(
        name="acrobot",
        trainer="ppo",
        environments=("Acrobot-v1",),
        source=f"{_ZOO}, Acrobot-v1; half the rollout, a higher rate",
        hyperparameters={
            "total_steps": 1_000_000,
            "num_envs": 16,
            "rollout_steps": 128,
            "minibatch_size": 512,
            "epochs": 4,
            "learning_rate": 1e-3,
            "gamma": 0.99,
            "gae_lambda": 0.94,
            "normalize_observations": True,
        },
    ),
    Preset(
        name="pendulum",
        trainer="ppo",
        environments=("Pendulum-v1",),
        source=f"{_ZOO}, Pendulum-v1; more environments, γ 0.95, normalised rewards instead of gSDE noise",
        hyperparameters={
            "total_steps": 400_000,
            "num_envs": 16,
            "rollout_steps": 128,
            "minibatch_size": 256,
            "epochs": 10,
            "learning_rate": 1e-3,
            "gamma": 0.95,
            "gae_lambda": 0.95,
            "anneal_floor": 0.05,
            "normalize_rewards": True,
        },
    ),
    Preset(
        name="mountain-car-continuous",
        trainer="ppo",
        environments=("MountainCarContinuous-v0",),
        source=f"{_ZOO}, MountainCarContinuous-v0; more environments and wider noise instead of gSDE's",
        hyperparameters={
            "total_steps": 300_000,
            "num_envs": 16,
            "rollout_steps": 256,
            "minibatch_size": 512,
            "epochs": 10,
            "learning_rate": 3e-4,
            "gamma": 0.9999,
            "gae_lambda": 0.9,
            "entropy_coef": 0.005,
            "max_grad_norm": 5.0,
            "normalize_observations": True,
            "normalize_rewards": True,
        },
    ),
    Preset(
        name="xor",
        trainer="maml",
        environments=("xor",),
        source="none published; found by trial",
        hyperparameters={"iterations": 4000},
    ),
    Preset(
        name="sinusoid",
        trainer="maml",
        environments=("sinusoid",),
        source="Finn et al. 2017, section 5.1; the meta-gradient clipped and β annealed",
        hyperparameters={
            "iterations": 20_000,
            "shots": 10,
            "query_shots": 10,
            "inner_lr": 0.01,
            "inner_steps": 1,
            "eval_inner_steps": 10,
            "hidden_sizes": (40, 40),
        },
    ),
    Preset(
        name="omniglot",
        trainer="maml",
        environments=("omniglot",),
        source="Finn et al. 2017, section 5.2, without batch norm; β annealed, late steps smaller",
        hyperparameters={
            "iterations": 20_000,
            "meta_batch_size": 32,
            "ways": 5,
            "shots": 1,
            "query_shots": 1,
            "inner_lr": 0.4,
            "inner_steps": 1,
            "eval_inner_steps": 3,
            "eval_inner_lr": 0.1,
            "hidden_sizes": (256, 128, 64),
            "anneal_floor": 0.05,
        },
    ),
)


def preset_for(trainer: str, env_id: str) -> Preset | None:
    """The preset that a run of ``trainer`` on ``env_id`` starts from, or ``None``."""
    return next((p for p in PRESETS if p.trainer == trainer and env_id in p.environments), None)


def find_preset(trainer: str, name: str) -> Preset:
    """The preset called ``name``. Raises :class:`InvalidValue` listing those of ``trainer``."""
    known = {preset.name: preset for preset in PRESETS if preset.trainer == trainer}
    if name not in known:
        raise InvalidValue("preset", name, f"must be one of {', '.join(known)}")
    return known[name]
