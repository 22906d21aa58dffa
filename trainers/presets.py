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
        hyperparameters={"iterations": 4000, "inner_lr": 0.1},
    ),
    Preset(
        name="sinusoid",
        trainer="maml",
        environments=("sinusoid",),
        source="Finn et al. 2017, section 5.1; more query points, the meta-gradient clipped, "
        "β greater and annealed, late steps smaller",
        hyperparameters={
            "iterations": 20_000,
            "shots": 10,
            "query_shots": 30,
            "inner_lr": 0.01,
            "inner_steps": 1,
            "eval_inner_steps": 10,
            "eval_inner_lr": 0.0075,
            "outer_lr": 3e-3,
            "hidden_sizes": (40, 40),
            "anneal_floor": 0.01,
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
    Preset(
        name="lunar-lander",
        trainer="ppo",
        environments=("LunarLander-v3",),
        source=f"{_ZOO}, LunarLander-v2",
        hyperparameters={
            "total_steps": 1_000_000,
            "num_envs": 16,
            "rollout_steps": 1024,
            "minibatch_size": 64,
            "epochs": 4,
            "learning_rate": 3e-4,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "entropy_coef": 0.01,
            "anneal": "none",
        },
    ),
    Preset(
        name="half-cheetah",
        trainer="ppo",
        environments=("HalfCheetah-v5",),
        source=f"{_ZOO}, HalfCheetah-v3; without its smaller initial noise and weights",
        hyperparameters={
            "total_steps": 1_000_000,
            "num_envs": 1,
            "rollout_steps": 512,
            "minibatch_size": 64,
            "epochs": 20,
            "learning_rate": 2.0633e-05,
            "clip_epsilon": 0.1,
            "gamma": 0.98,
            "gae_lambda": 0.92,
            "entropy_coef": 0.000401762,
            "value_coef": 0.58096,
            "max_grad_norm": 0.8,
            "hidden_sizes": (256, 256),
            "activation": "relu",
            "normalize_observations": True,
            "normalize_rewards": True,
            "anneal": "none",
        },
    ),
    Preset(
        name="hopper",
        trainer="ppo",
        environments=("Hopper-v5",),
        source=f"{_ZOO}, Hopper-v3; without its smaller initial noise and weights",
        hyperparameters={
            "total_steps": 1_000_000,
            "num_envs": 1,
            "rollout_steps": 512,
            "minibatch_size": 32,
            "epochs": 5,
            "learning_rate": 9.80828e-05,
            "clip_epsilon": 0.2,
            "gamma": 0.999,
            "gae_lambda": 0.99,
            "entropy_coef": 0.00229519,
            "value_coef": 0.835671,
            "max_grad_norm": 0.7,
            "hidden_sizes": (256, 256),
            "activation": "relu",
            "normalize_observations": True,
            "normalize_rewards": True,
            "anneal": "none",
        },
    ),
    Preset(
        name="navigation",
        trainer="maml-ppo",
        environments=("navigation",),
        source="Finn et al. 2017, section 5.3, and their code (cbfinn/maml_rl): α, tasks, trajectories; "
        "β and its annealing, λ, epochs and max_grad_norm by trial",
        hyperparameters={
            "iterations": 100,
            "meta_batch_size": 20,
            "trajectories_per_task": 20,
            "inner_lr": 0.1,
            "inner_steps": 1,
            "outer_lr": 5e-3,
            "epochs": 2,
            "gae_lambda": 0.95,
            "max_grad_norm": 0.5,
            "hidden_sizes": (100, 100),
            "eval_inner_steps": 2,
            "eval_inner_lr": 0.05,
        },
    ),
    Preset(
        name="cartpole-family",
        trainer="maml-ppo",
        environments=("cartpole-family",),
        source="none published; found by trial",
        hyperparameters={
            "iterations": 50,
            "meta_batch_size": 20,
            "trajectories_per_task": 10,
            "inner_lr": 1.0,
            "inner_steps": 1,
            "outer_lr": 5e-3,
            "epochs": 2,
            "max_grad_norm": 1.0,
            "hidden_sizes": (64, 64),
            "eval_inner_steps": 2,
            "eval_inner_lr": 0.5,
        },
    ),
    Preset(
        name="half-cheetah-direction",
        trainer="maml-ppo",
        environments=("half-cheetah-direction",),
        source="Rothfuss et al. 2019 and their code (jonasrothfuss/ProMP, run_scripts/pro-mp_run_mujoco.py), "
        "where 1000 iterations of 40 tasks × 20 trajectories are beyond two cores; an eighth or less of "
        "these, α and β three times theirs and the meta-gradient clipped, to see it adapt within minutes",
        hyperparameters={
            "iterations": 200,
            "meta_batch_size": 10,
            "trajectories_per_task": 5,
            "inner_lr": 0.3,
            "inner_steps": 1,
            "outer_lr": 3e-3,
            "epochs": 5,
            "clip_epsilon": 0.3,
            "max_grad_norm": 1.0,
            "hidden_sizes": (64, 64),
            "eval_tasks": 10,
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
