"""Measuring what a run has learned, from one of its checkpoints; nothing of the run changes."""

from __future__ import annotations

from typing import Any

from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.worker.build import find_environments_of
from trainers.declarations import InvalidValue
from trainers.trainer import TrainingError


def evaluate_checkpoint(folder: RunFolder, episodes: int, at: int | None = None) -> dict[str, Any]:
    """Play ``episodes`` episodes with the greedy policy of the newest checkpoint, or the newest up to ``at``.

    The normaliser is frozen, and the episodes begin as the run's own evaluations do. Raises
    :class:`RunError` when there is no good checkpoint or the environment can't be made.
    """
    find_environments_of(folder.config)
    from trainers.load import load_policy
    from trainers.randomness import seed_for

    try:
        policy = load_policy(folder.path, at=at)
        played = policy.evaluate(episodes, seed_for(policy.setup.seed, "evaluation"))
    except (TrainingError, InvalidValue) as error:
        raise RunError(str(error)) from error
    return {
        "run": folder.id,
        "iteration": policy.iteration,
        "episodes": len(played.returns),
        "return_mean": float(played.returns.mean()),
        "return_std": float(played.returns.std()),
        "return_min": float(played.returns.min()),
        "return_max": float(played.returns.max()),
        "length_mean": float(played.lengths.mean()),
    }
