"""Measuring and using what a run has learned, from one of its checkpoints; nothing of the run changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from metarl_tui.runs.files import shown
from metarl_tui.runs.folder import RunError, RunFolder
from metarl_tui.runs.trust import names_code
from metarl_tui.worker.build import data_of, find_environments_of
from trainers.declarations import InvalidValue, as_json
from trainers.hyperparameters import MAMLPPOSetup, MAMLSetup, PPOSetup
from trainers.trainer import TrainingError

if TYPE_CHECKING:
    from trainers.few_shot import Learner

Progress = Callable[[str], None]


def evaluate_checkpoint(
    folder: RunFolder, options: Mapping[str, Any], at: int | None, progress: Progress
) -> dict[str, Any]:
    """What the newest checkpoint, or the newest up to ``at``, is worth, as JSON values (and NaN).

    ``options`` are those of the run's trainer, see :func:`_play` and the rest; ``progress`` hears what
    is being done. Raises :class:`RunError` when there is no good checkpoint, or when the environment or the
    tasks can't be had, :class:`~metarl_tui.runs.folder.NotTrusted` where they are somebody else's code.
    """
    folder.check_trusted()
    find_environments_of(folder.config)
    try:
        return {"run": folder.id, **_EVALUATIONS[folder.config.trainer](folder, at, progress, **options)}
    except (TrainingError, InvalidValue) as error:
        raise RunError(str(error)) from error


def learner_of(folder: RunFolder, at: int | None = None) -> Learner:
    """What a run of maml has learned by its newest checkpoint, or the newest up to ``at``.

    Raises :class:`RunError` when there is no good one.
    """
    from trainers.devices import use_threads
    from trainers.few_shot import load_learner

    try:
        learner = load_learner(folder.path, at=at)
    except TrainingError as error:
        raise RunError(str(error)) from error
    use_threads(learner.setup.threads)
    return learner


def _play(folder: RunFolder, at: int | None, progress: Progress, *, episodes: int) -> dict[str, Any]:
    """PPO: episodes of the greedy policy, which begin as the run's own evaluations; nothing is learned."""
    from trainers.devices import use_threads
    from trainers.load import load_policy
    from trainers.randomness import seed_for

    policy = load_policy(folder.path, at=at)
    _check_code(folder, policy.setup)
    use_threads(policy.setup.threads)
    progress(f"playing {episodes} episodes")
    played = policy.evaluate(episodes, seed_for(policy.setup.seed, "evaluation"))
    return {
        "iteration": policy.iteration,
        "episodes": len(played.returns),
        "return_mean": float(played.returns.mean()),
        "return_std": float(played.returns.std()),
        "return_min": float(played.returns.min()),
        "return_max": float(played.returns.max()),
        "length_mean": float(played.lengths.mean()),
    }


def _adapt(
    folder: RunFolder,
    at: int | None,
    progress: Progress,
    *,
    tasks: int,
    shots: int | None,
    steps: int,
    data: str | None,
) -> dict[str, Any]:
    """MAML: adaptation to held-out tasks, beside what one would do without meta-learning."""
    from trainers.meta_evaluation import evaluate_learner

    learner = learner_of(folder, at)
    _check_code(folder, learner.setup)
    where = data_of(folder.config) if data is None else data
    return evaluate_learner(learner, tasks=tasks, shots=shots, steps=steps, data=where, progress=progress)


def _adapt_policy(
    folder: RunFolder, at: int | None, progress: Progress, *, tasks: int, steps: int, baselines: str
) -> dict[str, Any]:
    """MAML-PPO: adaptation to held-out tasks, beside what one would do without meta-learning."""
    from trainers.devices import use_threads
    from trainers.few_trajectories import load_meta_policy
    from trainers.meta_rl_evaluation import evaluate_meta_policy

    learned = load_meta_policy(folder.path, at=at)
    _check_code(folder, learned.setup)
    use_threads(learned.setup.threads)
    return evaluate_meta_policy(
        learned, tasks=tasks, steps=steps, baselines=baselines == "all", progress=progress
    )


def _check_code(folder: RunFolder, setup: PPOSetup | MAMLSetup | MAMLPPOSetup) -> None:
    """Raises :class:`RunError` where the set-up that was read again names other code than was agreed to."""
    if names_code(as_json(setup)) != names_code(folder.config.setup):
        raise RunError(f"{shown(folder.path)}: run.json was changed while it was read; evaluate it again")


_EVALUATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "ppo": _play,
    "maml": _adapt,
    "maml-ppo": _adapt_policy,
}
