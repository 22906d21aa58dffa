"""Reading the checkpoints of a run folder, checked and without unpickling anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes

from trainers.declarations import make_settings
from trainers.hyperparameters import TRAINERS
from trainers.reading import MOST_OF_A_CHECKPOINT, MOST_OF_A_DESCRIPTION, read_bounded
from trainers.trainer import TrainingError

Result = TypeVar("Result")

_WEIGHTS, _NUMBERS = "weights.safetensors", "state.json"
_read_weights: Callable[[bytes], dict[str, torch.Tensor]] = tensors_from_bytes


def read_newest(
    path: str | Path,
    trainer: str,
    build: Callable[[Any, Any, dict[str, torch.Tensor], dict[str, Any]], Result],
    *,
    what: str,
    at: int | None = None,
) -> tuple[Result, int, Path]:
    """What ``build`` makes of the newest whole checkpoint, its iteration and its folder.

    ``path`` is a run's folder or a checkpoint's; ``at`` asks for the newest at or before that iteration.
    ``build`` gets set-up, hyperparameters, weights and numbers; a checkpoint that it can't use, or whose
    files differ from their SHA-256, is passed over. Raises :class:`TrainingError`, naming ``what`` there
    would have been to load.
    """
    path = Path(path).resolve()
    if (path / "manifest.json").is_file():
        run, candidates = path.parent.parent, iter([path])
    else:
        run, candidates = path, _newest_first(path / "checkpoints", at)
    setup, hyperparameters = _settings(run, trainer)
    reason = "no checkpoint yet" if at is None else f"no checkpoint at or before iteration {at}"
    for folder in candidates:
        try:
            manifest = json.loads(read_bounded(folder / "manifest.json", MOST_OF_A_DESCRIPTION))
            files = _whole_files(folder, manifest)
            built = build(setup, hyperparameters, _read_weights(files[_WEIGHTS]), json.loads(files[_NUMBERS]))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = f"checkpoint {folder.name} is damaged ({error})"
            continue
        return built, int(manifest["iteration"]), folder
    raise TrainingError(f"{path}: no {what} to load: {reason}")


def _newest_first(checkpoints: Path, at: int | None) -> Iterator[Path]:
    if not checkpoints.is_dir():
        return iter(())
    found = [folder for folder in checkpoints.iterdir() if folder.name.isdigit() and folder.is_dir()]
    found = [folder for folder in found if at is None or int(folder.name) <= at]
    return iter(sorted(found, key=lambda folder: int(folder.name), reverse=True))


def _settings(run: Path, wanted: str) -> tuple[Any, Any]:
    try:
        config = json.loads(read_bounded(run / "run.json", MOST_OF_A_DESCRIPTION))
        trainer, setup, hyperparameters = (config[key] for key in ("trainer", "setup", "hyperparameters"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{run}: not the folder of a run ({error})") from error
    if trainer != wanted:
        raise TrainingError(f"{run}: trainer = {trainer}: must be {wanted}")
    entry = TRAINERS[wanted]
    return make_settings(entry.setup, setup), make_settings(entry.hyperparameters, hyperparameters)


def _whole_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    """The files needed, each as ``manifest`` describes it. Raises :class:`ValueError`."""
    files = {}
    for name in (_WEIGHTS, _NUMBERS):
        files[name] = read_bounded(folder / name, MOST_OF_A_CHECKPOINT)
        if hashlib.sha256(files[name]).hexdigest() != manifest["files"][name]["sha256"]:
            raise ValueError(f"{name} does not match its SHA-256")
    return files
