"""Pictures of a policy's adaptation: episodes of one held-out task before and after its steps, as JSON.

Only environments that can be seen from their state have pictures. All carry ``type``, ``steps`` (of the
adaptation) and ``stages``, at most four of them, the first before adapting and the last after its last
step, each with ``step`` and ``return``, the mean one of its trajectories.

``paths`` (navigation): ``goal`` [x, y] and ``limits`` [left, right, bottom, top]; a stage's ``path`` is the
mean place of its trajectories at each step, ``ends`` are the places where some of them end, 4 hexadecimal
digits each, two for x and two for y from lower to upper limit.

``poles`` (cartpole-family): ``horizon`` in steps; ``track`` and ``angle``, in metres and radians, at which an
episode ends before it. A stage has of the first trajectory the ``length`` and some ``moments``, evenly spaced
but for the last, with the cart's places ``x`` and the pole's angles ``theta`` then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainers.envs.families.family import Family
from trainers.trajectories import Trajectories

_STAGES, _PLACES, _ENDS, _POLES = 4, 100, 20, 25
_TRACK, _ANGLE = 2.4, 0.2095
_MARGIN = 0.05


def draw_trajectories(env: str, family: Family, task: Any, sampled: Sequence[Trajectories]) -> dict[str, Any]:
    """The picture of ``task``, the first that was ``sampled``; ``env`` is one of :data:`PICTURED`."""
    last = len(sampled) - 1
    shown = min(_STAGES, last + 1)
    steps = sorted({round(last * stage / max(shown - 1, 1)) for stage in range(shown)})
    picture = _KINDS[env](family, task, [sampled[step] for step in steps])
    for step, stage in zip(steps, picture["stages"], strict=True):
        stage |= {"step": step, "return": _short(float(sampled[step].returns[0].mean()))}
    return {**picture, "steps": last}


def _paths(family: Family, task: Any, stages: Sequence[Trajectories]) -> dict[str, Any]:
    goal = torch.tensor(list(family.describe(task).values()))
    # Trajectories that have ended stay where they ended.
    places = [data.observations[0].cpu() for data in stages]
    walked = [(moments.mean(1)[:_PLACES], moments[-1, :_ENDS]) for moments in places]
    everything = torch.cat([goal[None], torch.zeros(1, 2), *(part for both in walked for part in both)])
    # A square, so that a step is as long in each direction.
    low, high = everything.amin(0), everything.amax(0)
    middle, half = (low + high) / 2, float((high - low).max()) * (0.5 + _MARGIN)
    left, bottom = (middle - half).tolist()
    right, top = (middle + half).tolist()

    def digits(way: Tensor) -> str:
        shares = (way - middle + half) / (2 * half)
        return "".join(f"{value:02x}" for value in (shares * 255).round().int().flatten().tolist())

    return {
        "type": "paths",
        "goal": [_short(value) for value in goal.tolist()],
        "limits": [_short(value) for value in (left, right, bottom, top)],
        "stages": [{"path": digits(path), "ends": digits(ends)} for path, ends in walked],
    }


def _poles(family: Family, task: Any, stages: Sequence[Trajectories]) -> dict[str, Any]:
    shown = []
    for data in stages:
        states = _going(data)
        moments = [*range(0, len(states) - 1, max(family.horizon // _POLES, 1)), len(states) - 1]
        shown.append(
            {
                "length": len(states),
                "moments": moments,
                "x": [_short(value) for value in states[moments, 0].tolist()],
                "theta": [_short(value) for value in states[moments, 2].tolist()],
            }
        )
    limits = {"horizon": family.horizon, "track": _TRACK, "angle": _ANGLE}
    return {"type": "poles", **limits, "stages": shown}


def _going(data: Trajectories) -> Tensor:
    """What was observed in the first trajectory of the first task until it ended, [steps, size]."""
    return data.observations[0, :, 0][data.shares[0, :, 0] > 0].cpu()


def _short(number: float) -> float | str:
    """Three digits; what is no number, as the journal writes it."""
    return float(f"{number:.3g}") if number - number == 0 else str(number)


_KINDS: dict[str, Callable[[Family, Any, Sequence[Trajectories]], dict[str, Any]]] = {
    "navigation": _paths,
    "cartpole-family": _poles,
}
PICTURED = frozenset(_KINDS)
"""The environments of which there are pictures."""
