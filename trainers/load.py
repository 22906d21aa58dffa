"""Using what was trained: a run folder's policy as a function from observation to action."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.devices import find_device
from trainers.evaluation import Evaluation, evaluate
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.policies import Policy
from trainers.saved import read_newest
from trainers.spaces import BoxSpec, spec_from_json
from trainers.trainer import Array


@dataclass(frozen=True)
class TrainedPolicy:
    """``policy(observation)`` gives the action; ``iteration`` is when its weights were saved."""

    network: Policy
    setup: PPOSetup
    iteration: int
    folder: Path

    @torch.no_grad()
    def __call__(self, observation: Any, *, deterministic: bool = True) -> Array:
        """The action for one observation, or actions [B, …] for a batch [B, …] of them.

        Observations are as the run's environment gave them (with its frame stack, not normalised);
        actions are elements of its action space. ``deterministic`` takes the most probable action,
        otherwise one is drawn with torch's global generator. Raises :class:`ValueError` for an
        observation of another shape.
        """
        shape = self.network.observation.shape
        array = np.asarray(observation)
        single = array.shape == shape
        if not single and array.shape[1:] != shape:
            raise ValueError(f"observation of shape {array.shape}: must be {shape}, or a batch of those")
        batch = np.array(array[None] if single else array, self.network.observation.dtype)
        device = next(self.network.parameters()).device
        rows = torch.from_numpy(batch).to(device, self.network.stored_dtype)
        chosen = self.network.greedy(rows) if deterministic else self.network.act(rows)
        actions = self.network.head.shaped(chosen)
        action: Array = actions[0] if single else actions
        return action

    def evaluate(self, episodes: int = 100, seed: int = 0, *, deterministic: bool = True) -> Evaluation:
        """Play episodes in the environment of the run; see :func:`trainers.evaluation.evaluate`."""
        return evaluate(self.network, self.setup, episodes, seed, deterministic=deterministic)


def load_policy(path: str | Path, *, at: int | None = None, device: str = "cpu") -> TrainedPolicy:
    """The policy of a run folder's newest whole checkpoint, or of a checkpoint's folder.

    ``at`` asks for the newest checkpoint at or before that iteration. Files are read only after their
    SHA-256 was compared with the manifest's, and nothing is unpickled. Raises :class:`TrainingError`
    where there is no run, no whole checkpoint, or one of another trainer, and for a device that is not there.
    """
    place = find_device(device)
    (network, setup), iteration, folder = read_newest(path, "ppo", _build, what="policy", at=at)
    return TrainedPolicy(network.to(place).eval().requires_grad_(False), setup, iteration, folder)


def _build(
    setup: PPOSetup, h: PPOHyperparameters, weights: dict[str, torch.Tensor], numbers: dict[str, Any]
) -> tuple[Policy, PPOSetup]:
    observation = spec_from_json(numbers["spaces"]["observation"])
    assert isinstance(observation, BoxSpec)
    network = Policy(
        observation,
        spec_from_json(numbers["spaces"]["action"]),
        hidden_sizes=h.hidden_sizes,
        activation=h.activation,
        normalize_observations=h.normalize_observations,
    )
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network, setup
