"""From Gymnasium's spaces to the descriptions that policies are built from; the rule of what is supported."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from trainers.spaces import ActionSpec, BoxSpec, DiscreteSpec
from trainers.trainer import Array, TrainingError


def observation_spec(space: Any, *, stacked: bool = False) -> BoxSpec:
    """Describe an observation space; ``stacked`` tells that its first axis counts stacked observations.

    Raises :class:`TrainingError` unless it is a Box that holds something.
    """
    if not isinstance(space, spaces.Box):
        raise TrainingError(
            f"observation space {one_line(space)} is not supported; it must be a Box of any shape "
            "(Gymnasium's wrappers FlattenObservation and DtypeObservation make one)"
        )
    return _box(_not_empty("observation", space), stacked=stacked)


def action_spec(space: Any) -> ActionSpec:
    """Describe an action space. Raises :class:`TrainingError` for one that PPO can't choose in."""
    if isinstance(space, spaces.Discrete):
        return DiscreteSpec((int(space.n),), (int(space.start),), (), str(space.dtype))
    if isinstance(space, spaces.MultiDiscrete):
        _not_empty("action", space)
        sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        return DiscreteSpec(tuple(sizes), tuple(starts), tuple(space.shape), str(space.dtype))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _box(_not_empty("action", space))
    raise TrainingError(
        f"action space {one_line(space)} is not supported; "
        "it must be Discrete, MultiDiscrete or a Box of floats"
    )


def check_spaces(env: str, observation_space: Any, action_space: Any) -> None:
    """Raise :class:`TrainingError`, naming ``env``, the space and what is supported, for one that is not."""
    try:
        observation_spec(observation_space)
        action_spec(action_space)
    except TrainingError as refusal:
        raise TrainingError(f"env = {env}: {refusal}") from None


def one_line(value: object) -> str:
    """``value`` as text without line breaks, cut after 300 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _not_empty(role: str, space: Any) -> Any:
    if 0 in space.shape:
        raise TrainingError(
            f"{role} space {one_line(space)} is not supported; its shape {tuple(space.shape)} holds nothing"
        )
    return space


def _box(space: Any, *, stacked: bool = False) -> BoxSpec:
    low, high = _bounds(space.low), _bounds(space.high)
    return BoxSpec(tuple(space.shape), str(space.dtype), low, high, stacked)


def _bounds(bounds: Array) -> tuple[float, ...]:
    flat = np.asarray(bounds, np.float64).ravel()
    return (float(flat[0]),) if (flat == flat[0]).all() else tuple(flat.tolist())
