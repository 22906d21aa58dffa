"""Using what was trained: a run folder's policy as a function from observation to action."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes

from trainers.declarations import make_settings
from trainers.evaluation import Evaluation, evaluate
from trainers.hyperparameters import PPOHyperparameters, PPOSetup
from trainers.policies import Policy
from trainers.spaces import BoxSpec, spec_from_json
from trainers.trainer import Array, TrainingError

_WEIGHTS, _NUMBERS = "weights.safetensors", "state.json"


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
        rows = torch.from_numpy(batch).to(self.network.stored_dtype)
        chosen = self.network.greedy(rows) if deterministic else self.network.act(rows)
        actions = self.network.head.in_space(chosen)
        action: Array = actions[0] if single else actions
        return action

    def evaluate(self, episodes: int = 100, seed: int = 0, *, deterministic: bool = True) -> Evaluation:
        """Play episodes in the environment of the run; see :func:`trainers.evaluation.evaluate`."""
        return evaluate(self.network, self.setup, episodes, seed, deterministic=deterministic)


def load_policy(path: str | Path, *, at: int | None = None, device: str = "cpu") -> TrainedPolicy:
    """The policy of a run folder's newest whole checkpoint, or of a checkpoint's folder.

    ``at`` asks for the newest checkpoint at or before that iteration. Files are read only after their
    SHA-256 was compared with the manifest's, and nothing is unpickled. Raises :class:`TrainingError`
    where there is no run, no whole checkpoint, or one of another trainer.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        run, candidates = path.parent.parent, [path]
    else:
        run, candidates = path, _newest_first(path / "checkpoints", at)
    setup, hyperparameters = _settings(run)
    reason = "no checkpoint yet" if at is None else f"no checkpoint at or before iteration {at}"
    for folder in candidates:
        try:
            files = _whole_files(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"checkpoint {folder.name} is damaged ({error})"
            continue
        network = _network(files, hyperparameters).to(device)
        return TrainedPolicy(network.eval().requires_grad_(False), setup, int(folder.name), folder)
    raise TrainingError(f"{path}: no policy to load: {reason}")


def _newest_first(checkpoints: Path, at: int | None) -> list[Path]:
    if not checkpoints.is_dir():
        return []
    found = [folder for folder in checkpoints.iterdir() if folder.name.isdigit() and folder.is_dir()]
    found = [folder for folder in found if at is None or int(folder.name) <= at]
    return sorted(found, key=lambda folder: int(folder.name), reverse=True)


def _settings(run: Path) -> tuple[PPOSetup, PPOHyperparameters]:
    try:
        config = json.loads((run / "run.json").read_bytes())
        trainer, setup, hyperparameters = (config[key] for key in ("trainer", "setup", "hyperparameters"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{run}: not the folder of a run ({error})") from error
    if trainer != "ppo":
        raise TrainingError(f"{run}: trainer = {trainer}: load_policy reads runs of ppo")
    return make_settings(PPOSetup, setup), make_settings(PPOHyperparameters, hyperparameters)


def _whole_files(folder: Path) -> dict[str, bytes]:
    """The files that a policy needs, each as its manifest describes it. Raises :class:`ValueError`."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    files = {}
    for name in (_WEIGHTS, _NUMBERS):
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != manifest["files"][name]["sha256"]:
            raise ValueError(f"{name} does not match its SHA-256")
    return files


def _network(files: dict[str, bytes], h: PPOHyperparameters) -> Policy:
    spaces = json.loads(files[_NUMBERS])["spaces"]
    observation = spec_from_json(spaces["observation"])
    assert isinstance(observation, BoxSpec)
    network = Policy(
        observation,
        spec_from_json(spaces["action"]),
        hidden_sizes=h.hidden_sizes,
        activation=h.activation,
        normalize_observations=h.normalize_observations,
    )
    weights = _read_weights(files[_WEIGHTS])
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network


_read_weights: Callable[[bytes], dict[str, torch.Tensor]] = tensors_from_bytes
