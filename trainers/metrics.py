"""What is measured: key, title, unit, better direction, healthy range and where that range comes from.

Keys follow Stable-Baselines3's names where it has one. A record may carry keys that are not listed here;
:func:`metric` gives them a plain row, so a new metric needs no change of any reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One measured quantity. ``band`` names the metrics that bound its mean (minimum, maximum)."""

    key: str
    title: str
    help: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    healthy: tuple[float, float] | None = None
    source: str = ""
    band: tuple[str, str] | None = None


_PPO_DETAILS = "Huang et al. 2022, The 37 Implementation Details of PPO"
_SPINNING_UP = "Achiam 2018, Spinning Up, PPO"

_ROWS = (
    Metric("rollout/ep_rew_mean", "return", "mean undiscounted raw reward of the last 100 episodes", better="higher",
           band=("rollout/ep_rew_min", "rollout/ep_rew_max")),
    Metric("rollout/ep_rew_min", "return, lowest", "lowest return among the episodes ended in this iteration"),
    Metric("rollout/ep_rew_max", "return, highest", "highest return among the episodes ended in this iteration"),
    Metric("rollout/ep_len_mean", "episode length", "mean length of the last 100 episodes", unit="steps"),
    Metric("rollout/episodes", "episodes", "episodes ended since the run began"),
    Metric("train/policy_loss", "policy loss", "clipped surrogate loss, mean over minibatches"),
    Metric("train/value_loss", "value loss", "half the mean squared error of the value, mean over minibatches",
           better="lower"),
    Metric("train/entropy", "entropy", "mean entropy of the policy", unit="nats"),
    Metric("train/approx_kl", "approx KL", "k3 estimate of KL(old ‖ new), mean over minibatches: E[(r − 1) − log r]",
           healthy=(0.0, 0.02), source=_PPO_DETAILS),
    Metric("train/clip_fraction", "clip fraction", "share of samples whose ratio left 1 ± ε, mean over minibatches",
           healthy=(0.02, 0.3), source=_SPINNING_UP),
    Metric("train/explained_variance", "explained variance", "1 − Var[target − value] ⁄ Var[target]", better="higher",
           healthy=(0.0, 1.0), source=_PPO_DETAILS),
    Metric("train/grad_norm", "gradient norm", "global norm before clipping, mean over minibatches"),
    Metric("train/ratio_max", "largest ratio", "largest π ⁄ π_old over the minibatches"),
    Metric("train/learning_rate", "learning rate", "Adam's step size in force"),
    Metric("train/clip_epsilon", "clip ε", "ε in force"),
    Metric("eval/return_mean", "evaluation return", "mean return of the greedy policy in environments of its own",
           better="higher"),
    Metric("eval/return_std", "evaluation spread", "standard deviation of the evaluation's returns"),
    Metric("time/fps", "speed", "environment steps per second, whole iteration", unit="steps/s", better="higher"),
    Metric("time/steps", "steps", "environment steps since the run began", unit="steps"),
    Metric("time/iteration_seconds", "iteration time", "duration of the iteration", unit="s"),
    Metric("time/env_seconds", "environment time", "of it, stepping the environments and acting", unit="s"),
    Metric("time/learn_seconds", "learning time", "of it, the update", unit="s"),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.key: row for row in _ROWS}


def metric(key: str) -> Metric:
    """The declared metric, or a plain one titled by the last part of ``key``."""
    known = METRICS.get(key)
    return known or Metric(key, key.rpartition("/")[2].replace("_", " "), "not described")
