"""Which of Gymnasium's vector classes runs the environments of a run.

:func:`make_environments` chooses among three kinds. ``native``: the environment's own vectorised class,
by far the fastest, where there is one whose state can be saved (CartPole's). ``sync``: one after the
other in this process. ``async``: each in a process of its own, for environments whose step costs more
than a message. ``sync`` and ``async`` give the same numbers, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Protocol, cast

import gymnasium
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv

from trainers.envs.replay import EnvironmentFault, ReplayableEnv
from trainers.envs.single import EnvironmentMaker, Source, find_environment
from trainers.envs.subprocesses import SubprocessVectorEnv
from trainers.envs.vectors import CartPoles, Environments, Kind, ReplayedEnvironments
from trainers.trainer import TrainingError

PIPE_SECONDS = 60e-6
"""What it costs to send one environment its action and to receive what it gives, measured on two cores."""
MEASURING_SECONDS = 0.1


class EnvironmentSetup(Protocol):
    """The fields of :class:`~trainers.hyperparameters.PPOSetup` that say which environments to make."""

    env: str
    env_arg: dict[str, Any]
    frame_stack: int
    vector: str


def make_environments(
    setup: EnvironmentSetup,
    num_envs: int,
    seed: int,
    *,
    kind: str | None = None,
    most_processes: int | None = None,
) -> Environments:
    """``num_envs`` environments of ``setup``, of ``kind`` (by default ``setup.vector``).

    No more than ``most_processes`` where each runs in a process of its own.

    ``auto`` takes ``native`` where there is one, otherwise measures a few steps of an environment of its
    own to decide between ``sync`` and ``async``; the decision is the result's ``kind``. Raises
    :class:`TrainingError` for an environment that is not found, cannot be made or is not supported.
    """
    source = find_environment(setup.env)
    single = EnvironmentMaker(setup.env, source, setup.env_arg, setup.frame_stack).first()
    try:
        chosen = _choose_kind(kind or setup.vector, setup, single, num_envs)
    finally:
        single.close()
    if chosen == "async" and most_processes is not None:
        num_envs = min(num_envs, most_processes)
    if chosen == "native":
        environments: Environments = _native(setup, cast(EnvSpec, source), num_envs, seed)
    else:
        environments = _replayed(chosen, setup, source, num_envs, seed)
    environments.made_of = {"env": setup.env, "env_arg": setup.env_arg}
    environments.reward_threshold = source.reward_threshold if isinstance(source, EnvSpec) else None
    return environments


def _choose_kind(wanted: str, setup: EnvironmentSetup, single: ReplayableEnv, num_envs: int) -> Kind:
    entry_point = single.spec and single.spec.vector_entry_point
    restorable = entry_point == f"{CartPoleVectorEnv.__module__}:{CartPoleVectorEnv.__name__}"
    if wanted == "auto":
        if restorable and setup.frame_stack == 1:
            return "native"
        return faster_kind(seconds_per_step(single), num_envs, available_cores())
    if wanted == "native" and (not restorable or setup.frame_stack > 1):
        why = "can't stack frames" if restorable else "does not exist or its state can't be saved"
        raise TrainingError(
            f"vector = native: the vectorised class of {setup.env} {why}; use auto, sync or async"
        )
    return cast(Kind, wanted)


def faster_kind(step_seconds: float, num_envs: int, cores: int) -> Kind:
    """Whether subprocesses would be clearly faster for environments whose step takes ``step_seconds``."""
    in_turn = num_envs * step_seconds
    rounds = -(-num_envs // min(cores, num_envs))
    side_by_side = num_envs * PIPE_SECONDS + rounds * step_seconds
    return "async" if in_turn > 1.25 * side_by_side else "sync"


def seconds_per_step(single: ReplayableEnv) -> float:
    """Mean duration of a step with random actions, resets included; ``single`` is used up by it."""
    single.reset(seed=0)
    single.action_space.seed(0)
    steps = 0
    start = time.perf_counter()
    # A fault is for the run to report, at the step where the policy meets it.
    with contextlib.suppress(EnvironmentFault):
        while steps < 10 or (steps < 1000 and time.perf_counter() - start < MEASURING_SECONDS):
            steps += 1
            _, _, terminated, truncated, _ = single.step(single.action_space.sample())
            if terminated or truncated:
                single.reset()
    return (time.perf_counter() - start) / max(steps, 1)


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _native(setup: EnvironmentSetup, spec: EnvSpec, num_envs: int, seed: int) -> CartPoles:
    vector = gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **setup.env_arg)
    vector.action_space = _Unchecked(cast(spaces.MultiDiscrete, vector.action_space).nvec)
    return CartPoles(setup.env, vector, "native", seed)


def _replayed(
    kind: Kind, setup: EnvironmentSetup, source: Source, num_envs: int, seed: int
) -> ReplayedEnvironments:
    makers = [
        EnvironmentMaker(setup.env, source, setup.env_arg, setup.frame_stack, index)
        for index in range(num_envs)
    ]
    try:
        vector = SubprocessVectorEnv(makers) if kind == "async" else SyncVectorEnv(makers)
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(
            f"env = {setup.env}: {num_envs} environments can't be made ({kind}): "
            f"{type(error).__name__}: {error}"
        ) from error
    return ReplayedEnvironments(setup.env, vector, kind, seed)


class _Unchecked(spaces.MultiDiscrete):
    """Actions that are known to be in the space; to ask takes a fifth of CartPole's step."""

    def contains(self, x: Any) -> bool:
        return True
