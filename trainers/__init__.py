"""PyTorch trainers (PPO, MAML, MAML-PPO) as iterators, usable without the terminal program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.few_shot import load_learner
    from trainers.few_trajectories import load_meta_policy
    from trainers.load import load_policy

__all__ = ["load_learner", "load_meta_policy", "load_policy"]


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes two seconds, and the declarations are read without it.
    if name == "load_policy":
        from trainers.load import load_policy

        return load_policy
    if name == "load_learner":
        from trainers.few_shot import load_learner

        return load_learner
    if name == "load_meta_policy":
        from trainers.few_trajectories import load_meta_policy

        return load_meta_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
