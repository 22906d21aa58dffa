"""Families of environments: distributions of reinforcement-learning tasks that share their spaces.

Importing this package imports no torch, because the processes that environments live in import it too.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from trainers.declarations import format_value
from trainers.envs.single import accepted_arguments
from trainers.trainer import TrainingError

if TYPE_CHECKING:
    import torch

    from trainers.envs.families.family import Family

__all__ = ["BATCHED", "SIMULATED", "make_family"]

BATCHED = {
    "navigation": "trainers.envs.families.navigation:Navigation",
    "cartpole-family": "trainers.envs.families.cartpole:CartPoleFamily",
}
"""Families of tensors, by name."""

SIMULATED = {"half-cheetah-direction": "trainers.envs.families.cheetah:HalfCheetahDirection"}
"""Gymnasium environments with tasks, by name; any other is named as ``package.module:Class``."""


def make_family(env: str, arguments: dict[str, Any], *, vector: str = "auto", device: torch.device) -> Family:
    """The family that ``env`` names: one of those above, or ``package.module:Class``.

    ``arguments`` are its own. ``vector`` says how a Gymnasium environment's copies run: ``sync``, ``async``
    or ``auto``, which measures; the decision is the family's ``kind``. Raises :class:`TrainingError` for a
    name, an argument or a kind that won't do.
    """
    if env in BATCHED:
        return _batched(env, arguments, vector, device)
    if env not in SIMULATED and ":" not in env:
        raise _unknown(env)
    from trainers.envs.families.gymnasium_tasks import make_gymnasium_family

    return make_gymnasium_family(env, SIMULATED.get(env, env), arguments, vector, device)


def _batched(env: str, arguments: dict[str, Any], vector: str, device: torch.device) -> Family:
    if vector != "auto":
        raise TrainingError(f"vector = {vector}: {env} steps as one tensor; use auto")
    module_name, _, name = BATCHED[env].partition(":")
    family_class = getattr(importlib.import_module(module_name), name)
    accepted = [name for name in accepted_arguments(family_class) if name != "device"]
    if refused := [name for name in arguments if name not in accepted]:
        near = difflib.get_close_matches(refused[0], accepted, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise TrainingError(
            f"env_arg = {format_value(arguments)}: {env} has no {refused[0]}; "
            f"{hint}it takes {', '.join(accepted)}"
        )
    family: Family = family_class(device, **arguments)
    return family


def _unknown(env: str) -> TrainingError:
    names = [*BATCHED, *SIMULATED]
    near = difflib.get_close_matches(env.lower(), names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return TrainingError(
        f"env = {env}: no such family of environments; "
        f"{hint}must be {', '.join(names)} or package.module:Class"
    )
