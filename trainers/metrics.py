"""What is measured: key, title, unit, better direction, healthy range and where that range comes from.

Keys follow Stable-Baselines3's names where it has one. A record may carry keys that are not listed here;
:func:`metric` gives them a plain row, so a new metric needs no change of any reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    ``band`` names the metrics that bound its mean (minimum, maximum); ``beside`` names one that it is to be
    seen against: the same before adapting. One of ``log`` scale is drawn by its order of magnitude while it
    spans many.
    """

    key: str
    title: str
    help: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    healthy: tuple[float, float] | None = None
    source: str = ""
    band: tuple[str, str] | None = None
    beside: str = ""
    scale: Literal["linear", "log"] = "linear"


_PPO_DETAILS = "Huang et al. 2022, The 37 Implementation Details of PPO"
_SPINNING_UP = "Achiam 2018, Spinning Up, PPO"

_ROWS = (
    Metric(
        "rollout/ep_rew_mean",
        "return",
        "mean undiscounted raw reward of the last 100 episodes",
        better="higher",
        band=("rollout/ep_rew_min", "rollout/ep_rew_max"),
    ),
    Metric(
        "rollout/ep_rew_min", "return, lowest", "lowest return among the episodes ended in this iteration"
    ),
    Metric(
        "rollout/ep_rew_max", "return, highest", "highest return among the episodes ended in this iteration"
    ),
    Metric("rollout/ep_len_mean", "episode length", "mean length of the last 100 episodes", unit="steps"),
    Metric("rollout/episodes", "episodes", "episodes ended since the run began"),
    Metric("train/policy_loss", "policy loss", "clipped surrogate loss, mean over minibatches"),
    Metric(
        "train/value_loss",
        "value loss",
        "half the mean squared error of the value, mean over minibatches",
        better="lower",
        scale="log",
    ),
    Metric("train/entropy", "entropy", "mean entropy of the policy", unit="nats"),
    Metric(
        "train/approx_kl",
        "approx KL",
        "k3 estimate of KL(old ‖ new), mean over minibatches or epochs: E[(r − 1) − log r]",
        healthy=(0.0, 0.02),
        source=_PPO_DETAILS,
    ),
    Metric(
        "train/clip_fraction",
        "clip fraction",
        "share of samples whose ratio left 1 ± ε, mean over minibatches",
        healthy=(0.02, 0.3),
        source=_SPINNING_UP,
    ),
    Metric(
        "train/explained_variance",
        "explained variance",
        "1 − Var[target − value] ⁄ Var[target]",
        better="higher",
        healthy=(0.0, 1.0),
        source=_PPO_DETAILS,
    ),
    Metric(
        "train/grad_norm", "gradient norm", "global norm before clipping, mean over minibatches", scale="log"
    ),
    Metric("train/ratio_max", "largest ratio", "largest π ⁄ π_old over the minibatches"),
    Metric("train/learning_rate", "learning rate", "Adam's step size in force"),
    Metric("train/clip_epsilon", "clip ε", "ε in force"),
    Metric(
        "eval/return_mean",
        "evaluation return",
        "mean return of the greedy policy in environments of its own",
        better="higher",
    ),
    Metric("eval/return_std", "evaluation spread", "standard deviation of the evaluation's returns"),
    Metric(
        "time/fps",
        "speed",
        "environment steps per second of training, without measurements",
        unit="steps/s",
        better="higher",
    ),
    Metric("time/steps", "steps", "environment steps since the run began", unit="steps"),
    Metric("time/iteration_seconds", "iteration time", "duration of the iteration", unit="s"),
    Metric("time/env_seconds", "environment time", "of it, stepping the environments and acting", unit="s"),
    Metric("time/learn_seconds", "learning time", "of it, the update", unit="s"),
    Metric(
        "meta/loss_pre",
        "loss before adapting",
        "mean query loss of the batch's tasks before the first inner step",
        better="lower",
        scale="log",
    ),
    Metric(
        "meta/loss_post",
        "loss after adapting",
        "mean query loss of the batch's tasks after the last inner step",
        better="lower",
        beside="meta/loss_pre",
        scale="log",
    ),
    Metric(
        "meta/loss_post_median",
        "loss after, median",
        "median over the batch's tasks",
        better="lower",
        scale="log",
    ),
    Metric(
        "meta/accuracy_pre",
        "accuracy before adapting",
        "share of the batch's queries, before the first inner step",
        better="higher",
    ),
    Metric(
        "meta/accuracy_post",
        "accuracy after adapting",
        "share of the batch's queries, after the last inner step",
        better="higher",
        beside="meta/accuracy_pre",
    ),
    Metric(
        "meta/return_pre",
        "return before adapting",
        "mean return of the batch's tasks before the first inner step",
        better="higher",
    ),
    Metric(
        "meta/return_post",
        "return after adapting",
        "mean return of the batch's tasks after the last inner step",
        better="higher",
        beside="meta/return_pre",
    ),
    Metric(
        "meta/inner_kl",
        "inner KL",
        "KL(sampling policy ‖ policy) before each inner step, mean over steps and epochs",
    ),
    Metric(
        "meta/adaptation_gain",
        "adaptation gain",
        "by which adapting lowered the loss, or raised the return",
        better="higher",
    ),
    Metric(
        "meta/diverged_tasks",
        "diverged tasks",
        "tasks of the batch whose loss is NaN, or above 10 × the median and above that before adapting; "
        "or whose mean return is not finite, or fell by more than 5 deviations of a trajectory's",
        better="lower",
    ),
    Metric("meta/outer_grad_norm", "meta-gradient norm", "global norm before clipping", scale="log"),
    Metric(
        "meta/inner_lr",
        "inner rate α",
        "step size of the adaptation in force; metasgd: mean of the learned ones",
    ),
    Metric("meta/outer_lr", "outer rate β", "Adam's step size in force"),
    Metric(
        "meta_test/loss_pre",
        "held-out loss before",
        "mean query loss of the held-out tasks before adapting",
        better="lower",
        scale="log",
    ),
    Metric(
        "meta_test/loss_post",
        "held-out loss after",
        "mean query loss of the held-out tasks after adapting",
        better="lower",
        beside="meta_test/loss_pre",
        scale="log",
    ),
    Metric(
        "meta_test/loss_post_median",
        "held-out loss, median",
        "median over the held-out tasks",
        better="lower",
        scale="log",
    ),
    Metric(
        "meta_test/accuracy_pre",
        "held-out accuracy before",
        "share of the held-out tasks' queries, before adapting",
        better="higher",
    ),
    Metric(
        "meta_test/accuracy_post",
        "held-out accuracy after",
        "share of the held-out tasks' queries, after adapting",
        better="higher",
        beside="meta_test/accuracy_pre",
    ),
    Metric(
        "meta_test/return_pre",
        "held-out return before",
        "mean return of the held-out tasks before adapting",
        better="higher",
    ),
    Metric(
        "meta_test/return_post",
        "held-out return after",
        "mean return of the held-out tasks after adapting",
        better="higher",
        beside="meta_test/return_pre",
    ),
    Metric(
        "meta_test/adaptation_gain",
        "held-out gain",
        "by which adapting lowered the loss, or raised the return",
        better="higher",
    ),
    Metric(
        "meta_test/diverged_tasks",
        "held-out, diverged",
        "held-out tasks whose loss is NaN, or above 10 × the median and above that before adapting; "
        "or whose mean return is not finite, or fell by more than 5 deviations of a trajectory's",
        better="lower",
    ),
    Metric("time/iterations_per_second", "speed", "meta-iterations per second", unit="it/s", better="higher"),
    Metric(
        "time/sample_seconds",
        "sampling time",
        "of an iteration, drawing its tasks, or their trajectories",
        unit="s",
    ),
    Metric("time/adapt_seconds", "adapting time", "of an iteration, the inner steps between", unit="s"),
)

METRICS: dict[str, Metric] = {row.key: row for row in _ROWS}


def metric(key: str) -> Metric:
    """The declared metric, or a plain one titled by the last part of ``key``."""
    known = METRICS.get(key)
    return known or Metric(key, key.rpartition("/")[2].replace("_", " "), "not described")
